"""Lobes and their scores in every output of a scan."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from chromium import CHROMIUM
from dicom_harness import write_series
from dicom_validator import validate
from drawn_result import make_result
from numpy.typing import NDArray
from open_page import opened
from result_harness import result_of

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import LOBE_SCORES, SUM
from ct.lungs.lobes import DRAWN_MM, Lobes
from ct.resample import coarser_grid
from inference.density import measure_density
from inference.follow_up import follow_up
from inference.lobar_scores import measure_scores
from inference.measure import measure
from inference.outputs.dicom_seg import find_segments, write_segmentation
from inference.outputs.scan_numbers import shown_percent
from inference.outputs.scan_page import write_scan_page
from inference.outputs.structured_report import write_measurements_report
from inference.outputs.write_outputs import write_outputs
from inference.result import Result
from inference.scan_list import Source

CODES = ["42400003", "72481006", "266005", "44714003", "41224006"]  # SNOMED CT, in the order of LOBES


def with_lobes(result: Result) -> Result:
    """The result with its lungs in five stripes for lobes, and what is measured of them."""
    columns = np.flatnonzero((result.masks["lungs"] > 0).any((0, 1)))
    stripes = 1 + np.searchsorted(columns, np.arange(result.scan.hu.shape[2])) * 5 // len(columns)
    labels = np.where(result.masks["lungs"], stripes, 0).astype(np.int8)
    opacity = result.masks["infection"] > 0
    measured = measure(result.scan, result.masks, result.classes, labels)
    grid = coarser_grid(labels.shape, result.scan.spacing_mm, (DRAWN_MM,) * 3)
    lobes = Lobes(labels, grid.apply_mask(labels)[None], 0.0)
    scored = measure_scores(result.scan, lobes, opacity, [], measured, "infection")
    scored |= measure_density(result.scan, result.masks["lungs"] > 0, labels, opacity)
    return replace(result, lobes=labels, measurements=measured | scored)


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return with_lobes(result_of(write_series(tmp_path / "series", PatientName="Doe^Jane")))


def voxels_of(path: Path) -> NDArray[np.int64]:
    """Return the voxels of every segment of a DICOM SEG."""
    dataset = pydicom.dcmread(path)
    counts = np.zeros(len(dataset.SegmentSequence), np.int64)
    for frame, marked in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        counts[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1] += marked.sum()
    return counts


def test_a_segmentation_holds_the_lobes_beside_the_findings(result: Result, tmp_path: Path) -> None:
    write_segmentation(result, tmp_path / "seg.dcm")
    assert validate(tmp_path / "seg.dcm")[0] == []
    assert result.lobes is not None
    segments = find_segments(result.masks, result.classes, result.lobes)
    assert [segment.key for segment in segments[-5:]] == list(LOBES)
    of_lobes = [int((result.lobes == number).sum()) for number in range(1, 6)]
    findings = [int(segment.mask.sum()) for segment in find_segments(result.masks, result.classes)]
    assert voxels_of(tmp_path / "seg.dcm").tolist() == [*findings, *of_lobes]
    items = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[-5:]
    assert [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in items] == CODES
    category = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentedPropertyCategoryCodeSequence[0]
    assert {item.SegmentedPropertyCategoryCodeSequence[0].CodeValue for item in items} == {category.CodeValue}
    volume = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume(
        segment_numbers=[len(findings) + 3], combine_segments=False
    )
    place = [axis.mean() for axis in np.nonzero(volume.array[..., 0])]
    z, y, x = (axis.mean() for axis in np.nonzero(result.lobes == 3))
    expected = (result.scan.affine @ [x, y, z, 1])[:3] * (-1, -1, 1)
    np.testing.assert_allclose((volume.affine @ [*place, 1])[:3], expected, atol=1e-3)


def groups_of(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield code and values by name of every group of measurements of a structured report."""
    content = highdicom.sr.srread(path).content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    for group in content.get_volumetric_roi_measurement_groups():
        assert group.finding_type is not None
        yield group.finding_type.value, {each.name.value: float(each.value) for each in group.get_measurements()}


def test_a_structured_report_holds_the_scores_of_the_lobes(result: Result, tmp_path: Path) -> None:
    write_segmentation(result, tmp_path / "seg.dcm")
    write_measurements_report(result, tmp_path / "seg.dcm", tmp_path / "sr.dcm")
    assert validate(tmp_path / "sr.dcm")[0] == []
    groups = dict(groups_of(tmp_path / "sr.dcm"))
    measured = result.measurements
    for lobe, code in zip(LOBES, CODES, strict=True):
        names = {"infection_ml": "infection_ml", "infection_share": "infection_share", "lobe_score": "score"}
        names |= {"lobe_score_low": "score_low", "lobe_score_high": "score_high", "haa_percent": "haa_percent"}
        expected = {name: measured[f"{lobe}_{key}"] for name, key in names.items()}
        assert {name: groups[code][name] for name in names} == pytest.approx(expected)
    assert groups["39607008"][SUM] == measured[SUM]
    assert groups["39607008"]["percentile_15_hu"] == measured["lung_percentile_15_hu"]


