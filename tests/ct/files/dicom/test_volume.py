import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from dicom_harness import affine, ct, edit, read, set_tags, write_series
from places import SHARED_DATA
from pydicom.dataset import Dataset
from refusing import assert_refused

from ct.files.dicom.volume import read_dicom
from ct.files.read import read_scan

needs_shared = pytest.mark.skipif(not SHARED_DATA.exists(), reason=f"{SHARED_DATA} is absent")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "series")


def test_a_series_goes_there_and_back(series: Path) -> None:
    scan = read_scan(series)
    np.testing.assert_array_equal(scan.hu, ct())
    np.testing.assert_allclose(scan.affine, affine())
    assert (scan.scan_id, scan.repairs) == ("series", ())


def test_simpleitk_reads_the_same(series: Path) -> None:
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), read(series)[0])
    np.testing.assert_allclose(np.array(image.GetOrigin()) * (-1, -1, 1), affine()[:3, 3])
    np.testing.assert_allclose(image.GetSpacing(), (0.75, 0.5, 5.0))


@pytest.mark.parametrize("unit", ["US", "us", "Unspecified"])
def test_an_unspecified_unit_is_taken_for_hu_and_said(series: Path, unit: str) -> None:
    edit(series, lambda dataset: set_tags(dataset, {"RescaleType": unit}))
    scan = read_scan(series)
    np.testing.assert_array_equal(scan.hu, ct())
    assert scan.repairs == (
        "RescaleType says that the unit is unspecified (US); the values were taken for HU and checked",
    )


@pytest.mark.parametrize("intercept", ["0", "-200"])
def test_an_unspecified_unit_of_other_values_is_refused(series: Path, intercept: str) -> None:
    edit(series, lambda dataset: set_tags(dataset, {"RescaleType": "US", "RescaleIntercept": intercept}))
    assert_refused(read_scan, series, "without any air; expected HU with air near -1000")


@pytest.mark.parametrize("unit", ["hu", "HU ", None])
def test_hu_in_small_letters_and_a_missing_unit_are_plain_hu(series: Path, unit: str | None) -> None:
    edit(series, lambda dataset: set_tags(dataset, {"RescaleType": unit}))
    assert read_scan(series).repairs == ()


def test_slope_and_padding_below_air(tmp_path: Path) -> None:
    hu = ct() // 2
    hu[:, :, :2] = -1024
    series = write_series(tmp_path / "series", hu, RescaleSlope="2", RescaleIntercept="-2020")
    raw = (hu.astype(int) + 1024) * 2 - 2020
    np.testing.assert_array_equal(read(series)[0], raw)
    scan = read_scan(series)
    np.testing.assert_array_equal(scan.hu, np.maximum(raw, -1024))
    assert scan.repairs == ("144 voxels below -1024 HU (lowest -2020; padding or noise) were set to -1024",)


