import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_harness import affine, ct, edit, set_tags, write_series
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from refusing import assert_refused

from ct.files.dicom.export import write_dicom_series
from ct.files.dicom.file_set import find_dicom_files
from ct.files.dicom.volume import read_dicom
from ct.refusal import Sentence

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DOSE_SR = UID("1.2.840.10008.5.1.4.1.1.88.67")
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "scan" / "a")


def read(path: Path) -> tuple[NDArray[Any], tuple[Sentence, ...]]:
    voxels, _, repairs, _ = read_dicom(path)
    return voxels.transpose(2, 1, 0), repairs


def other_series(folder: Path, seed: int = 1, slices: int = 6, **tags: Any) -> Path:
    """Write a second series of the same patient and study."""
    return write_series(folder, ct(slices, seed), SeriesInstanceUID=f"1.2.{seed}", **tags)


def to_rgb(dataset: Dataset) -> None:
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 3)


def dose_report(file: Path) -> None:
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = DOSE_SR
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.Modality, report.SeriesInstanceUID, report.SeriesDescription = "SR", "1.2.999", "Radiation dose"
    file.parent.mkdir(parents=True, exist_ok=True)
    report.save_as(file, enforce_file_format=True)


# --- which files ------------------------------------------------------------------------------------------------------


def test_any_names_any_order_and_sub_folders(series: Path) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        target = series / f"part{number % 2}" / f"{(number * 5) % 6}_{number}"
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    hu, repairs = read(series.parent)
    np.testing.assert_array_equal(hu, ct())
    assert repairs == ()
    assert len(find_dicom_files(series.parent)[0]) == 6


def test_what_is_no_dicom_is_left_out_and_said(series: Path) -> None:
    (series / "DICOMDIR").write_bytes((series / "IM0001.dcm").read_bytes())
    (series / ".DS_Store").write_text("x")
    (series / "__MACOSX").mkdir()
    (series / "__MACOSX" / "._IM0001.dcm").write_text("x")
    (series / "REPORT.txt").write_text("no consolidation " * 20)
    (series / "empty").touch()
    hu, repairs = read(series)
    np.testing.assert_array_equal(hu, ct())
    assert repairs == ("left out what is no DICOM image: 5 files, for example .DS_Store",)


def test_a_linked_folder_is_not_entered_but_said(series: Path, tmp_path: Path) -> None:
    (series / "again").symlink_to(tmp_path, target_is_directory=True)
    assert read(series)[1] == ("left out what is no DICOM image: 1 file, for example again",)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 128 + b"DICN" + b"\0" * 400])
def test_a_damaged_file_that_calls_itself_dicom_is_refused(series: Path, content: bytes) -> None:
    (series / "IM0006.dcm").write_bytes(content)
    assert_refused(read_dicom, series, r"IM0006\.dcm: not a readable DICOM file, although its name says so")


@pytest.mark.parametrize("size", [133, 200, 330, 500, 700, 900, 1100])
def test_a_truncated_end_slice_is_never_lost(series: Path, size: int) -> None:
    # The last file holds the lowest slice: without it the stack would still be even.
    file = series / "IM0006.dcm"
    content = file.read_bytes()
    assert size < len(content) - 1
    file.write_bytes(content[:size])
    assert_refused(read_dicom, series, r"IM0006\.dcm")


def test_an_empty_folder_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "nested").mkdir(parents=True)
    assert_refused(read_dicom, tmp_path / "empty", "no DICOM file in this folder")
    (tmp_path / "scan.mha").write_bytes(b"ObjectType = Image\n" * 20)
    assert_refused(read_dicom, tmp_path / "scan.mha", "not a readable DICOM file")


