"""NRRD files, in one (.nrrd) or with a separate header (.nhdr): stored voxels and affine."""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ct.files.text_header import Fields, Shape, TextHeaderFormat, three_sizes
from ct.files.volume_file import read_voxels
from ct.refusal import Refusal
from ct.scan import Affine

# World axes of an NRRD file's `space` against RAS+.
SIGNS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
OPENERS: dict[str, Callable[[Any], Any]] = {"raw": lambda file: file, "gzip": gzip.open, "bzip2": bz2.open}
MOST_HEADER_LINES = 10_000


def _read_fields(path: Path, file: BinaryIO) -> Fields:
    """Read the header up to its blank line; names in lower case and without blanks."""
    if not re.fullmatch(rb"NRRD\d{4}", file.readline(64).strip()):
        raise Refusal("{path}: not a readable NRRD file (no NRRD signature in its header); export it again", path=path)
    fields: Fields = {}
    for _ in range(MOST_HEADER_LINES):
        line = file.readline(4096).strip().decode("latin-1")
        if not line:
            return fields
        name, _, value = line.partition(":")
        # "name:=value" is a user's own note, "name: value" a field.
        if not line.startswith("#") and not value.startswith("="):
            fields[name.replace(" ", "").lower()] = value.strip()
    raise Refusal("{path}: the NRRD header has no end; the file is damaged; export it again", path=path)


def _shape_and_type(path: Path, fields: Fields) -> tuple[Shape, np.dtype[Any]]:
    code = next((code for code, names in TYPES.items() if fields.get("type", "").lower() in names), "")
    sizes = three_sizes(fields.get("sizes", ""))
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower(), "|" if code in ("i1", "u1") else "")
    if not code or sizes is None or not order:
        stated = {name: fields.get(name) for name in ("type", "sizes", "endian")}
        raise Refusal(
            "{path}: the NRRD header says {stated}; expected a type of real numbers of up to 32 bits or "
            "double, three sizes above 0 and the byte order",
            path=path,
            stated=stated,
        )
    return sizes, np.dtype(order + code)


def _affine(path: Path, fields: Fields) -> Affine:
    signs = SIGNS.get(fields.get("space", "").lower())
    vectors = _vectors(fields.get("spacedirections", ""))
    origin = _vectors(fields.get("spaceorigin", ""))
    if fields.get("dimension") != "3" or signs is None or vectors.shape != (3, 3) or origin.shape != (1, 3):
        names = ("dimension", "space", "space directions", "space origin")
        stated = {name: fields.get(name.replace(" ", "")) for name in names}
        raise Refusal(
            "{path}: the NRRD header says {stated}; expected three axes with space, directions and origin",
            path=path,
            stated=stated,
        )
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))) - {"mm", "millimeter", "millimetre", ""}
    if units:
        raise Refusal(
            "{path}: lengths are in {unit!r}; expected mm; export it with sizes in mm", path=path, unit=sorted(units)[0]
        )
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs) @ vectors.T
    affine[:3, 3] = np.asarray(signs) * origin[0]
    return affine


def _vectors(text: str) -> npt.NDArray[np.float64]:
    vectors = re.findall(r"\(([^)]*)\)", text)
    try:
        return np.array([[float(part) for part in vector.split(",")] for vector in vectors], dtype=np.float64)
    except ValueError:
        return np.empty((0, 3))


def _voxels_name(fields: Fields) -> str | None:
    return fields.get("datafile")


def _read_data(path: Path, file: BinaryIO, fields: Fields, shape: Shape, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    skips = [fields.get(name, "0") for name in ("lineskip", "byteskip")]
    if encoding is None or not all(re.fullmatch(r"\d{1,9}", skip) for skip in skips):
        raise Refusal(
            "{path}: the NRRD header says encoding {encoding!r}, line skip {lines!r} and byte skip {bytes!r}; "
            "expected raw, gzip or bzip2 and nothing skipped from the end; export it again",
            path=path,
            encoding=fields.get("encoding"),
            lines=skips[0],
            bytes=skips[1],
        )
    for _ in range(int(skips[0])):
        if not file.readline():
            raise Refusal(
                "{path}: ends within the {lines} lines to skip; the file is cut off; export it again",
                path=path,
                lines=int(skips[0]),
            )
    stream = cast(BinaryIO, OPENERS[encoding](file))
    skipped = int(skips[1])
    if encoding == "raw":
        file.seek(skipped, 1)
    elif len(stream.read(min(skipped, 1 << 20))) != skipped:
        raise Refusal(
            "{path}: {skipped} bytes cannot be skipped; the file is cut off or damaged; export it again",
            path=path,
            skipped=skipped,
        )
    left = path.stat().st_size - file.tell() if encoding == "raw" else path.stat().st_size
    return read_voxels(stream, shape, dtype, left, encoding, path)


# .nrrd or .nhdr, encoding raw, gzip or bzip2.
NRRD = TextHeaderFormat("NRRD", _read_fields, _affine, _shape_and_type, _voxels_name, _read_data)