@pytest.mark.parametrize(
    ("tag", "value", "fragment"),
    [
        ("PhotometricInterpretation", "MONOCHROME1", "PhotometricInterpretation is MONOCHROME1; expected MONOCHROME2"),
        ("PhotometricInterpretation", None, "PhotometricInterpretation is missing"),
        ("SamplesPerPixel", 3, "expected MONOCHROME2 with one sample per pixel"),
        ("ImagePositionPatient", None, "ImagePositionPatient is missing"),
        ("ImagePositionPatient", [1, 2], r"ImagePositionPatient is \[1\.0, 2\.0\]; expected 3 finite numbers"),
        ("ImageOrientationPatient", None, "ImageOrientationPatient is missing"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "impossible"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "impossible"),
        ("ImageOrientationPatient", [1.02, 0, 0, 0, 1, 0], "impossible"),
        ("PixelSpacing", None, "PixelSpacing is missing"),
        ("PixelSpacing", [0, 0.75], "impossible"),
        ("PixelSpacing", [-0.75, 0.75], "impossible"),
        ("PixelSpacing", 0.7, r"PixelSpacing is 0\.7; expected 2 finite numbers"),
        ("RescaleIntercept", None, "RescaleIntercept is missing"),
        ("RescaleSlope", None, "RescaleSlope is missing"),
        ("RescaleSlope", "0", "RescaleSlope 0 is impossible"),
        ("RescaleType", "OD", "RescaleType is 'OD'"),
        ("RescaleType", "HU_MOD", "RescaleType is 'HU_MOD'"),
        ("NumberOfFrames", 3, "holds 3 frames but the places of 0"),
        ("GantryDetectorTilt", "-15.5", r"GantryDetectorTilt is -15\.5 degrees"),
        ("BitsAllocated", 12, "BitsAllocated, BitsStored and HighBit are 12, 16 and 15"),
        ("HighBit", 12, "BitsAllocated, BitsStored and HighBit are 16, 16 and 12"),
        ("Rows", 0, "Rows and Columns are 0 and 10"),
        ("Rows", 7000, "need 140000 bytes but the file can hold"),
        ("Columns", None, "Columns is missing"),
        ("PixelData", None, "cannot be decoded"),
    ],
)
def test_what_is_no_plain_ct_in_hu_is_refused(series: Path, tag: str, value: object, fragment: str) -> None:
    edit(series, lambda dataset: set_tags(dataset, {tag: value}))
    assert_refused(read_dicom, series, fragment)


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        (b"-196.250000", b"-196.2x0000", "ImagePositionPatient .*-196.2x0000"),
        (b"0.500000\\0.750000", b"0.500000;0.750000", r"PixelSpacing is '0\.500000;0\.750000'; expected 2 numbers"),
        (
            b"0.500000\\0.750000",
            b"0.500000\\     nan",
            r"PixelSpacing is \[0\.500000, nan\]; expected 2 finite numbers",
        ),
        (b"HU", b"\xff\xfe", "RescaleType is"),
    ],
)
def test_tags_that_cannot_be_converted_are_one_sentence(series: Path, old: bytes, new: bytes, fragment: str) -> None:
    content = (series / "IM0003.dcm").read_bytes()
    assert content.count(old) == 1
    (series / "IM0003.dcm").write_bytes(content.replace(old, new))
    assert_refused(read_dicom, series, f"IM0003.dcm: {fragment}")


# --- the place of the slices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "value", "fragment"),
    [
        ("PixelSpacing", [0.8, 0.8], r"IM0003\.dcm: PixelSpacing is"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9998, 0.02], r"IM0003\.dcm: ImageOrientationPatient is"),
        ("Rows", 10, r"IM0003\.dcm: Rows is \[10\.0\]; expected \[12\.0\] as in IM0001\.dcm"),
        ("ImagePositionPatient", [-120, -130.5, -190], "apart near"),
        ("ImagePositionPatient", [-120, -130.5, -201.25], "10.00 mm apart near"),
        ("ImagePositionPatient", [-110, -130.5, -196.25], "shifted sideways"),
    ],
)
def test_slices_that_disagree_are_refused(series: Path, tag: str, value: object, fragment: str) -> None:
    edit(series, lambda dataset: setattr(dataset, tag, value), only=2)
    assert_refused(read_dicom, series, fragment)


def test_a_missing_slice_is_refused(series: Path) -> None:
    (series / "IM0003.dcm").unlink()
    assert_refused(read_dicom, series, r"10\.00 mm apart near .* but 5\.00 mm elsewhere")


def test_a_tilted_gantry_is_refused(series: Path) -> None:
    def change(dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, f"{y + 0.1 * z:.3f}", z]

    edit(series, change)
    assert_refused(read_dicom, series, r"5\.71 degrees off")


def test_an_identical_copy_is_left_out(series: Path) -> None:
    shutil.copy(series / "IM0003.dcm", series / "copy")
    hu, canonical, repairs = read(series)
    np.testing.assert_array_equal(hu, ct())
    np.testing.assert_allclose(canonical, affine())
    assert repairs == ("1 identical copies of slices were left out",)


