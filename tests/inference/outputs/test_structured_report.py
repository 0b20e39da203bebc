from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_harness import enhance, write_series
from dicom_validator import validate
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from result_harness import result_of

from inference.outputs.dicom_seg import find_segments, write_segmentation
from inference.outputs.structured_report import write_measurements_report
from inference.result import Result

VOXEL_ML = 0.75 * 0.5 * 5 / 1000


def write_both(result: Result, folder: Path) -> Path:
    write_segmentation(result, folder / "seg.dcm")
    write_measurements_report(result, folder / "seg.dcm", folder / "sr.dcm")
    return folder / "sr.dcm"


def groups(path: Path) -> dict[str, tuple[str, dict[str, tuple[object, str]]]]:
    """The measurement groups, as highdicom reads them: label -> (code, {name: (value, unit)})."""
    content = highdicom.sr.srread(path).content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    measured = {}
    for group in content.get_volumetric_roi_measurement_groups():
        values: dict[str, tuple[object, str]] = {
            each.name.meaning: (each.value, each.unit.value) for each in group.get_measurements()
        }
        assert group.tracking_identifier is not None
        assert group.finding_type is not None
        measured[group.tracking_identifier] = (group.finding_type.value, values)
    return measured


def texts(dataset: Dataset) -> Iterator[str]:
    """Every text in a report, as pydicom reads it."""
    for item in dataset.get("ContentSequence", []):
        if item.ValueType == "TEXT":
            yield item.TextValue
        yield from texts(item)


@pytest.mark.parametrize("task", ["infection", "consolidation", "opacity"])
def test_it_is_valid_and_holds_the_volumes_of_the_segments(tmp_path: Path, task: str) -> None:
    result = result_of(write_series(tmp_path / "series", PatientName="Doe^Jane"), task)
    path = write_both(result, tmp_path)
    errors, _ = validate(path)
    assert errors == []
    segments = find_segments(result.masks, result.classes)
    measured = groups(path)
    assert list(measured) == [segment.label for segment in segments]
    for segment in segments:
        code, values = measured[segment.label]
        assert code == segment.code.value
        assert values["Volume"] == (pytest.approx(segment.mask.sum() * VOXEL_ML), "ml")


def test_the_lungs_hold_the_scores(tmp_path: Path) -> None:
    result = result_of(write_series(tmp_path / "series"))
    values = groups(write_both(result, tmp_path))["lungs"][1]
    lung, infection, consolidation = (int(result.masks[name].sum()) for name in ("lungs", "infection", "consolidation"))
    assert values["Volume of infected lung"] == (pytest.approx(infection * VOXEL_ML), "ml")
    assert values["Infected share of the lung volume"] == (pytest.approx(infection / lung), "1")
    assert values["Consolidated share of the lung volume"] == (pytest.approx(consolidation / lung), "1")
    assert values["Well-aerated lung"] == (pytest.approx(100 * (1 - infection / lung)), "%")


def test_what_is_undefined_is_left_out(tmp_path: Path) -> None:
    result = result_of(write_series(tmp_path / "series"))
    measured = {name: value for name, value in result.measurements.items() if name != "wal_percent"}
    undefined = replace(result, measurements=measured | {"severity_score": None})
    values = groups(write_both(undefined, tmp_path))["lungs"][1]
    assert not {"Infected share of the lung volume", "Well-aerated lung"} & set(values)
    assert "Consolidated share of the lung volume" in values


@pytest.mark.parametrize("enhanced", [False, True])
def test_it_refers_to_the_segmentation_and_the_source(tmp_path: Path, enhanced: bool) -> None:
    folder = write_series(tmp_path / "series")
    if enhanced:
        folder = enhance(sorted(folder.iterdir()), tmp_path / "e" / "one.dcm").parent
    path = write_both(result_of(folder), tmp_path)
    report, segmentation = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "seg.dcm")
    assert validate(path)[0] == []
    uids = {file.SOPInstanceUID for file in map(pydicom.dcmread, folder.iterdir())} | {segmentation.SOPInstanceUID}
    evidence = [
        reference.ReferencedSOPInstanceUID
        for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in report.get(name, [])
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]
    assert sorted(evidence) == sorted(uids)
    referenced = [
        (item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID, item.ReferencedSOPSequence[0].ReferencedSegmentNumber)
        for group in report.ContentSequence[-1].ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert referenced == [(segmentation.SOPInstanceUID, number) for number in (1, 2, 3)]
    for tag in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert report[tag].value == segmentation[tag].value


def test_flags_are_text_in_the_report(tmp_path: Path) -> None:
    flags = ("Only 210 ml of lung were found.", "Part of the lung is cut off.")
    path = write_both(result_of(write_series(tmp_path / "series"), flags=flags), tmp_path)
    report = pydicom.dcmread(path)
    assert set(flags) <= set(texts(report))
    assert "FLAGGED" in report.SeriesDescription
    assert validate(path)[0] == []
    items = highdicom.sr.srread(path).content[0].ContentSequence
    container = next(item for item in items if item.name.meaning == "Qualitative Evaluations")
    assert [item.value for item in container.ContentSequence] == list(flags)
    assert {item.name for item in container.ContentSequence} == {codes.DCM.Comment}


def test_how_good_the_model_is_stands_in_the_report(tmp_path: Path) -> None:
    report = pydicom.dcmread(write_both(result_of(write_series(tmp_path / "series")), tmp_path))
    line = "trained on 76 scans of 3 sites; validation: consolidation Dice 0.65 over 6 scans"
    assert f"card: {line}" in set(texts(report))


def test_without_flags_nothing_is_said(tmp_path: Path) -> None:
    report = pydicom.dcmread(write_both(result_of(write_series(tmp_path / "series")), tmp_path))
    assert "FLAGGED" not in report.SeriesDescription
    assert "Qualitative Evaluations" not in str(report)


def test_simpleitk_reads_the_same_header(tmp_path: Path) -> None:
    path = write_both(result_of(write_series(tmp_path / "series", PatientName="Doe^Jane")), tmp_path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(tmp_path / "seg.dcm"))
    reader.ReadImageInformation()
    report = pydicom.dcmread(path)
    for key, tag in (
        ("0010|0010", "PatientName"),
        ("0020|000d", "StudyInstanceUID"),
        ("0018|1020", "SoftwareVersions"),
    ):
        assert reader.GetMetaData(key).strip(" \0") == str(report[tag].value)
    assert np.array_equal(reader.GetSize()[:2], (10, 12))
