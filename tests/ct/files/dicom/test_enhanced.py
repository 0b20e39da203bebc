import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_harness import SHARED, affine, ct, edit, enhance, read, write_series
from pydicom.dataset import Dataset
from pydicom.uid import LegacyConvertedEnhancedCTImageStorage
from refusing import assert_refused

from ct.files.dicom.volume import read_dicom


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return sorted(write_series(tmp_path / "single").iterdir())


@pytest.mark.parametrize("own", [("PlanePositionSequence",), ("PlanePositionSequence", *SHARED)])
def test_the_geometry_is_that_of_the_frames_not_their_order(
    tmp_path: Path, files: list[Path], own: tuple[str, ...]
) -> None:
    file = enhance([files[number] for number in (2, 0, 5, 1, 4, 3)], tmp_path / "enhanced", own=own)
    hu, canonical, repairs = read(file)
    np.testing.assert_array_equal(hu, ct())
    np.testing.assert_allclose(canonical, affine())
    assert repairs == ()


def test_simpleitk_sees_the_same_volume(tmp_path: Path, files: list[Path]) -> None:
    image = SimpleITK.ReadImage(str(enhance(files[::-1], tmp_path / "enhanced.dcm")))
    hu, canonical, _ = read(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(hu, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(canonical[:3, 3], np.array(image.GetOrigin()) * (-1, -1, 1))
    np.testing.assert_allclose(np.linalg.norm(canonical[:3, :3], axis=0), image.GetSpacing())


def test_several_files_of_one_series_and_the_legacy_class(tmp_path: Path, files: list[Path]) -> None:
    enhance(files[3:], tmp_path / "many" / "a", LegacyConvertedEnhancedCTImageStorage)
    enhance(files[:3], tmp_path / "many" / "b", LegacyConvertedEnhancedCTImageStorage)
    np.testing.assert_array_equal(read(tmp_path / "many")[0], ct())


def test_each_frame_has_its_own_rescale(tmp_path: Path, files: list[Path]) -> None:
    edit(files[0].parent, lambda dataset: setattr(dataset, "RescaleIntercept", "-900"), only=1)
    expected = ct()
    expected[4] += 124
    np.testing.assert_array_equal(read(enhance(files, tmp_path / "enhanced"))[0], expected)


def test_localizer_frames_are_left_out_and_said(tmp_path: Path, files: list[Path]) -> None:
    def change(dataset: Dataset) -> None:
        frames = dataset.PerFrameFunctionalGroupsSequence
        for number, frame in enumerate(frames):
            inner = pydicom.Dataset()
            inner.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if number == 0 else "VOLUME", "NONE"]
            frame.CTImageFrameTypeSequence = [inner]

    enhance(files, tmp_path / "e" / "enhanced.dcm")
    edit(tmp_path / "e", change)
    hu, _, repairs = read(tmp_path / "e")
    np.testing.assert_array_equal(hu, ct()[:-1])
    assert repairs == ("1 x localizer in the series left out",)


def without(group: str, frame: int | None = None) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for number, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            if frame in (None, number):
                delattr(item, group)

    return change


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (without("PlanePositionSequence", 3), "ImagePositionPatient is missing"),
        (without("PlaneOrientationSequence"), "ImageOrientationPatient is missing"),
        (without("PixelMeasuresSequence"), "PixelSpacing is missing"),
        (without("PixelValueTransformationSequence"), "RescaleSlope is missing"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "holds 6 frames but the places of 0"),
        (lambda d: setattr(d, "NumberOfFrames", 4), "holds 4 frames but the places of 6"),
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "holds 6 frames but the places of 5"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-200]), "cannot be decoded"),
        (lambda d: setattr(d, "Rows", 60000), "Rows and Columns are 60000 and 10"),
        (lambda d: setattr(d, "Rows", 8000), r"pixels need \d+ bytes but the file can hold \d+; it is cut off"),
    ],
)
def test_what_is_missing_or_impossible_is_refused(
    tmp_path: Path, files: list[Path], change: Callable[[Dataset], object], fragment: str
) -> None:
    enhance(files, tmp_path / "e" / "enhanced.dcm")
    edit(tmp_path / "e", change)
    assert_refused(read_dicom, tmp_path / "e", fragment)


def test_two_phases_in_one_file_are_refused(tmp_path: Path, files: list[Path]) -> None:
    late = sorted(write_series(tmp_path / "late", ct(seed=1)).iterdir())
    assert_refused(
        read_dicom,
        enhance([*files, *late], tmp_path / "enhanced"),
        r"same place .* two phases or reconstructions are mixed",
    )


def test_one_file_per_slice_and_the_same_as_one_enhanced_file_are_copies(tmp_path: Path, files: list[Path]) -> None:
    enhance(files, tmp_path / "both" / "enhanced.dcm")
    for file in files:
        shutil.copy(file, tmp_path / "both" / file.name)
    hu, _, repairs = read(tmp_path / "both")
    np.testing.assert_array_equal(hu, ct())
    assert repairs == ("6 identical copies of slices were left out",)
