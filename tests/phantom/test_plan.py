"""The phantom cohort: its files on disk and who labels them."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from cohort.reports.weak_label import weak_label
from cohort.table import CohortRow, read_cohort
from ct.classes import L3
from ct.files.read import read_mask, read_pattern_mask, read_scan
from phantom import plan as phantom_cohort
from phantom import write_phantom as phantom
from phantom.grid import Frame
from phantom.plan import DEFAULT_COHORT, plan_cohort
from phantom.report_texts import report_text
from phantom.write_phantom import write_cohort


def patterns_of(row: CohortRow) -> NDArray[np.int8]:
    assert row.pattern_mask is not None
    return read_pattern_mask(row.pattern_mask, read_scan(row.image))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "tiny", seed=3, tiny=True, jobs=1).parent


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_cohort_is_read_back_as_it_was_made(tiny: Path) -> None:
    rows = read_cohort(tiny / "cohort.csv").rows
    assert [row.split for row in rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert {row.site for row in rows} == {"A", "B", "C"}
    for row in rows:
        scan = read_scan(row.image, row.scan_id, row.site)
        truth = np.load(tiny / "truth" / f"{row.scan_id}.npz")
        assert scan.hu.shape == truth["lungs"].shape
        np.testing.assert_allclose(scan.spacing_mm, truth["spacing_mm"], rtol=1e-6)
        assert row.pattern_mask is not None
        assert row.infection_mask is not None
        codes, infection = read_mask(row.pattern_mask, scan), read_mask(row.infection_mask, scan)
        np.testing.assert_array_equal(infection > 0, np.isin(codes, L3.codes_of("infection")))
        if row.lung_mask is not None:
            np.testing.assert_array_equal(read_mask(row.lung_mask, scan), truth["lungs"])
        assert np.median(scan.hu[truth["lungs"] > 0]) < -600, "lungs of the truth lie on the lungs of the image"


def test_files_hold_the_voxels_in_their_own_axis_order(tiny: Path) -> None:
    rows = {row.scan_id: row for row in read_cohort(tiny / "cohort.csv").rows}
    for scan_id, axes in (("A001", "LAS"), ("C008", "RAI")):
        image = nib.Nifti1Image.from_filename(rows[scan_id].image)
        truth = np.load(tiny / "truth" / f"{scan_id}.npz")
        assert "".join(nib.aff2axcodes(image.affine)) == axes
        affine = Frame(truth["lungs"].shape, tuple(truth["spacing_mm"])).affine
        lung = np.argwhere(truth["vessels"] > 200)[0]
        index = np.round(np.linalg.solve(image.affine, affine @ [*lung[::-1], 1])[:3]).astype(int)
        assert image.dataobj[tuple(index)] == read_scan(rows[scan_id].image).hu[tuple(lung)] > -700


def test_dicom_series_has_a_header_and_the_right_voxels(tiny: Path) -> None:
    (folder,) = [row.image for row in read_cohort(tiny / "cohort.csv").rows if row.image.is_dir()]
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(slices) == 8
    assert slices[0].SOPClassUID.name == "CT Image Storage"
    assert len({file.SOPInstanceUID for file in slices}) == 8
    assert len({file.SeriesInstanceUID for file in slices}) == 1
    heights = [float(file.ImagePositionPatient[2]) for file in slices]
    np.testing.assert_allclose(np.diff(heights), -float(slices[0].SliceThickness), atol=1e-5)
    hu = read_scan(folder).hu
    for number, file in enumerate(slices):
        np.testing.assert_array_equal(file.pixel_array.astype(int) + int(file.RescaleIntercept), hu[7 - number])


def test_reports_say_what_the_mask_says(tiny: Path) -> None:
    for row in read_cohort(tiny / "cohort.csv").rows:
        truth = np.load(tiny / "truth" / f"{row.scan_id}.npz")
        positive = any(truth[f"pattern_{code}"].max() > 127 for code in L3.codes_of("consolidation"))
        assert row.report is not None
        assert weak_label(row.report.read_text()).value == int(positive)
        assert row.has_consolidation in (None, int(positive))
    codes = np.zeros((4, 8, 8), np.int8)
    for finding in (0, 10):
        codes[1, 5, 6] = finding
        texts = {report_text(codes, np.random.default_rng(seed)) for seed in range(60)}
        assert len(texts) > 10
        assert {weak_label(text).value for text in texts} == {int(finding == 10)}
    assert all("left lower lobe" in text for text in texts)


@pytest.mark.slow
def test_cohort_bytes_do_not_depend_on_the_number_of_processes(tiny: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "other", seed=3, tiny=True, jobs=2)
    assert hashes(tmp_path / "other") == hashes(tiny)


def test_existing_cohort_is_left_alone_and_anything_else_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(tiny)
    assert phantom.main(["--out", str(tiny), "--seed", "3", "--tiny"]) == 0
    assert "nothing done" in capsys.readouterr().out
    assert phantom.main(["--out", str(tiny), "--seed", "4", "--tiny"]) == 2
    assert "made differently" in capsys.readouterr().err
    assert hashes(tiny) == before
    (tmp_path / "thesis.txt").write_text("mine")
    assert phantom.main(["--out", str(tmp_path), "--tiny"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_interrupted_cohort_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(phantom, "_write_truth", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_cohort(tmp_path / "cohort", tiny=True, jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_default_cohort_has_the_agreed_composition() -> None:
    plans = list(plan_cohort(DEFAULT_COHORT, 64, None, 0))
    test = [plan for plan in plans if plan.split == "test"]
    assert sum(plan.split == "train" for plan in plans) >= 28
    assert {plan.site for plan in test} == {"B", "C", "D"}
    assert sum(plan.kind == "consolidated" for plan in test) == 12
    assert len(test) == 22
    assert len({plan.patient_id for plan in plans}) == len(plans)
    assert 3 <= sum(plan.further_readers > 0 for plan in plans) <= 8
    assert 1 <= sum(not plan.has_lung_mask for plan in plans) <= 5
    for split in ("train", "val", "test"):
        for kind in ("consolidated", "ground_glass"):
            stated = [plan.states_label for plan in plans if (plan.split, plan.kind) == (split, kind)]
            assert {True, False} == set(stated)


def test_a_panel_shares_the_cohort_and_labels_some_scans_together() -> None:
    plans = list(plan_cohort(DEFAULT_COHORT, 128, None, 5))
    study = [plan for plan in plans if plan.in_study]
    assert {(p.site, p.split) for p in study} == {
        ("A", "train"),
        ("A", "val"),
        ("B", "test"),
        ("C", "test"),
        ("D", "test"),
    }
    assert sum(plan.split == "train" for plan in study) == 44
    assert {"consolidated", "ground_glass"} <= {plan.kind for plan in study if plan.split == "train"}


@pytest.mark.slow
def test_panel_masks_are_partly_labelled_and_their_readers_disagree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(phantom_cohort.STUDY_SCANS, "train", 1)
    rows = read_cohort(write_cohort(tmp_path / "panel", seed=1, tiny=True, jobs=1, readers=3)).rows
    train = [row for row in rows if row.split == "train"]
    assert [len(row.readers) for row in train] == [3, 0, 0, 0]
    scan = read_scan(train[0].image)
    assert train[0].pattern_mask in train[0].readers
    opaque = [read_pattern_mask(path, scan) >= 5 for path in train[0].readers]
    assert len({mask.sum() for mask in opaque}) == 3
    unlabelled = np.concatenate([(patterns_of(row) < 0).mean((1, 2)) for row in train])
    assert (unlabelled[:8] == 0).all()  # the study is labelled in full
    assert {0.0, 1.0} < set(unlabelled)
    assert ((unlabelled > 0.2) & (unlabelled < 0.3)).any()
    test = [row for row in rows if row.split == "test"]
    assert all((patterns_of(row) >= 0).all() for row in test)
