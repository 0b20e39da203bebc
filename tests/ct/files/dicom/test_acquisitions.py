from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_harness import ct, edit, enhance, set_tags, write_series
from pydicom.dataset import Dataset
from pydicom.uid import LegacyConvertedEnhancedCTImageStorage
from refusing import assert_refused

from ct.files.dicom.acquisitions import Mixture, find_mixture
from ct.files.dicom.volume import read_dicom

SLICES = 6


def mixed(folder: Path, *acquisitions: Mapping[str, object], step_mm: float = 5.0) -> Path:
    """Write acquisitions of six slices into one series, each shifted by a part of the step; values of tags for each.

    A value may be a function of the slice's number, from 0 at the head.
    """
    for number, tags in enumerate(acquisitions):
        same = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2.4", "FrameOfReferenceUID": "1.2.5"}
        part = write_series(folder / str(number), ct(SLICES, seed=number), **same)
        shift = step_mm * number / len(acquisitions)

        def change(dataset: Dataset, tags: Mapping[str, object] = tags, shift: float = shift) -> None:
            at = int(dataset.InstanceNumber) - 1
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, float(z) + shift]
            set_tags(dataset, {tag: value(at) if callable(value) else value for tag, value in tags.items()})

        edit(part, change)
    return folder


def each(tag: str, *values: object) -> list[dict[str, object]]:
    return [{tag: value} for value in values]


RISING = {
    "AcquisitionTime": lambda at: f"12000{at}",
    "AcquisitionNumber": lambda at: at + 1,
    "TriggerTime": lambda at: str(400 + (at * 7) % 5),
}
LATER = {
    "AcquisitionTime": lambda at: f"12050{at}",
    "AcquisitionNumber": lambda at: at + 7,
    "TriggerTime": lambda at: str(750 + (at * 3) % 5),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (*each("AcquisitionNumber", 1, 2), "AcquisitionNumber"),
        (*each("AcquisitionTime", "120000", "120500"), "AcquisitionTime"),
        (*each("ImageComments", "inspiration", "expiration"), "ImageComments"),
        (*each("ConvolutionKernel", "B30f", "B70f"), "ConvolutionKernel"),
        (*each("KVP", "80", "140"), "KVP"),
        (*each("Exposure", 20, 100), "Exposure"),
        (*each("TriggerTime", "400", "750"), "TriggerTime"),
        (*each("ContrastBolusAgent", None, "Iodine"), "ContrastBolusAgent"),
        (*each("TemporalPositionIdentifier", 1, 2), "TemporalPositionIdentifier"),
        (*each("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL", "A"], ["ORIGINAL", "PRIMARY", "AXIAL", "B"]), "ImageType"),
        (*({tag: tags[tag]} for tag in ["AcquisitionTime"] for tags in (RISING, LATER)), "AcquisitionTime"),
        (*({tag: tags[tag]} for tag in ["AcquisitionNumber"] for tags in (RISING, LATER)), "AcquisitionNumber"),
        (RISING, LATER, "AcquisitionNumber, AcquisitionTime, TriggerTime"),
    ],
)
def test_two_acquisitions_half_a_step_apart_are_refused_with_the_list(
    tmp_path: Path, first: dict[str, object], second: dict[str, object], names: str
) -> None:
    first = {tag: value for tag, value in first.items() if value is not None}
    mixed(tmp_path / "scan", first, second)
    listed = [f"acquisition {n} of 2 by {names} (6 axial CT slices, 5.00 mm apart, for example " for n in (1, 2)]
    assert_refused(read_dicom, tmp_path / "scan", "2 CT volumes of 1 patient could be meant", *listed, "export each")


def test_three_acquisitions_and_kernels_within_each_are_taken_apart(tmp_path: Path) -> None:
    mixed(tmp_path / "three", *each("AcquisitionNumber", 1, 2, 3))
    assert_refused(read_dicom, tmp_path / "three", "3 CT volumes", "acquisition 3 of 3 by AcquisitionNumber")
    crossed = [{"AcquisitionNumber": n, "ConvolutionKernel": k} for n, k in ((1, "A"), (2, "A"), (1, "B"), (2, "B"))]
    mixed(tmp_path / "four", *crossed)
    assert_refused(read_dicom, tmp_path / "four", "4 CT volumes", "(6 axial CT slices, 5.00 mm apart")


