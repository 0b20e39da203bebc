import itertools
import json
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_harness import affine, ct, edit, enhance, set_tags, write_series
from dicom_validator import validate
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from refusing import assert_refused
from result_harness import result_of

from ct.classes import COLOUR_OF
from ct.colours import rgb_of
from ct.files.dicom.export import write_dicom_series
from inference.outputs.dicom_seg import find_segments, write_segmentation
from inference.outputs.write_outputs import NUMBERS, PAGE, REPORT, SEGMENTATION, write_outputs

LPS = np.array([-1.0, -1.0, 1.0])
ORIENTATIONS = sorted(
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
)
TASKS = ("infection", "consolidation", "opacity")


def shuffle(folder: Path) -> None:
    """Rename and number the files of a series by chance."""
    files = sorted(folder.iterdir())
    numbers = random.Random(3).sample(range(len(files)), len(files))
    for file, number in zip(files, numbers, strict=True):
        file.rename(folder / f"shuffled{number}.dcm")
        edit(folder, partial(set_tags, tags={"InstanceNumber": number + 1}), only=number)


def expected_centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centre of a canonical mask in LPS+ mm, by the affine that the scan was written with."""
    z, y, x = (axis.mean() for axis in np.nonzero(mask))
    return LPS * (affine() @ [x, y, z, 1])[:3]


def centres(path: Path, pixels: Iterable[NDArray[np.uint8]]) -> dict[int, NDArray[np.float64]]:
    """Centre of every segment in LPS+ mm, from the tags of its frames."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    down_mm, across_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    points: dict[int, list[NDArray[np.float64]]] = {}
    for frame, marked in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        down, across = np.nonzero(marked)
        points.setdefault(number, []).append(
            origin + np.outer(across * across_mm, row) + np.outer(down * down_mm, column)
        )
    return {number: np.concatenate(coordinates).mean(axis=0) for number, coordinates in points.items()}


def by_highdicom(path: Path, number: int) -> NDArray[np.float64]:
    volume = highdicom.seg.segread(path).get_volume(segment_numbers=[number], combine_segments=False)
    index = [axis.mean() for axis in np.nonzero(volume.array[..., 0])]
    return (volume.affine @ [*index, 1])[:3]


@pytest.mark.slow
@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_segment_stays_in_its_place(tmp_path: Path, axcodes: str) -> None:
    write_dicom_series(ct(), affine(), tmp_path / "series", "p1", axcodes=axcodes)
    shuffle(tmp_path / "series")
    result = result_of(tmp_path / "series")
    write_segmentation(result, tmp_path / "seg.dcm")
    by_itk = centres(tmp_path / "seg.dcm", SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "seg.dcm"))))
    by_pydicom = centres(tmp_path / "seg.dcm", pydicom.dcmread(tmp_path / "seg.dcm").pixel_array)
    for number, segment in enumerate(find_segments(result.masks, result.classes), start=1):
        expected = expected_centre(segment.mask)
        for centre in (by_itk[number], by_pydicom[number], by_highdicom(tmp_path / "seg.dcm", number)):
            # Half a voxel is 0.25 mm; nothing is resampled, so nothing moves at all.
            np.testing.assert_allclose(centre, expected, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_valid_and_holds_the_masks(tmp_path: Path, task: str) -> None:
    result = result_of(write_series(tmp_path / "series", PatientName="Doe^Jane"), task)
    write_segmentation(result, tmp_path / "seg.dcm")
    errors, _ = validate(tmp_path / "seg.dcm")
    assert errors == []
    segments = find_segments(result.masks, result.classes)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [str(item.SegmentLabel) for item in dataset.SegmentSequence] == [segment.label for segment in segments]
    counts = np.zeros(len(segments), int)
    for frame, marked in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        counts[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1] += marked.sum()
    assert counts.tolist() == [int(segment.mask.sum()) for segment in segments]
    infected = result.masks["infection"]
    np.testing.assert_array_equal(np.sum([segment.mask for segment in segments[1:]], axis=0), infected)


def test_codes_are_those_of_the_groups(tmp_path: Path) -> None:
    result = result_of(write_series(tmp_path / "series"), "opacity")
    write_segmentation(result, tmp_path / "seg.dcm")
    items = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    codes = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in items]
    assert codes == ["39607008", "1217294009", "1217294009", "95436008"]
    for item in items:
        assert item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.1.0"


@pytest.mark.parametrize(
    ("task", "things"),
    [
        ("infection", ["lungs", "infection"]),
        ("consolidation", ["lungs", "infection", "consolidation"]),
        ("opacity", ["lungs", "group_2", "group_3", "group_4"]),
    ],
)
def test_segments_ask_to_be_shown_in_the_colours_of_all_outputs(tmp_path: Path, task: str, things: list[str]) -> None:
    write_segmentation(result_of(write_series(tmp_path / "series"), task), tmp_path / "seg.dcm")
    items = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    for item, thing in zip(items, things, strict=True):
        rgb = CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue).to_rgb()
        np.testing.assert_allclose(rgb, rgb_of(COLOUR_OF[thing]), atol=1)  # Lab is stored in 16 bits