def test_the_meaning_of_every_score_says_up_to_what_it_goes(result: Result, tmp_path: Path) -> None:
    write_segmentation(result, tmp_path / "seg.dcm")
    write_measurements_report(result, tmp_path / "seg.dcm", tmp_path / "sr.dcm")
    content = highdicom.sr.srread(tmp_path / "sr.dcm").content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    meanings = {}
    for group in content.get_volumetric_roi_measurement_groups():
        assert group.finding_type is not None
        names = [each.name for each in group.get_measurements()]
        meanings[group.finding_type.value] = {name.value: name.meaning for name in names if "_score" in name.value}
    for code in CODES:
        assert meanings[code] == {
            "lobe_score": "CT severity score of the lobe, 0 to 5",
            "lobe_score_low": "CT severity score of the lobe, lower end of the 90 % interval",
            "lobe_score_high": "CT severity score of the lobe, upper end of the 90 % interval",
        }
    of_sum = {value: meaning for value, meaning in meanings["39607008"].items() if value.startswith("ct_")}
    assert of_sum == {
        "ct_severity_score": "CT severity score, 0 to 25",
        "ct_severity_score_low": "CT severity score, lower end of the 90 % interval",
        "ct_severity_score_high": "CT severity score, upper end of the 90 % interval",
    }


def test_without_lobes_there_are_none_in_any_output(tmp_path: Path) -> None:
    plain = result_of(write_series(tmp_path / "series"))
    write_outputs(plain, tmp_path / "out")
    assert not (tmp_path / "out" / "lobes.nii.gz").exists()
    assert len(pydicom.dcmread(tmp_path / "out" / "segmentation.dcm").SegmentSequence) == 3
    assert "By lobe" not in (tmp_path / "out" / "report.html").read_text()


def test_the_mask_of_lobes_lies_on_the_grid_of_the_file(result: Result, tmp_path: Path) -> None:
    write_outputs(result, tmp_path / "out")
    image = nibabel.nifti1.load(tmp_path / "out" / "lobes.nii.gz")
    lungs = nibabel.nifti1.load(tmp_path / "out" / "lungs.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj) > 0, np.asarray(lungs.dataobj) > 0)
    np.testing.assert_array_equal(image.affine, lungs.affine)
    assert result.lobes is not None
    expected = np.bincount(result.lobes.ravel(), minlength=6)
    np.testing.assert_array_equal(np.bincount(np.asarray(image.dataobj).astype(int).ravel(), minlength=6), expected)


def test_the_page_shows_the_lobes_and_their_scores(tmp_path: Path) -> None:
    drawn = with_lobes(make_result())
    write_scan_page(drawn, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    for lobe in LOBES:
        share, score = (drawn.measurements[key] for key in (f"{lobe}_infection_share", LOBE_SCORES[lobe]))
        assert share is not None
        assert re.search(rf">{lobe.replace('_', ' ')}<(?:(?!</tr>).)*>{score:.0f}(?:<| \()", html, re.DOTALL)
        assert f"<title>{lobe.replace('_', ' ')}: {shown_percent(share)}, score {score:.0f}" in html
    assert f"<b>{drawn.measurements[SUM]:.0f} of 25</b>" in html
    assert f"{drawn.measurements['left_upper_lobe_mean_hu']:.1f}" in html


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium to open the page")
def test_a_click_on_a_lobe_shows_the_slice_with_most_of_it(tmp_path: Path) -> None:
    drawn = with_lobes(make_result())
    write_scan_page(drawn, tmp_path / "report.html")
    assert drawn.lobes is not None
    marked = [(drawn.masks["infection"] > 0) & (drawn.lobes == number) for number in (4, 5)]
    lungs = np.flatnonzero(drawn.masks["lungs"].any((1, 2)))
    with opened(tmp_path / "report.html") as (page, messages, _):
        for number, mask in zip((4, 5), marked, strict=True):
            page.locator(".lobes a").nth(number - 1).click()
            fullest = int(mask.sum((1, 2)).argmax())
            assert lungs[int(page.locator("#slice").input_value())] == fullest
    assert messages == []


def test_the_follow_up_holds_the_change_of_every_lobe(tmp_path: Path) -> None:
    sources = [Source(name, tmp_path / name, patient="P1") for name in ("a", "b")]
    first = {"name": "a", "lung_ml": 4000.0, "right_ml": 1.0, "left_lower_lobe_infection_ml": 10.0}
    second = first | {"name": "b", "left_lower_lobe_infection_ml": 4.0}
    scores = {"left_lower_lobe_score": (2.0, 1.0), SUM: (9.0, 7.0)}
    rows = pd.DataFrame([row | {key: pair[i] for key, pair in scores.items()} for i, row in enumerate((first, second))])
    table = follow_up(sources, rows)
    assert table["left_lower_lobe_infection_change_ml"].tolist() == [0.0, -6.0]
    assert table["left_lower_lobe_score_change"].tolist() == [0.0, -1.0]
    assert table[f"{SUM}_change"].tolist() == [0.0, -2.0]
    assert "right_change_ml" not in table
