"""Voxels of a volume file, checked against the size of the file before memory is allocated, then read in full."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ct.refusal import Refusal, Sentence, kind_of, word_of
from ct.scan import Affine

# How many bytes one byte of a file can become: deflate spends at least 2 bits on 258 bytes, bzip2 about 45 bytes on
# blocks of 900 kB (RLE on top of them makes up to 50 times more of a run).
MOST_BYTES_PER_BYTE = {"raw": 1, "gzip": 1032, "zlib": 1032, "bzip2": 1_000_000}
DAMAGE = (OSError, EOFError, zlib.error, MemoryError)
_CHUNK = 1 << 20
_BLOCK_VOXELS = 1 << 16


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """A volume as its file stores it.

    Attributes:
        values: (I, J, K) in the file's index order, in the file's own number type.
        affine: (4, 4), maps (i, j, k, 1) to RAS+ mm.
        slope: The volume is values * slope + intercept.
        intercept: See slope.
    """

    values: npt.NDArray[Any]
    affine: Affine
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, eq=False)
class Layout:
    """Contents of a volume's header, before any voxel is read.

    Attributes:
        shape: (I, J, K) in the file's index order.
        voxel_bytes: Bytes of one voxel as stored.
        affine: As in `StoredVolume`.
    """

    shape: tuple[int, int, int]
    voxel_bytes: int
    affine: Affine


def read_voxels(
    stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[Any], packed_bytes: int, encoding: str, path: Path
) -> npt.NDArray[Any]:
    """Read all voxels of a volume whose first index runs fastest.

    Args:
        stream: The decompressed voxels, from the first on.
        shape: (I, J, K) as the header says.
        dtype: Type of the voxels, with its byte order.
        packed_bytes: Bytes of the file that may hold them.
        encoding: A key of `MOST_BYTES_PER_BYTE`.
        path: The file, for the error.

    Returns:
        (I, J, K), Fortran order.

    Raises:
        ValueError: The file cannot hold that many voxels, ends early, is damaged, or holds a whole plane more.
    """
    count = math.prod(shape) * dtype.itemsize
    if count > packed_bytes * MOST_BYTES_PER_BYTE[encoding]:
        raise Refusal(
            "{path}: the header promises {count} bytes of voxels {shape}, which the {packed_bytes} bytes "
            "({encoding}) of the file cannot hold; the voxels cannot be read; the file is cut off or "
            "damaged; export it again",
            path=path,
            count=count,
            shape=shape,
            packed_bytes=packed_bytes,
            encoding=word_of(encoding, MOST_BYTES_PER_BYTE),
        )
    try:
        buffer = np.empty(count, dtype=np.uint8)
        filled = _fill(stream, buffer)
        surplus = _drain(stream, count // shape[2]) if filled == count else 0
    except DAMAGE as error:
        raise Refusal(
            "{path}: the voxels cannot be read ({why}); the file is cut off or damaged; export it again",
            path=path,
            why=first_line(error),
        ) from error
    if filled < count or surplus >= count // shape[2]:
        extent = f"only {filled}" if filled < count else f"at least {surplus} more"
        raise Refusal(
            "{path}: the voxels cannot be read: the header promises {count} bytes of voxels {shape}, but "
            "{extent} are there; the file is cut off or damaged; export it again",
            path=path,
            count=count,
            shape=shape,
            extent=extent,
        )
    return buffer.view(dtype).reshape(shape, order="F")


def row_blocks(
    source: npt.NDArray[Any], target: npt.NDArray[Any]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Iterate over two volumes together in small blocks, so that computing on them needs little memory.

    Args:
        source: (Z, Y, X).
        target: (Z, Y, X).

    Yields:
        Views (rows, X) of both.
    """
    rows = max(1, _BLOCK_VOXELS // source.shape[2])
    for source_slice, target_slice in zip(source, target, strict=True):
        for row in range(0, len(source_slice), rows):
            yield source_slice[row : row + rows], target_slice[row : row + rows]


def to_numbers(stored: npt.NDArray[Any], slope: float, intercept: float) -> npt.NDArray[Any]:
    """Scale stored values to int32 or float64; meant for a few rows at a time (see `row_blocks`).

    Args:
        stored: Real numbers of any type.
        slope: See `StoredVolume`.
        intercept: See `StoredVolume`.

    Returns:
        stored * slope + intercept; not finite where that overflows.
    """
    if (slope, intercept) == (1.0, 0.0):
        small = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2
        return stored.astype(np.int32 if small else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(np.float64) * slope + intercept


def first_line(error: BaseException) -> Sentence:
    """Return the first line of an error's text, or its class where it has none; the public wording is its kind."""
    kind = Sentence("{kind}", kind=kind_of(error))
    return kind.in_private((str(error).strip() or type(error).__name__).splitlines()[0])


def _fill(stream: BinaryIO, buffer: npt.NDArray[np.uint8]) -> int:
    at = 0
    while at < len(buffer):
        chunk = stream.read(min(_CHUNK, len(buffer) - at))
        if not chunk:
            break
        buffer[at : at + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
        at += len(chunk)
    return at


def _drain(stream: BinaryIO, enough: int) -> int:
    # The checksum of a compressed stream is only verified at its end.
    surplus = 0
    while surplus < enough and (chunk := stream.read(_CHUNK)):
        surplus += len(chunk)
    return surplus