@pytest.mark.parametrize("change", ["pixels", "place"])
def test_a_slice_at_the_same_place_that_differs_is_refused(series: Path, change: str) -> None:
    def differ(dataset: Dataset) -> None:
        if change == "pixels":
            dataset.PixelData = dataset.PixelData[:-2] + b"\0\0"
        else:
            dataset.ImagePositionPatient = [-119, -130.5, -196.25]

    shutil.copy(series / "IM0003.dcm", series / "copy.dcm")
    edit(series, differ, only=6)
    assert_refused(read_dicom, series, r"same place .*IM0003\.dcm .*copy\.dcm|same place .*copy\.dcm .*IM0003\.dcm")


@pytest.mark.parametrize("noise", [1e-6, 1e-4, 1e-3])
def test_noise_in_the_orientation_is_tolerated(series: Path, noise: float) -> None:
    rng = np.random.default_rng(0)

    def change(dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = list(np.round([1, 0, 0, 0, 1, 0] + noise * rng.choice([-1, 1], 6), 9))

    edit(series, change)
    hu, canonical, repairs = read(series)
    np.testing.assert_array_equal(hu, ct())
    np.testing.assert_allclose(canonical, affine(), atol=2 * noise)
    cosines = canonical[:3, :2] / np.linalg.norm(canonical[:3, :2], axis=0)
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(2), atol=1e-12)
    assert repairs == ()


def test_positions_rounded_to_a_tenth_of_a_mm_are_even(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", ct(9))

    def change(dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [-120, -130.5, round(-0.625 * dataset.InstanceNumber, 1)]

    edit(series, change)
    hu, canonical, _ = read(series)
    np.testing.assert_array_equal(hu, ct(9))
    assert canonical[2, 2] == pytest.approx(0.625, abs=0.1 / 8)
    (series / "IM0004.dcm").unlink()
    assert_refused(read_dicom, series, "apart near")


def test_a_feet_first_series(series: Path) -> None:
    edit(series, lambda dataset: setattr(dataset, "ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]))
    hu, canonical, _ = read(series)
    np.testing.assert_array_equal(hu, ct()[:, :, ::-1])
    assert (canonical @ [9, 0, 0, 1])[0] == pytest.approx(120.0)


def test_an_oblique_series_is_refused(series: Path) -> None:
    cos, sin = np.cos(0.1), np.sin(0.1)

    def change(dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, f"{cos:.9f}", f"{sin:.9f}"]
        along = 5.0 * dataset.InstanceNumber
        dataset.ImagePositionPatient = [0, f"{-sin * along:.9f}", f"{cos * along:.9f}"]

    edit(series, change)
    with pytest.raises(ValueError, match=r"series: the scan is oblique"):
        read_scan(series)


@needs_shared
@pytest.mark.shared_data
def test_real_dicom_and_nrrd_hold_the_same_voxels() -> None:
    folder = SHARED_DATA / "cip_ct64"
    dicom = read(folder / "ct-64Dicom")
    image = SimpleITK.ReadImage(str(folder / "ct-64.nrrd"))
    np.testing.assert_array_equal(dicom[0], SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(dicom[1][:3, 3], np.array(image.GetOrigin()) * (-1, -1, 1), atol=1e-3)
    # The folder above holds the NRRD files, too.
    beside = read(folder)
    np.testing.assert_array_equal(beside[0], dicom[0])
    assert beside[2] == ("left out what is no DICOM image: 7 files, for example LICENSE.txt",)


@pytest.mark.slow
@needs_shared
@pytest.mark.shared_data
def test_real_jpeg_lossless_slices_are_those_that_gdcm_reads() -> None:
    folder = SHARED_DATA / "covidctmd_dev" / "P002_dicom"
    hu, canonical, repairs = read(folder)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    np.testing.assert_array_equal(hu, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(names)))
    assert (hu.shape, repairs) == ((20, 512, 512), ())
    assert np.linalg.norm(canonical[:3, 2]) == pytest.approx(2.0)


@needs_shared
@pytest.mark.shared_data
def test_a_real_slice_without_modality_gets_one_sentence() -> None:
    assert_refused(
        read_dicom, SHARED_DATA / "lungmask_dicom" / "0.dcm", "holds one slice whose Modality is missing; expected 'CT'"
    )
