import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import SimpleITK
from places import SHARED_DATA
from refusing import assert_refused
from small_ct import ct, sitk_image

from ct.files.metaimage import METAIMAGE
from ct.files.read import read_mask, read_scan
from ct.scan import to_source

FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-101 -57 -300",
    "ElementSpacing": "1.5 2 7",
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def put(path: Path, data: bytes | None = None, **changes: object) -> Path:
    """Write a MetaImage file by hand; None takes a field out."""
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not None}
    file = fields.pop("ElementDataFile", None)
    lines = [f"{name} = {value}" for name, value in fields.items()] + ([f"ElementDataFile = {file}"] if file else [])
    path.write_bytes("\n".join([*lines, ""]).encode() + (ct().tobytes() if data is None else data))
    return path


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_files_of_simpleitk_in_any_direction(
    tmp_path: Path, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    turned = sitk_image(np.eye(3)[:, order] * signs)
    for name, packed in (("a.mha", True), ("a.mhd", False), ("b.mhd", True), ("b.mha", False)):
        SimpleITK.WriteImage(turned, str(tmp_path / name), useCompression=packed)
        scan = read_scan(tmp_path / name)
        z, y, x = (int(value) for value in np.argwhere(scan.hu == 60)[0])
        lps = np.array(turned.TransformIndexToPhysicalPoint((4, 2, 1)))
        np.testing.assert_allclose((scan.affine @ [x, y, z, 1])[:3], lps * (-1, -1, 1))
        np.testing.assert_array_equal(to_source(scan.hu, scan.source), ct().transpose(2, 1, 0))
    assert scan.scan_id == "b"


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_number_types_and_byte_orders_as_simpleitk_reads_them(tmp_path: Path, dtype: type[np.number]) -> None:
    names = {np.int16: "SHORT", np.int32: "INT", np.int64: "LONG_LONG", np.float32: "FLOAT", np.float64: "DOUBLE"}
    orders: dict[str, Literal["<", ">"]] = {"False": "<", "True": ">"}
    for msb, order in orders.items():
        data = ct().astype(np.dtype(dtype).newbyteorder(order)).tobytes()
        path = put(tmp_path / f"{msb}.mha", data, ElementType=f"MET_{names[dtype]}", BinaryDataByteOrderMSB=msb)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), ct())
        np.testing.assert_array_equal(read_scan(path).hu, ct())


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_packed_voxels(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    np.testing.assert_array_equal(
        read_scan(put(tmp_path / "a.mha", pack(ct().tobytes()), CompressedData="True")).hu, ct()
    )
    cut = put(tmp_path / "cut.mha", pack(np.random.default_rng(0).bytes(240))[:-30], CompressedData="True")
    assert_refused(read_scan, cut, "end early|cut off or damaged")
    spoilt = bytearray(zlib.compress(ct().tobytes()))
    spoilt[-1] ^= 1
    assert_refused(
        read_scan, put(tmp_path / "spoilt.mha", bytes(spoilt), CompressedData="True"), "incorrect data check"
    )


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    bomb = put(tmp_path / "bomb.mha", zlib.compress(bytes(200_000_000)), CompressedData="True", DimSize="6 5 4")
    tracemalloc.start()
    assert_refused(read_scan, bomb, "more are there")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_skipped_bytes_and_older_names_of_fields(tmp_path: Path) -> None:
    path = put(
        tmp_path / "a.mha",
        b"12345" + ct().tobytes(),
        HeaderSize="5",
        TransformMatrix=None,
        Rotation="-1 0 0 0 1 0 0 0 1",
        Offset=None,
        Position="10 0 0",
        BinaryDataByteOrderMSB=None,
        ElementByteOrderMSB="False",
    )
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.hu[:, :, ::-1], ct())
    np.testing.assert_allclose(scan.source.affine[:3, 3], (-10, 0, 0))
    np.testing.assert_allclose(scan.affine[:3, 3], (-10 + 5 * 1.5, 0, 0))


