import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_harness import write_series
from numpy.typing import NDArray
from refusing import assert_refused
from small_ct import ct

from ct.files.dicom.volume import read_dicom
from ct.files.read import read_mask, read_scan
from ct.scan import Affine


def affine() -> Affine:
    matrix = np.diag([1.5, -2.0, 7.0, 1.0])
    matrix[:3, 3] = (101.0, 57.0, -300.0)
    return matrix


def save(path: Path, array: NDArray[Any] | None = None, kind: type[nibabel.AnalyzeImage] = nibabel.Nifti1Pair) -> Path:
    image = kind(ct().transpose(2, 1, 0) if array is None else array, affine())
    if isinstance(image, nibabel.Nifti1Pair):
        image.set_sform(affine(), 1)
        image.set_qform(affine(), 1)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_either_file_of_a_pair_is_read(tmp_path: Path, kind: type[nibabel.AnalyzeImage], suffix: str) -> None:
    save(tmp_path / f"ct.img{suffix}", kind=kind)
    np.testing.assert_allclose(kind.from_filename(tmp_path / f"ct.img{suffix}").affine, affine())
    for name in (f"ct.hdr{suffix}", f"ct.img{suffix}"):
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(scan.hu, ct()[:, :, ::-1])
        np.testing.assert_allclose(scan.source.affine, affine())
        assert scan.scan_id == "ct"
    save(tmp_path / "mask.img", (ct() == 400).astype(np.uint8).transpose(2, 1, 0))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.hdr", scan), (ct() == 400)[:, :, ::-1])


def test_names_in_capitals_and_voxels_after_an_offset(tmp_path: Path) -> None:
    save(tmp_path / "ct.img")
    header = bytearray((tmp_path / "ct.hdr").read_bytes())
    header[108:112] = struct.pack("<f", 16)
    (tmp_path / "CT.HDR").write_bytes(header)
    (tmp_path / "CT.IMG").write_bytes(bytes(16) + (tmp_path / "ct.img").read_bytes())
    np.testing.assert_array_equal(read_scan(tmp_path / "CT.IMG").hu, ct()[:, :, ::-1])


def test_half_a_pair(tmp_path: Path) -> None:
    save(tmp_path / "ct.img")
    (tmp_path / "ct.img").rename(tmp_path / "other.img")
    assert_refused(read_scan, tmp_path / "ct.hdr", "half of a pair: there is no 'ct.img' beside it")
    assert_refused(read_scan, tmp_path / "other.img", "voxels without a header")


def test_a_pair_that_is_cut_off_or_promises_too_much(tmp_path: Path) -> None:
    save(tmp_path / "ct.img")
    whole = (tmp_path / "ct.img").read_bytes()
    (tmp_path / "ct.img").write_bytes(whole[:-1])
    assert_refused(read_scan, tmp_path / "ct.hdr", "cut off or damaged", named=tmp_path / "ct.img")
    (tmp_path / "ct.img").write_bytes(whole + whole)
    assert_refused(read_scan, tmp_path / "ct.hdr", "more are there", named=tmp_path / "ct.img")
    save(tmp_path / "packed.img.gz")
    packed = gzip.compress(np.random.default_rng(0).bytes(240))
    (tmp_path / "packed.img.gz").write_bytes(packed[:-9])
    assert_refused(read_scan, tmp_path / "packed.hdr.gz", "cut off", named=tmp_path / "packed.img.gz")


@pytest.mark.parametrize("kind", [nibabel.AnalyzeImage, nibabel.Spm99AnalyzeImage])
def test_analyze_is_refused_since_it_does_not_tell_left_from_right(
    tmp_path: Path, kind: type[nibabel.AnalyzeImage]
) -> None:
    save(tmp_path / "ct.img", kind=kind)
    assert_refused(read_scan, tmp_path / "ct.hdr", "Analyze 7.5, which does not say where left and right are")
    swapped = nibabel.AnalyzeHeader(endianness=">")
    kind(ct().transpose(2, 1, 0), None, swapped).to_filename(tmp_path / "big.img")
    assert_refused(read_scan, tmp_path / "big.img", "Analyze 7.5")


def test_other_headers(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(bytes(240))
    for content, reason in (
        (b"!INTERFILE :=\n" * 40, "no signature of a NIfTI pair"),
        (bytes(600), "no signature of a NIfTI pair"),
        (bytes(300), "header has 300 of 348 bytes; it is cut off or damaged"),
        (gzip.compress(bytes(600)), "packed .gzip., which its name does not say"),
    ):
        (tmp_path / "a.hdr").write_bytes(content)
        assert_refused(read_scan, tmp_path / "a.hdr", reason)


def test_dicom_files_may_be_called_img(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"{number}.img")
    np.testing.assert_array_equal(read_scan(folder).hu, read_dicom(folder)[0].transpose(2, 1, 0))