def test_shifts_of_other_than_half_a_step_are_told_apart_too(tmp_path: Path) -> None:
    mixed(tmp_path, *each("AcquisitionNumber", 1, 2), step_mm=1.7)
    assert_refused(read_dicom, tmp_path, "2 CT volumes", "acquisition 2 of 2 by AcquisitionNumber")


def test_the_rules_choose_between_acquisitions_as_between_series(tmp_path: Path) -> None:
    kinds = each("ImageType", ["DERIVED", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "AXIAL"])
    mixed(tmp_path, *kinds)
    voxels, affine, repairs, _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), ct(SLICES, seed=1))
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(5)
    assert len(repairs) == 1
    chosen, left_out = repairs[0].split(" was chosen; left out: ")
    assert "of 2 by ImageType (6 axial CT slices, 5.00 mm apart, for example 1/IM" in chosen
    assert "of 2 by ImageType (6 axial CT slices, 5.00 mm apart, for example 0/IM" in left_out


def test_two_patients_in_one_series_are_never_chosen_between(tmp_path: Path) -> None:
    kinds = (["DERIVED", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "AXIAL"])
    mixed(tmp_path, *({"PatientID": f"p{n}", "ImageType": kind} for n, kind in enumerate(kinds)))
    assert_refused(read_dicom, tmp_path, "2 CT volumes of 2 patients could be meant")


def test_two_acquisitions_at_the_same_places_are_refused_with_what_tells_them_apart(tmp_path: Path) -> None:
    mixed(tmp_path, *each("AcquisitionNumber", 1, 2), step_mm=0)
    assert_refused(
        read_dicom, tmp_path, "two slices lie at the same place", "(also in AcquisitionNumber)", named=tmp_path
    )