def test_a_header_beside_its_voxels(tmp_path: Path) -> None:
    (tmp_path / "voxels").mkdir()
    path = put(tmp_path / "ct.mhd", b"", ElementDataFile="voxels/ct.raw")
    voxels = tmp_path / "voxels" / "ct.raw"
    assert METAIMAGE.voxels_apart(path) == voxels
    assert_refused(read_scan, path, "which does not exist; keep both files together")
    voxels.write_bytes(ct().tobytes())
    np.testing.assert_array_equal(read_scan(path).hu, ct())
    voxels.write_bytes(ct().tobytes()[:-1])
    assert_refused(read_scan, path, "cannot be read", named=path.parent)
    assert METAIMAGE.voxels_apart(put(tmp_path / "whole.mha")) is None
    for several in ("LIST", "slice%03d.raw 1 4 1"):
        assert_refused(read_scan, put(tmp_path / "several.mhd", b"", ElementDataFile=several), "several files")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"ObjectType": "Tube"}, "ObjectType = 'Tube'; expected Image"),
        ({"NDims": "4", "DimSize": "6 5 4 1"}, "NDims = '4'; expected 3"),
        ({"BinaryData": "False"}, "BinaryData = 'False'"),
        ({"ElementNumberOfChannels": "3"}, "ElementNumberOfChannels = '3'; expected 1"),
        ({"CompressedData": "perhaps"}, "CompressedData = 'perhaps'; expected True or False"),
        ({"DistanceUnits": "um"}, "DistanceUnits = 'um'; expected mm"),
        ({"TransformMatrix": None}, "left and right are unknown"),
        ({"Offset": None}, "3 numbers of the origin"),
        ({"Offset": "1 nan 2"}, "3 numbers of the origin"),
        ({"ElementSpacing": None}, "3 voxel sizes above 0"),
        ({"ElementSpacing": "1.5 -2 7"}, "3 voxel sizes above 0"),
        ({"ElementSpacing": "0.0015 0.002 0.007"}, "another unit"),
        ({"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "the lengths"),
        ({"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "the lengths"),
        ({"TransformMatrix": "0.98 0.199 0 -0.199 0.98 0 0 0 1"}, "oblique"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "oblique"),
        ({"ElementType": "MET_ASCII_CHAR"}, "type of real numbers"),
        ({"DimSize": "6 5"}, "three sizes"),
        ({"DimSize": "6 5 -4"}, "three sizes"),
        ({"BinaryDataByteOrderMSB": None}, "byte order"),
        ({"HeaderSize": "-1"}, "HeaderSize = '-1'"),
        ({"HeaderSize": "2"}, "cannot be read"),
        ({"HeaderSize": "99999"}, "cannot hold"),
        ({"CompressedData": "True"}, "cannot be read"),
        ({"DimSize": "60000 60000 60000"}, "promises 432000000000000 bytes"),
        ({"DimSize": "6 5 1"}, "more are there"),
        ({"ElementDataFile": None}, "up to ElementDataFile"),
    ],
)
def test_refused_with_the_reason(tmp_path: Path, changes: dict[str, str] | dict[str, None], fragment: str) -> None:
    assert_refused(read_scan, put(tmp_path / "ct.mha", **changes), fragment)


def test_other_files(tmp_path: Path) -> None:
    for name, content in (("text", b"no image"), ("noise", bytes(range(256)) * 40), ("endless", b"a = b\n" * 9999)):
        (tmp_path / f"{name}.mhd").write_bytes(content)
        assert_refused(read_scan, tmp_path / f"{name}.mhd", "not a readable MetaImage file")


def test_masks_of_a_scan_in_another_format(tmp_path: Path) -> None:
    SimpleITK.WriteImage(sitk_image(), str(tmp_path / "ct.nrrd"))
    scan = read_scan(tmp_path / "ct.nrrd")
    turned = SimpleITK.DICOMOrient(SimpleITK.Cast(sitk_image() == 400, SimpleITK.sitkInt64), "SRA")
    SimpleITK.WriteImage(turned, str(tmp_path / "mask.mhd"), useCompression=True)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.mhd", scan), ct() == 400)


@pytest.mark.skipif(not (SHARED_DATA / "elastix_ct").is_dir(), reason=f"the real scans are not at {SHARED_DATA}")
@pytest.mark.shared_data
def test_real_scans_lie_where_simpleitk_puts_them() -> None:
    folder = SHARED_DATA / "elastix_ct"
    scan = read_scan(folder / "3DCT_lung.mha")
    seen = SimpleITK.ReadImage(str(folder / "3DCT_lung.mha"))
    values = SimpleITK.GetArrayFromImage(seen)
    np.testing.assert_array_equal(scan.hu, values.clip(-1024))
    np.testing.assert_allclose(
        (scan.affine @ [10, 20, 30, 1])[:3], np.array(seen.TransformIndexToPhysicalPoint((10, 20, 30))) * (-1, -1, 1)
    )
    assert scan.spacing_mm == pytest.approx((2.5, 1.366, 1.366))
    assert f"{int((values < -1024).sum())} voxels below -1024 HU" in scan.repairs[0]
    lungs = read_mask(folder / "3DCT_lung_baseline_mask.mha", scan) > 0
    assert -1000 < np.median(scan.hu[lungs]) < -700
    assert read_scan(folder / "3DCT_lung_baseline_small.mha").hu.shape == (64, 78, 57)
