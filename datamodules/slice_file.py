"""Slices of a prepared array, read straight into the batch they are for."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ct.refusal import Refusal


def read_slices(path: Path, first: int, out: NDArray[Any]) -> None:
    """Read slices of the array (Z, H, W) in a .npy file.

    Not memory-mapped: a mapped page is copied into the batch just the same, but counts as memory of every process that
    touched it. The system's page cache holds one copy for all of them either way.

    Args:
        path: The file.
        first: Its first slice to read.
        out: (n, H, W), contiguous, of the file's type: where n slices go.

    Raises:
        ValueError: If the file ends before the last of them.
    """
    with path.open("rb", buffering=0) as file:
        shape, dtype, start = _layout(str(path), os.fstat(file.fileno()).st_mtime_ns)
        assert (out.dtype, out.shape[1:]) == (dtype, shape[1:]), path
        assert 0 <= first <= shape[0] - len(out), path
        file.seek(start + first * out[0].nbytes)
        if file.readinto(out.data.cast("B")) != out.nbytes:
            raise Refusal(
                "{path} ends before slice {last} of {slices}; prepare its scan again",
                path=path,
                last=first + len(out) - 1,
                slices=shape[0],
            )


def read_slice(path: Path, z: int) -> NDArray[Any]:
    """Read slice z of the array (Z, ...) in a .npy file, (...); see `read_slices`."""
    shape, dtype, _ = _layout(str(path), path.stat().st_mtime_ns)
    out = np.empty((1, *shape[1:]), dtype)
    read_slices(path, z, out)
    return out[0]


def array_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the array in a .npy file."""
    return _layout(str(path), path.stat().st_mtime_ns)[0]


# A header takes as long to parse as a mask to read, and scans come in random order.
@lru_cache(maxsize=65_536)
def _layout(path: str, changed_ns: int) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, type and first byte of the data of a .npy file, as it was when it was changed last."""
    with open(path, "rb") as file:
        assert npy.read_magic(file) == (1, 0), path
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
        assert not fortran_order, path
        return shape, dtype, file.tell()
