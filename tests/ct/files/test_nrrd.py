import bz2
import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import SimpleITK
from refusing import assert_refused
from small_ct import ct, sitk_image

from ct.files.nrrd import NRRD
from ct.files.read import read_scan
from ct.scan import to_source

FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(1.5,0,0) (0,2,0) (0,0,7)",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-101,-57,-300)",
}


def put(path: Path, data: bytes | None = None, **changes: object) -> Path:
    """Write an NRRD file by hand; None takes a field out."""
    fields = FIELDS | {name.replace("_", " "): value for name, value in changes.items()}
    lines = ["NRRD0004", "# a comment", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    path.write_bytes(
        "\n".join([*lines, "note:=anything", "", ""]).encode() + (ct().tobytes() if data is None else data)
    )
    return path


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.parametrize("suffix", ["nrrd", "nhdr"])
@pytest.mark.parametrize("packed", [True, False])
def test_files_of_simpleitk_in_any_direction(
    tmp_path: Path, signs: tuple[int, int, int], suffix: str, packed: bool
) -> None:
    SimpleITK.WriteImage(sitk_image(signs), str(tmp_path / f"ct.{suffix}"), useCompression=packed)
    scan = read_scan(tmp_path / f"ct.{suffix}")
    z, y, x = (int(value) for value in np.argwhere(scan.hu == 60)[0])
    lps = np.array(sitk_image(signs).TransformIndexToPhysicalPoint((4, 2, 1)))
    np.testing.assert_allclose((scan.affine @ [x, y, z, 1])[:3], lps * (-1, -1, 1))
    np.testing.assert_array_equal(to_source(scan.hu, scan.source), ct().transpose(2, 1, 0))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_number_types_and_byte_orders_as_simpleitk_reads_them(tmp_path: Path, dtype: type[np.number]) -> None:
    orders: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
    for endian, order in orders.items():
        data = ct().astype(np.dtype(dtype).newbyteorder(order)).tobytes()
        names = {np.int16: "int16_t", np.int32: "signed int", np.float32: "float", np.float64: "double"}
        path = put(tmp_path / f"{endian}.nrrd", data, type=names[dtype], endian=endian)
        seen = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        np.testing.assert_array_equal(seen, ct())
        np.testing.assert_array_equal(read_scan(path).hu, ct())


@pytest.mark.parametrize(("encoding", "pack"), [("gz", gzip.compress), ("bzip2", bz2.compress), ("raw", bytes)])
def test_encodings_and_skipped_bytes(tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    data = b"line one\nline two\n" + pack(b"12345" + ct().tobytes())
    path = put(tmp_path / "ct.nrrd", data, encoding=encoding, line_skip="2", byteskip="5")
    np.testing.assert_array_equal(read_scan(path).hu, ct())


def test_a_header_beside_its_voxels(tmp_path: Path) -> None:
    (tmp_path / "voxels").mkdir()
    path = put(tmp_path / "ct.nhdr", b"", data_file="voxels/ct.raw")
    voxels = tmp_path / "voxels" / "ct.raw"
    assert NRRD.voxels_apart(path) == voxels
    assert_refused(read_scan, path, "which does not exist; keep both files together")
    voxels.write_bytes(ct().tobytes())
    np.testing.assert_array_equal(read_scan(path).hu, ct())
    voxels.write_bytes(ct().tobytes()[:-1])
    assert_refused(read_scan, path, "cannot be read", named=path.parent)
    assert NRRD.voxels_apart(put(tmp_path / "whole.nrrd")) is None
    for several in ("LIST", "slice%03d.raw 1 4 1"):
        assert_refused(read_scan, put(tmp_path / "several.nhdr", b"", data_file=several), "several files")


def test_other_spaces(tmp_path: Path) -> None:
    lps = read_scan(put(tmp_path / "lps.nrrd"))
    ras = read_scan(put(tmp_path / "ras.nrrd", space="RAS"))
    las = read_scan(put(tmp_path / "las.nrrd", space="left-anterior-superior"))
    np.testing.assert_allclose(lps.source.affine[:3, 3], (101, 57, -300))
    np.testing.assert_allclose(ras.source.affine[:3, 3], (-101, -57, -300))
    np.testing.assert_allclose(las.source.affine[:3, 3], (101, -57, -300))
    np.testing.assert_array_equal(ras.hu, lps.hu[:, ::-1, ::-1])
    np.testing.assert_array_equal(las.hu, lps.hu[:, ::-1])


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"space": None}, "space, directions and origin"),
        ({"space": "scanner-xyz"}, "space, directions and origin"),
        ({"space_origin": None}, "space, directions and origin"),
        ({"space_directions": "(a,b,c) (0,2,0) (0,0,7)"}, "space, directions and origin"),
        ({"dimension": "4", "sizes": "3 6 5 4"}, "expected three axes"),
        ({"dimension": "4", "space_directions": "none (1.5,0,0) (0,2,0) (0,0,7)"}, "expected three axes"),
        ({"space_directions": "(1.5,0,0) (0,0,0) (0,0,7)"}, "above 0 mm"),
        ({"space_directions": "(1.5,0,0) (0,nan,0) (0,0,7)"}, "finite"),
        ({"space_directions": "(1.5,0,0) (0,2,0.02) (0,0,7)"}, "oblique"),
        ({"space_directions": "(0.0015,0,0) (0,0.002,0) (0,0,0.007)"}, "another unit"),
        ({"space_units": '"um" "um" "um"'}, "lengths are in 'um'"),
        ({"type": "block"}, "type of real numbers"),
        ({"sizes": "6 5"}, "three sizes"),
        ({"sizes": "6 5 -4"}, "three sizes"),
        ({"endian": None}, "byte order"),
        ({"encoding": "hex"}, "expected raw, gzip or bzip2"),
        ({"byte_skip": "-1"}, "byte skip '-1'"),
        ({"byte_skip": "2"}, "cannot be read"),
        ({"line_skip": "99999"}, "cannot|ends within"),
        ({"encoding": "gzip"}, "cannot be read|not a readable"),
        ({"sizes": "60000 60000 60000"}, "promises 432000000000000 bytes"),
        ({"sizes": "6 5 1"}, "more are there"),
    ],
)
def test_refused_with_the_reason(tmp_path: Path, changes: dict[str, None] | dict[str, str], fragment: str) -> None:
    assert_refused(read_scan, put(tmp_path / "ct.nrrd", **changes), fragment)


def test_other_files_and_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "text.nrrd").write_text("no image")
    assert_refused(read_scan, tmp_path / "text.nrrd", "not a readable NRRD")
    put(tmp_path / "cut.nrrd", gzip.compress(np.random.default_rng(0).bytes(240))[:-9], encoding="gzip")
    assert_refused(read_scan, tmp_path / "cut.nrrd", "cannot be read")
    spoilt = bytearray(gzip.compress(ct().tobytes()))
    spoilt[-8] ^= 1
    assert_refused(read_scan, put(tmp_path / "spoilt.nrrd", bytes(spoilt), encoding="gzip"), "CRC")
    (tmp_path / "endless.nrrd").write_bytes(b"NRRD0004\n" + b"a: b\n" * 20000)
    assert_refused(read_scan, tmp_path / "endless.nrrd", "has no end")
