"""MetaImage files, in one (.mha) or with a separate header (.mhd): stored voxels and affine."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ct.files.text_header import Fields, Shape, TextHeaderFormat, three_sizes
from ct.files.volume_file import read_voxels
from ct.refusal import Refusal, Word
from ct.scan import OBLIQUE_TOLERANCE, Affine

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Older names of fields.
ALIASES = {
    "elementbyteordermsb": "binarydatabyteordermsb",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "position": "offset",
    "origin": "offset",
}
# Accepted values of fields that need not be there.
EXPECTED = {
    "ObjectType": ("Image",),
    "NDims": ("3",),
    "BinaryData": ("True",),
    "ElementNumberOfChannels": ("1",),
    "CompressedData": ("True", "False"),
    "DistanceUnits": ("mm", "?"),
}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
MOST_HEADER_LINES = 1_000
ZLIB_OR_GZIP = zlib.MAX_WBITS + 32


class _Inflated:
    """Zlib or gzip stream as a file that is read in pieces, so that a decompression bomb takes no memory."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._decoder = packed, zlib.decompressobj(ZLIB_OR_GZIP)

    def read(self, most: int) -> bytes:
        data = b""
        while not data and not self._decoder.eof:
            block = self._decoder.unconsumed_tail or self._packed.read(1 << 16)
            if not block:
                raise EOFError("the compressed voxels end early")
            data = self._decoder.decompress(block, most)
        return data


def _read_fields(path: Path, file: BinaryIO) -> Fields:
    """Read the header up to ElementDataFile, which ends it; names are today's, in lower case."""
    fields: Fields = {}
    for _ in range(MOST_HEADER_LINES):
        name, equals, value = file.readline(4096).decode("latin-1").partition("=")
        if not equals:
            break
        name = name.strip().lower()
        fields[ALIASES.get(name, name)] = value.strip()
        if name == "elementdatafile":
            return fields
    raise Refusal(
        "{path}: not a readable MetaImage file (no lines 'name = value' up to ElementDataFile); export it again",
        path=path,
    )


def _check_fields(path: Path, fields: Fields) -> None:
    for name, values in EXPECTED.items():
        value = fields.get(name.lower())
        if value is not None and value.lower() not in [accepted.lower() for accepted in values]:
            raise Refusal(
                "{path}: the MetaImage header says {name} = {value!r}; expected {values} (one volume with three "
                "axes, one number per voxel, lengths in mm); export it again",
                path=path,
                name=name,
                value=value,
                values=" or ".join(values),
            )


def _shape_and_type(path: Path, fields: Fields) -> tuple[Shape, np.dtype[Any]]:
    code = TYPES.get(fields.get("elementtype", "").upper(), "")
    sizes = three_sizes(fields.get("dimsize", ""))
    big = fields.get("binarydatabyteordermsb", "").lower()
    order = {"false": "<", "true": ">"}.get(big, "|" if code in ("i1", "u1") else "")
    if not code or sizes is None or not order:
        stated = {name: fields.get(name) for name in ("elementtype", "dimsize", "binarydatabyteordermsb")}
        raise Refusal(
            "{path}: the MetaImage header says {stated}; expected a type of real numbers ({types}), three "
            "sizes above 0 and True or False for the byte order",
            path=path,
            stated=stated,
            types=Word(", ".join(TYPES)),
        )
    return sizes, np.dtype(order + code)


def _affine(path: Path, fields: Fields) -> Affine:
    _check_fields(path, fields)
    # AnatomicalOrientation is not read: programs disagree whether its letters say where an axis comes from or leads.
    names = {"TransformMatrix": 9, "ElementSpacing": 3, "Offset": 3}
    matrix, spacing, offset = (_numbers(fields.get(name.lower(), ""), count) for name, count in names.items())
    if matrix is None or spacing is None or offset is None or not (spacing > 0).all():
        stated = {name: fields.get(name.lower()) for name in names}
        raise Refusal(
            "{path}: the MetaImage header says {stated}; expected 9 numbers of the axes' directions, 3 voxel "
            "sizes above 0 and 3 numbers of the origin, without which left and right are unknown; export it "
            "with them",
            path=path,
            stated=stated,
        )
    directions = matrix.reshape(3, 3)  # a row for each axis of the file, in LPS+
    lengths = np.linalg.norm(directions, axis=1)
    if not (np.abs(lengths - 1) <= OBLIQUE_TOLERANCE).all():
        raise Refusal(
            "{path}: the directions in TransformMatrix have the lengths {lengths}; expected 1, since "
            "ElementSpacing gives the voxel sizes; export it again",
            path=path,
            lengths=lengths.tolist(),
        )
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ (directions.T * spacing)
    affine[:3, 3] = LPS_TO_RAS @ offset
    return affine


def _numbers(text: str, count: int) -> npt.NDArray[np.float64] | None:
    try:
        numbers = np.array([float(part) for part in text.split()], dtype=np.float64)
    except ValueError:
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def _voxels_name(fields: Fields) -> str | None:
    name = fields["elementdatafile"]
    return None if name.upper() == "LOCAL" else name


def _read_data(path: Path, file: BinaryIO, fields: Fields, shape: Shape, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    skip = fields.get("headersize", "0")
    if not re.fullmatch(r"\d{1,9}", skip):
        raise Refusal(
            "{path}: the MetaImage header says HeaderSize = {skip!r}; expected a number of bytes from 0 on; "
            "export it again",
            path=path,
            skip=skip,
        )
    file.seek(int(skip), 1)
    packed = fields.get("compresseddata", "").lower() == "true"
    stream = cast(BinaryIO, _Inflated(file)) if packed else file
    left = max(0, path.stat().st_size - file.tell())
    return read_voxels(stream, shape, dtype, left, "zlib" if packed else "raw", path)


# .mha or .mhd, with voxels plain or compressed.
METAIMAGE = TextHeaderFormat("MetaImage", _read_fields, _affine, _shape_and_type, _voxels_name, _read_data)