@pytest.mark.parametrize(
    "tags",
    [
        {"InstanceNumber": lambda at: (at * 5) % 12 + 1, "ContentTime": lambda at: f"12{(at * 7) % 12:02}00"},
        {"InstanceNumber": lambda at: at // 2 + 6 * (at % 2) + 1, "ContentTime": lambda at: f"12{at % 2:02}{at:02}"},
        {"Exposure": lambda at: 100 + at % 4, "ExposureTime": lambda at: 500 + at % 6},
        {"Exposure": lambda at: int(100 + 20 * np.sin(at)), "XRayTubeCurrent": lambda at: 200 + at * at % 7},
        {"AcquisitionTime": lambda at: f"1200{at:02}", "AcquisitionNumber": 4},
        {"AcquisitionTime": lambda at: f"1200{at // 3:02}", "AcquisitionNumber": lambda at: at // 3 + 1},
        {"AcquisitionTime": lambda at: f"1200{30 - at:02}.5", "AcquisitionNumber": lambda at: at + 1},
        {
            "AcquisitionNumber": lambda at: 2 if at < 6 else 1,
            "ImageComments": lambda at: "upper" if at < 6 else "lower",
        },
        {"AcquisitionNumber": lambda at: 1 if at % 6 else 2, "ImageComments": lambda at: "first" if at == 0 else None},
        {
            "AcquisitionTime": lambda at: "120000.0" if at % 2 else "120000",
            "KVP": lambda at: "120" if at % 2 else "120.0",
        },
        {"SliceThickness": "5", "TriggerTime": lambda at: str(700 + (at // 4) * 900)},
    ],
)
def test_what_merely_differs_within_one_acquisition_changes_nothing(tmp_path: Path, tags: dict[str, object]) -> None:
    series = write_series(tmp_path, ct(12))

    def change(dataset: Dataset) -> None:
        at = int(dataset.InstanceNumber) - 1
        values = {tag: value(at) if callable(value) else value for tag, value in tags.items()}
        set_tags(dataset, {tag: value for tag, value in values.items() if value is not None})

    edit(series, change)
    voxels, _, repairs, _ = read_dicom(series)
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), ct(12))
    assert repairs == ()


def test_copies_of_slices_do_not_hide_a_mixture(tmp_path: Path) -> None:
    mixed(tmp_path, *each("AcquisitionNumber", 1, 2))
    copy = pydicom.dcmread(tmp_path / "1" / "IM0003.dcm")
    copy.save_as(tmp_path / "0" / "another.dcm")
    assert_refused(read_dicom, tmp_path, "2 CT volumes", "7 axial CT slices, 5.00 mm apart")


# --- enhanced multi-frame ---------------------------------------------------------------------------------------------


def set_in_frames(file: Path, group: str, tag: str, value: Callable[[int], object]) -> Path:
    """Set a tag in a functional group of every frame; the value is a function of the frame's number."""
    dataset = pydicom.dcmread(file)
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        item = Dataset()
        setattr(item, tag, value(number))
        setattr(frame, group, [item])
    dataset.save_as(file)
    return file


@pytest.mark.parametrize(
    ("group", "tag", "value"),
    [
        ("FrameContentSequence", "FrameAcquisitionNumber", lambda frame: 1 + frame // SLICES),
        ("FrameContentSequence", "FrameAcquisitionDateTime", lambda frame: f"2026010112{frame:02}00.5+0100"),
        ("FrameContentSequence", "FrameComments", lambda frame: "in" if frame < SLICES else "out"),
        ("CTReconstructionSequence", "ConvolutionKernel", lambda frame: "B30f" if frame < SLICES else "B70f"),
        ("CTXRayDetailsSequence", "KVP", lambda frame: 80 if frame < SLICES else 140),
        ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", lambda frame: 40 + frame // SLICES),
        ("UnassignedPerFrameConvertedAttributesSequence", "AcquisitionNumber", lambda frame: 1 + frame // SLICES),
    ],
)
def test_frames_of_two_acquisitions_are_refused_with_the_list(
    tmp_path: Path, group: str, tag: str, value: Callable[[int], object]
) -> None:
    mixed(tmp_path / "single", {}, {})
    files = [*sorted((tmp_path / "single" / "0").iterdir()), *sorted((tmp_path / "single" / "1").iterdir())]
    file = enhance(files, tmp_path / "e.dcm", LegacyConvertedEnhancedCTImageStorage)
    assert read_dicom(file)[0].shape == (10, 12, 12)
    set_in_frames(file, group, tag, value)
    assert_refused(read_dicom, file, "2 CT volumes of 1 patient", f"acquisition 2 of 2 by {tag} (6 axial CT slices")


def test_frames_of_one_acquisition_are_one_volume(tmp_path: Path) -> None:
    files = sorted(write_series(tmp_path / "single", ct(12)).iterdir())
    file = enhance(files, tmp_path / "e.dcm")
    set_in_frames(file, "FrameContentSequence", "FrameAcquisitionDateTime", lambda frame: f"2026010112{frame:02}00.5")
    set_in_frames(file, "CTExposureSequence", "ExposureInmAs", lambda frame: 50.0 + (frame * 5) % 7)
    np.testing.assert_array_equal(read_dicom(file)[0].transpose(2, 1, 0), ct(12))


def test_two_enhanced_files_of_one_series_half_a_step_apart(tmp_path: Path) -> None:
    mixed(tmp_path / "single", *each("AcquisitionNumber", 1, 2))
    for number in "01":
        enhance(sorted((tmp_path / "single" / number).iterdir()), tmp_path / "e" / f"{number}.dcm")
    assert_refused(read_dicom, tmp_path / "e", "2 CT volumes", "of 2 by AcquisitionNumber (6 axial CT slices")


# --- the criterion itself ---------------------------------------------------------------------------------------------


def mixture(tag: str, values: Iterable[object]) -> Mixture | None:
    return find_mixture([{tag: str(value)} for value in values])


def test_chance_hardly_ever_looks_like_a_mixture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert mixture("Exposure", rng.integers(100, 103, 40)) is None
        assert mixture("TriggerTime", rng.normal(400, 10, 40)) is None


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("slices", [20, 21, 22, 23])
def test_it_finds_how_many_acquisitions_there_are(count: int, slices: int) -> None:
    mixed = mixture("AcquisitionTime", [120000 + 100 * (at % count) + at for at in range(slices)])
    assert mixed is not None
    assert (mixed.count, mixed.tags) == (count, ("AcquisitionTime",))
    by_voltage = mixture("KVP", [80 + at % count for at in range(slices)])
    assert by_voltage is not None
    assert by_voltage.count == count
    assert mixture("KVP", [80 + at % count + at // (slices - 1) * 40 for at in range(slices)]) is None
    assert mixture("AcquisitionTime", [120000 + at // count for at in range(slices)]) is None