@pytest.mark.parametrize("written", ["with meta", "implicit", "explicit", "big endian"])
def test_files_without_a_preamble_or_header(series: Path, written: str) -> None:
    for file in series.iterdir():
        plain = Dataset()
        plain.update(pydicom.dcmread(file))
        if written == "with meta":
            # The meta group alone, after neither preamble nor "DICM".
            file.write_bytes(file.read_bytes()[132:])
        else:
            if written == "big endian":
                plain.PixelData = np.frombuffer(plain.PixelData, "<u2").astype(">u2").tobytes()
            little = written != "big endian"
            plain.save_as(file, implicit_vr=written == "implicit", little_endian=little, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
        file.rename(file.with_suffix(""))
    np.testing.assert_array_equal(read(series)[0], ct())


# --- what is no CT volume ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "fragment"),
    [
        ({"Modality": "MR"}, "6 x MR object (Modality)"),
        ({"Modality": "MR", "SOPClassUID": MR}, "6 x MR object (Modality)"),
        ({"Modality": None, "SOPClassUID": MR}, "object whose Modality is missing"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "6 x localizer"),
        ({"SOPClassUID": CAPTURE}, "6 x secondary capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "6 x secondary capture"),
        ({"SOPClassUID": CAPTURE, "SeriesDescription": "Dose Report"}, "6 x dose report"),
        ({"ImagePositionPatient": [-120, -130.5, 7]}, "6 axial CT slices, at one place"),
    ],
)
def test_what_is_no_ct_volume_is_refused(series: Path, tags: Any, fragment: str) -> None:
    edit(series, lambda dataset: set_tags(dataset, tags))
    assert_refused(read_dicom, series, "is not a CT volume", fragment, "for example IM0001.dcm")


def test_colour_images_and_structured_reports_are_refused(series: Path, tmp_path: Path) -> None:
    edit(series, to_rgb)
    assert_refused(read_dicom, series, "is not a CT volume", "6 x RGB colour image")
    assert_refused(read_dicom, series / "IM0001.dcm", "is not a CT volume", "1 x RGB colour image")
    dose_report(tmp_path / "dose" / "report")
    assert_refused(read_dicom, tmp_path / "dose", "is not a CT volume", "1 x dose report")


def test_one_slice_is_refused(series: Path) -> None:
    assert_refused(read_dicom, series / "IM0003.dcm", "holds one slice; expected a volume")
    for file in sorted(series.iterdir())[1:]:
        file.unlink()
    assert_refused(read_dicom, series, "holds one slice; expected a volume")
    edit(series, lambda dataset: delattr(dataset, "Modality"))
    assert_refused(read_dicom, series, "holds one slice whose Modality is missing; expected 'CT'")


def test_a_ct_class_without_modality_is_read_and_said(series: Path) -> None:
    edit(series, lambda dataset: delattr(dataset, "Modality"))
    hu, repairs = read(series)
    np.testing.assert_array_equal(hu, ct())
    assert repairs == ("Modality is missing; SOPClassUID says CT",)


# --- which series -----------------------------------------------------------------------------------------------------


def test_what_lies_beside_the_one_volume_is_left_out_and_listed(series: Path) -> None:
    folder = series.parent
    other_series(folder / "scout", 2, 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesDescription="Scout")
    other_series(folder / "lone", 3, 1)
    other_series(folder / "bolus", 4, 5, ImagePositionPatient=[-120, -130.5, 7], SeriesDescription="Monitoring")
    write_series(folder / "mr", ct(seed=5), SeriesInstanceUID="1.2.5", Modality="MR")
    edit(other_series(folder / "rgb", 6), to_rgb)
    dose_report(folder / "dose" / "report.dcm")
    hu, repairs = read(folder)
    np.testing.assert_array_equal(hu, ct())
    assert len(repairs) == 1
    chosen, left_out = repairs[0].split(" was chosen; left out: ")
    assert chosen == "series ? '' (6 axial CT slices, 5.00 mm apart, for example a/IM0001.dcm)"
    for fragment in (
        "series ? 'Scout' (2 x localizer, for example scout/IM0001.dcm)",
        "(1 axial CT slice, at one place, for example lone/IM0001.dcm)",
        "'Monitoring' (5 axial CT slices, at one place",
        "6 x MR object",
        "6 x RGB colour image",
        "'Radiation dose' (1 x dose report, for example dose/report.dcm)",
    ):
        assert fragment in left_out


def test_localizers_inside_the_series_are_left_out_and_said(series: Path) -> None:
    def to_scout(dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    edit(series, to_scout, only=0)
    hu, repairs = read(series)
    np.testing.assert_array_equal(hu, ct()[:-1])
    assert repairs == ("1 x localizer in the series left out",)


CHEST: dict[str, Any] = {"BodyPartExamined": "CHEST"}
HEAD: dict[str, Any] = {"BodyPartExamined": "HEAD"}
ORIGINAL, DERIVED = ({"ImageType": [kind, "PRIMARY", "AXIAL"]} for kind in ("ORIGINAL", "DERIVED"))


@pytest.mark.parametrize(
    ("wanted", "other", "axcodes", "names"),
    [
        (CHEST, HEAD, "LPS", "ab"),
        ({"BodyPartExamined": "Thorax"}, HEAD, "LPS", "ba"),
        (ORIGINAL, DERIVED, "LPS", "ab"),
        (ORIGINAL, DERIVED, "LPS", "ba"),
        (DERIVED, ORIGINAL, "LIP", "ba"),  # coronal
        ({}, {}, "PIL", "ab"),  # sagittal
        (DERIVED | CHEST, ORIGINAL | HEAD, "LPS", "ba"),  # the part of the body goes first
    ],
)
def test_the_rules_choose(
    tmp_path: Path, wanted: dict[str, Any], other: dict[str, Any], axcodes: str, names: str
) -> None:
    write_series(tmp_path / names[0], SeriesDescription="wanted", **wanted)
    write_dicom_series(ct(seed=1), affine(), tmp_path / names[1], "p1", axcodes=axcodes)
    edit(tmp_path / names[1], lambda dataset: set_tags(dataset, other))
    hu, repairs = read(tmp_path)
    np.testing.assert_array_equal(hu, ct())
    assert "'wanted'" in repairs[0].split("left out")[0]
    assert f"for example {names[1]}/IM0001.dcm" in repairs[0].split("left out")[1]


def test_a_coronal_volume_alone_is_the_volume(tmp_path: Path) -> None:
    write_dicom_series(ct(), affine(), tmp_path, axcodes="LIP")
    assert read_dicom(tmp_path)[0].shape == (10, 6, 12)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {}),
        (CHEST, {}),  # what names no part may be the chest
        (HEAD, {"BodyPartExamined": "NECK"}),
        (CHEST | DERIVED, CHEST | DERIVED),
        (CHEST, CHEST | {"RescaleSlope": None}),  # what cannot be read may be the one that is meant
    ],
)
def test_what_the_rules_leave_open_is_refused_with_the_list(
    tmp_path: Path, one: dict[str, Any], two: dict[str, Any]
) -> None:
    write_series(tmp_path / "a", SeriesNumber=3, SeriesDescription="LUNG 1.0", **one)
    other_series(tmp_path / "b", slices=4, SeriesNumber=4, **two)
    assert_refused(
        read_dicom,
        tmp_path,
        "2 CT volumes of 1 patient could be meant",
        "expected one; put the wanted series into a folder",
    )
    with pytest.raises(
        ValueError, match=r"series 3 'LUNG 1\.0' \(6 axial CT slices, 5\.00 mm apart, for example a/IM0001"
    ):
        read_dicom(tmp_path)


def test_the_rules_do_not_choose_between_patients(tmp_path: Path) -> None:
    write_series(tmp_path / "a", **CHEST)
    other_series(tmp_path / "b", PatientID="p2", **HEAD)
    assert_refused(read_dicom, tmp_path, "2 CT volumes of 2 patients could be meant")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for number in range(14):
        other_series(tmp_path / f"{number:02}", number, 2)
    assert_refused(read_dicom, tmp_path, "14 CT volumes", "11/IM0001.dcm) and 2 more")


def test_a_chosen_series_that_cannot_be_read_says_why(series: Path) -> None:
    other_series(series.parent / "b", **HEAD)
    edit(series, lambda dataset: set_tags(dataset, CHEST))
    edit(series, lambda dataset: delattr(dataset, "RescaleSlope"), only=3)
    with pytest.raises(ValueError, match=r"a/IM0004\.dcm: RescaleSlope is missing"):
        read_dicom(series.parent)


def test_a_series_stored_twice_is_read_once(series: Path) -> None:
    shutil.copytree(series, series.parent / "b")
    hu, repairs = read(series.parent)
    np.testing.assert_array_equal(hu, ct())
    assert repairs == ("6 identical copies of slices were left out",)
