"""Intervals of volumes: their coverage, by simulation and by hand, and whose they are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from ground_glass.__main__ import main as export
from inference.calibrate import main
from inference.result import ModelCard
from inference.scan_list import Source
from inference.segmenter import Segmenter
from inference.volume_intervals import (
    NAME,
    OTHER_SETTINGS,
    Calibration,
    conformal_quantile,
    read_calibration,
    unit_ml,
    write_calibration,
)
from training.model_folder import checksum, read_manifest

CARD = ModelCard("infection", "unet", ("a" * 64,), 1, 32, "1")
CALIBRATION = Calibration(CARD.checkpoints_sha256, 1, "classical", 0.8, 9, {"infection": 0.5})


@pytest.fixture
def checkpoint(em_run: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint, beside which a calibration may be written."""
    return Path(shutil.copy(em_run / "best.ckpt", tmp_path))


@pytest.fixture
def six_patients(cohort: Path) -> Path:
    """A cohort whose validation patients are six of the tiny phantom's, one of them seen twice."""
    table = pd.read_csv(cohort, dtype=str).iloc[:6]
    again = table.iloc[[0]].assign(scan_id="again")
    path = cohort.parent / "six.csv"
    pd.concat([table, again]).assign(split="val").to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("patients", "coverage"), [(9, 0.9), (19, 0.8), (30, 0.5)])
def test_new_patients_are_covered_as_stated(patients: int, coverage: float) -> None:
    rng = np.random.default_rng(0)
    # Skewed errors that grow with the volume: conformal intervals ask for no distribution.
    held = []
    for _ in range(4000):
        predicted = rng.gamma(1.0, 150.0, patients + 1)
        truth = np.maximum(predicted * rng.lognormal(0.1, 0.6, patients + 1) + rng.exponential(10, patients + 1), 0)
        scores = np.abs(truth - predicted) / np.array([unit_ml(ml, 3000.0) for ml in predicted])
        error = conformal_quantile(scores[:-1].tolist(), coverage)
        low, high = replace(CALIBRATION, error={"infection": error}).interval("infection", predicted[-1], 3000.0)
        held.append(low <= truth[-1] <= high)
    expected = np.ceil((patients + 1) * coverage - 1e-9) / (patients + 1)
    assert coverage <= expected
    assert np.mean(held) == pytest.approx(expected, abs=0.025)


def test_too_few_patients_are_refused_with_what_would_do() -> None:
    with pytest.raises(ValueError, match=r"6 validation patients .* of 90%, which needs 9; .*--coverage 0\.85"):
        conformal_quantile([0.1] * 6, 0.9)
    assert conformal_quantile([0.3, 0.1, 0.2, 0.6, 0.5, 0.4], 0.85) == 0.6
    assert conformal_quantile(list(np.arange(9.0)), 0.9) == 8.0


def test_intervals_are_those_of_a_sheet_of_paper() -> None:
    intervals = CALIBRATION.intervals({"infection_ml": 100.0, "lung_ml": 4000.0})
    assert intervals == {"infection_ml_low": 30.0, "infection_ml_high": 170.0, "interval_coverage": 0.8}
    healthy = CALIBRATION.intervals({"infection_ml": 0.0, "lung_ml": 4000.0})
    assert (healthy["infection_ml_low"], healthy["infection_ml_high"]) == (0.0, 20.0)
    unknown = CALIBRATION.intervals({"infection_ml": None, "lung_ml": None})
    assert (unknown["infection_ml_low"], unknown["infection_ml_high"]) == (None, None)


def test_a_calibration_is_one_checkpoints(tmp_path: Path) -> None:
    write_calibration(CALIBRATION, tmp_path / NAME)
    assert read_calibration(tmp_path / NAME, CARD) == CALIBRATION
    with pytest.raises(ValueError, match=r"calibration\.json is of another checkpoint"):
        read_calibration(tmp_path / NAME, replace(CARD, checkpoints_sha256=("b" * 64,)))
    for text in ("", "[]", "{}", '{"checkpoints_sha256": ["a"], "more": 1}'):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(ValueError, match="is no calibration"):
            read_calibration(tmp_path / NAME, CARD)
    assert not CALIBRATION.fits(replace(CARD, flips=4), "classical")
    assert not CALIBRATION.fits(CARD, "file")
    assert CALIBRATION.fits(CARD, "classical")