def test_each_frame_names_the_slice_it_was_made_from(tmp_path: Path) -> None:
    result = result_of(write_series(tmp_path / "series"))
    write_segmentation(result, tmp_path / "seg.dcm")
    place = {d.SOPInstanceUID: d.ImagePositionPatient for d in map(pydicom.dcmread, (tmp_path / "series").iterdir())}
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert frame.PlanePositionSequence[0].ImagePositionPatient == place[uid]
    named = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in named} == set(place)
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    for tag in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[tag].value == source[tag].value
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID


@pytest.mark.parametrize("own", [("PlanePositionSequence",), ("PlanePositionSequence", "PlaneOrientationSequence")])
def test_enhanced_frames_are_named_by_number(tmp_path: Path, own: tuple[str, ...]) -> None:
    files = sorted(write_series(tmp_path / "single").iterdir())
    order = [2, 0, 5, 1, 4, 3]
    source = enhance([files[n] for n in order], tmp_path / "e" / "enhanced.dcm", own=own)
    result = result_of(tmp_path / "e")
    write_segmentation(result, tmp_path / "seg.dcm")
    frames_of_source = pydicom.dcmread(source).PerFrameFunctionalGroupsSequence
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(source).SOPInstanceUID
    assert len(dataset.SourceImageSequence) == 1
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
        original = frames_of_source[reference.ReferencedFrameNumber - 1]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position == original.PlanePositionSequence[0].ImagePositionPatient
    for number, centre in centres(tmp_path / "seg.dcm", dataset.pixel_array).items():
        np.testing.assert_allclose(
            centre, expected_centre(find_segments(result.masks, result.classes)[number - 1].mask), atol=1e-4
        )
    assert validate(tmp_path / "seg.dcm")[0] == []


@pytest.mark.slow
def test_several_enhanced_files_of_one_series(tmp_path: Path) -> None:
    files = sorted(write_series(tmp_path / "single").iterdir())
    sources = [enhance(part, tmp_path / "e" / f"{n}.dcm") for n, part in enumerate((files[3:], files[:3]))]
    write_segmentation(result_of(tmp_path / "e"), tmp_path / "seg.dcm")
    named = pydicom.dcmread(tmp_path / "seg.dcm").SourceImageSequence
    assert {item.ReferencedSOPInstanceUID for item in named} == {pydicom.dcmread(s).SOPInstanceUID for s in sources}


def test_what_the_source_lacks_or_says_wrongly_is_left_empty(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100", "PatientSex": "X", "StudyDate": "2020",
        "StudyTime": "noon", "FrameOfReferenceUID": None, "StudyInstanceUID": None, "AccessionNumber": "7",
    }  # fmt: skip
    write_segmentation(result_of(write_series(tmp_path / "series", **odd)), tmp_path / "seg.dcm")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert validate(tmp_path / "seg.dcm")[0] == []
    assert str(dataset.PatientName) == "Müller^Jörg"
    assert [dataset.PatientSex, dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber] == ["", "", "", "7"]