def test_the_command_line_holds_volumes_against_the_readers(checkpoint: Path, six_patients: Path) -> None:
    main(["--ckpt", str(checkpoint), "--cohort", str(six_patients), "--coverage", "0.85"])
    calibration = json.loads((checkpoint.parent / NAME).read_text())
    assert (calibration["patients"], calibration["coverage"]) == (6, 0.85)
    assert set(calibration["error"]) == {"infection", "consolidation"}
    assert str(six_patients.parent) not in json.dumps(calibration)
    segmenter = Segmenter([checkpoint])
    worst = 0.0
    for row in pd.read_csv(six_patients).iloc[:6].itertuples():
        image = six_patients.parent / str(row.image)
        result = segmenter.segment(Source("x", image))
        # The sixth of six scores is asked for, which allows for all.
        volumes = result.measurements
        names = [getattr(row, name) for name in ("infection_mask", "lung_mask")]
        files = [six_patients.parent / name for name in names if isinstance(name, str)]
        masks = [nibabel.Nifti1Image.from_filename(file) for file in files]
        inside = np.all([np.asarray(mask.dataobj) > 0 for mask in masks], axis=0)
        truth = inside.sum() * result.scan.voxel_ml
        low, ml, high = (volumes[f"infection_ml{end}"] for end in ("_low", "", "_high"))
        lung_ml = volumes["lung_ml"]
        assert low is not None
        assert ml is not None
        assert high is not None
        assert lung_ml is not None
        assert low - 1e-6 <= truth <= high + 1e-6
        worst = max(worst, abs(truth - ml) / (ml + 0.01 * lung_ml))
    assert calibration["error"]["infection"] == pytest.approx(worst)


@pytest.mark.slow
def test_an_exported_model_is_calibrated_in_its_folder(checkpoint: Path, six_patients: Path) -> None:
    folder = checkpoint.parent / "model"
    assert export(["export", str(checkpoint), "-o", str(folder), "--no-onnx"]) == 0
    main(["--ckpt", str(folder), "--cohort", str(six_patients)])
    manifest, written = read_manifest(folder), json.loads((folder / NAME).read_text())
    assert manifest["calibration"] == written
    assert manifest["sha256"][NAME] == checksum(folder / NAME)
    result = Segmenter([folder]).segment(Source("x", six_patients.parent / "images" / "B007"))
    assert result.measurements["infection_ml_high"] is not None
    again = folder.with_name("again")
    assert export(["export", str(folder), "-o", str(again), "--no-onnx"]) == 0
    assert (again / NAME).read_bytes() == (folder / NAME).read_bytes()
    (folder / NAME).write_text((folder / NAME).read_text().replace("0.8", "0.9"))
    with pytest.raises(ValueError, match=r"calibration\.json is damaged, .*; copy .*, or calibrate the model again"):
        Segmenter([folder])


def test_another_use_of_the_checkpoint_has_no_interval_and_says_so(checkpoint: Path, six_patients: Path) -> None:
    main(["--ckpt", str(checkpoint), "--cohort", str(six_patients)])
    source = Source("x", six_patients.parent / "images" / "B007")
    with_mask = replace(source, lung_mask=six_patients.parent / "masks" / "B007_lungs.nii.gz")
    for segmenter, scan in ((Segmenter([checkpoint], flips=True), source), (Segmenter([checkpoint]), with_mask)):
        result = segmenter.segment(scan)
        assert OTHER_SETTINGS in result.warnings
        assert "infection_ml_low" not in result.measurements


@pytest.mark.parametrize(
    "change",
    [
        {"error": "x"},
        {"error": {"infection": "b"}},
        {"error": {"infection": -1}},
        {"coverage": "high"},
        {"coverage": 2},
    ],
)
def test_a_calibration_that_a_hand_has_changed_is_refused_before_any_scan(
    tmp_path: Path, change: dict[str, object]
) -> None:
    write_calibration(CALIBRATION, tmp_path / NAME)
    (tmp_path / NAME).write_text(json.dumps(json.loads((tmp_path / NAME).read_text()) | change))
    with pytest.raises(ValueError, match=r"is no calibration .*; delete it, or make it again"):
        read_calibration(tmp_path / NAME, CARD)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"coverage": "0.9"}, "6 validation patients with truth cannot show a coverage of 90%"),
        ({"coverage": "90"}, "the coverage is 90; expected a share between 0 and 1"),
        ({"cohort": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line_and_writes_nothing(
    checkpoint: Path, six_patients: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], sentence: str
) -> None:
    asked = {"ckpt": str(checkpoint), "cohort": str(six_patients)} | change
    with pytest.raises(SystemExit) as stop:
        main([word for key, value in asked.items() for word in (f"--{key}", value)])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (checkpoint.parent / NAME).exists()