def test_noise_in_directions_and_copies_of_slices_change_nothing(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    edit(folder, lambda d: set_tags(d, {"ImageOrientationPatient": [1, 0.0008, 0, -0.0008, 1, 0]}), only=2)
    copy = pydicom.dcmread(folder / "IM0004.dcm")
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    copy.save_as(folder / "copy.dcm")
    result = result_of(folder)
    write_segmentation(result, tmp_path / "seg.dcm")
    assert len(pydicom.dcmread(tmp_path / "seg.dcm").SourceImageSequence) == 6
    for number, segment in enumerate(find_segments(result.masks, result.classes), start=1):
        np.testing.assert_allclose(by_highdicom(tmp_path / "seg.dcm", number), expected_centre(segment.mask), atol=0.02)


def test_an_empty_finding_keeps_its_segment(tmp_path: Path) -> None:
    result = result_of(write_series(tmp_path / "series"))
    result.masks["consolidation"][:] = False
    write_segmentation(result, tmp_path / "seg.dcm")
    assert len(pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence) == 3
    assert validate(tmp_path / "seg.dcm")[0] == []


def test_flags_are_said(tmp_path: Path) -> None:
    flags = ("Only 210 ml of lung were found.", "Part of the lung is cut off.")
    write_segmentation(result_of(write_series(tmp_path / "series"), flags=flags), tmp_path / "seg.dcm")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert all(flag in dataset.ImageComments for flag in flags)
    assert "FLAGGED" in dataset.SeriesDescription
    assert "FLAGGED" in dataset.ContentDescription


def test_how_good_the_model_is_stands_in_the_comments_and_beside_the_algorithm(tmp_path: Path) -> None:
    write_segmentation(result_of(write_series(tmp_path / "series")), tmp_path / "seg.dcm")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    line = "trained on 76 scans of 3 sites; validation: consolidation Dice 0.65 over 6 scans"
    assert dataset.ImageComments == f"Model: {line}."
    for segment in dataset.SegmentSequence:
        assert f"card={line}" in segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert validate(tmp_path / "seg.dcm")[0] == []


def test_a_source_that_has_changed_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    result = result_of(folder)
    (folder / "IM0001.dcm").unlink()
    assert_refused(lambda path: write_segmentation(result, path), tmp_path / "seg.dcm", "have changed", named=folder)
    assert not (tmp_path / "seg.dcm").exists()


ZEROS = {"StudyInstanceUID": "1.2.826.0.1.0034.5", "SeriesInstanceUID": "1.2.0034.6", "FrameOfReferenceUID": "1.02.7"}
TOO_LONG = "1.2." + "3" * 61


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*for VR UI", "ignore:.*value length")
@pytest.mark.parametrize(
    "written", [str, " {}".format, "{} ".format, "{}\0\0".format], ids=["", "before", "after", "zeros"]
)
def test_uids_with_leading_zeros_or_odd_padding_stay_those_of_the_archive(
    tmp_path: Path, written: Callable[[str], str]
) -> None:
    numbers = itertools.count(1)
    odd: dict[str, Any] = {tag: written(uid) for tag, uid in ZEROS.items()}
    instances = [f"1.2.0034.8.{number}" for number in range(1, 7)]
    series = write_series(tmp_path / "s", **odd, SOPInstanceUID=lambda _: written(f"1.2.0034.8.{next(numbers)}"))
    assert b"0034.8.6" in (series / "IM0006.dcm").read_bytes()
    write_outputs(result_of(series), tmp_path / "out")
    assert json.loads((tmp_path / "out" / NUMBERS).read_text())["warnings"] == []
    seg = pydicom.dcmread(tmp_path / "out" / SEGMENTATION)
    report = pydicom.dcmread(tmp_path / "out" / REPORT)
    assert seg.StudyInstanceUID == report.StudyInstanceUID == ZEROS["StudyInstanceUID"]
    assert seg.FrameOfReferenceUID == ZEROS["FrameOfReferenceUID"]
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == ZEROS["SeriesInstanceUID"]
    for item in (seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence, seg.SourceImageSequence):
        assert sorted(reference.ReferencedSOPInstanceUID for reference in item) == instances
    evidence = report.CurrentRequestedProcedureEvidenceSequence
    assert {item.StudyInstanceUID for item in evidence} == {ZEROS["StudyInstanceUID"]}
    named = {each.SeriesInstanceUID: each for item in evidence for each in item.ReferencedSeriesSequence}
    sources = named[ZEROS["SeriesInstanceUID"]].ReferencedSOPSequence
    assert sorted(item.ReferencedSOPInstanceUID for item in sources) == instances


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*for VR UI", "ignore:.*value length")
@pytest.mark.parametrize("uid", [TOO_LONG, "ANON-7", "1..2", "1.2. 3", None])
@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SOPInstanceUID"])
def test_uids_that_cannot_be_passed_on_are_said_in_the_outputs(tmp_path: Path, tag: str, uid: str | None) -> None:
    tags: dict[str, Any] = {tag: uid}
    series = write_series(tmp_path / "s", **tags)
    if uid is None:
        edit(series, lambda dataset: dataset.file_meta.__delattr__("MediaStorageSOPInstanceUID"))
    out = tmp_path / "out"
    written = write_outputs(result_of(series), out)
    warnings = json.loads((out / NUMBERS).read_text())["warnings"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{tag} of the source cannot be passed on")
    assert warnings[0] in written.warnings
    assert "cannot be passed on" in (out / PAGE).read_text()
    assert str(uid) not in warnings[0]
    assert validate(out / SEGMENTATION)[0] == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_invalid_uids_of_the_source_become_valid_ones_that_agree(tmp_path: Path) -> None:
    odd: dict[str, Any] = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID"), "896911bf-1143-4c8d")
    odd |= {"SOPInstanceUID": ""}
    result = result_of(write_series(tmp_path / "series", **odd))
    studies = set()
    for name in ("one.dcm", "two.dcm"):
        write_segmentation(result, tmp_path / name)
        assert validate(tmp_path / name)[0] == []
        studies.add(pydicom.dcmread(tmp_path / name).StudyInstanceUID)
    assert len(studies) == 1
