"""Batches: names, failures, going on, follow-up, and what outputs may say."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from inference.predict import main
from inference.scan_list import PRIVATE
from inference.segmenter import Segmenter


@pytest.fixture
def folder(cohort: Path, tmp_path: Path) -> Path:
    """A DICOM series twice, a NIfTI file and one that is damaged, named after a patient."""
    images, folder = cohort.parent / "images", tmp_path / "in"
    folder.mkdir()
    shutil.copytree(images / "B007", folder / "DOE^JANE first")
    shutil.copytree(images / "B007", folder / "DOE^JANE second")
    for date, name in (("20200101", "first"), ("20200111", "second")):
        for file in (folder / f"DOE^JANE {name}").iterdir():
            header = pydicom.dcmread(file)
            header.PatientID, header.AcquisitionDate = "DOE-1", date
            header.save_as(file)
    shutil.copy(images / "C008.nii.gz", folder / "other.nii.gz")
    (folder / "SMITH.nii.gz").write_bytes(b"no gzip at all")
    return folder


def start(em_run: Path, scan: Path, out: Path, *more: str) -> int:
    """Exit code of the command line."""
    try:
        main(["--ckpt", str(em_run / "best.ckpt"), "--scan", str(scan), "--out", str(out), *more])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.slow
def test_a_batch_lists_what_fails_and_goes_on(
    em_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert start(em_run, folder, out) == 1
    assert "3 segmented (0 of them before), 3 flagged, 1 failed" in capsys.readouterr().out
    rows = pd.read_csv(out / "measurements.csv")
    assert list(rows["name"]) == ["scan-0001", "scan-0002", "scan-0004"]
    card = json.loads((out / "scan-0001" / "measurements.json").read_text())["model"]["card"]
    assert re.fullmatch(r"trained on \d scans of 1 site; validation: consolidation Dice .*, infection Dice .*", card)
    assert set(rows["model"]) == {card}
    assert card in (out / "index.html").read_text()
    assert rows["flags"].str.contains("fewer than 19: whether a scan is unlike them cannot be told").all()
    failed = pd.read_csv(out / "failed.csv")
    assert list(failed["name"]) == ["scan-0003"]
    assert failed["reason"][0].startswith("a file: not a readable NIfTI file (")
    private = pd.read_csv(out / PRIVATE)
    assert list(private["path"]) == [str(path) for path in sorted(folder.iterdir())]
    assert not (out / "scan-0003").exists()

    visits = pd.read_csv(out / "follow_up.csv")
    assert (list(visits["name"]), list(visits["days"])) == (["scan-0001", "scan-0002"], [0, 10])
    assert list(visits["infection_change_ml"]) == [0, 0]  # the same scan twice

    # What is done is not done again: only the damaged file is tried, and now it can be read.
    shutil.copy(folder / "other.nii.gz", folder / "SMITH.nii.gz")
    shutil.rmtree(out / "scan-0004")
    assert start(em_run, folder, out) == 0
    assert "4 segmented (2 of them before), 4 flagged, 0 failed" in capsys.readouterr().out
    again = pd.read_csv(out / "measurements.csv").set_index("name")["infection_ml"]
    assert again["scan-0001"] == rows["infection_ml"][0]
    assert again["scan-0003"] == again["scan-0004"] == rows["infection_ml"][2]


@pytest.mark.slow
def test_outputs_bear_no_name_date_or_path(em_run: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    start(em_run, folder, out)
    header = pydicom.dcmread(next((folder / "DOE^JANE first").iterdir()))
    secrets = ["DOE", "SMITH", "20200101", "2020-01-01", header.SeriesInstanceUID, str(tmp_path)]
    public = [path for path in out.rglob("*") if path.is_file() and path.name != PRIVATE and path.suffix != ".dcm"]
    assert len(public) > 10
    for path in public:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
    assert (out / PRIVATE).stat().st_mode & 0o077 == 0


def test_a_cohort_keeps_its_names_and_lung_masks(em_run: Path, cohort: Path, tmp_path: Path) -> None:
    table = pd.read_csv(cohort)[["scan_id", "patient_id", "site", "image", "lung_mask"]].iloc[:2]
    for column in ("image", "lung_mask"):
        table[column] = [str(cohort.parent / path) for path in table[column]]
    table.to_csv(tmp_path / "cohort.csv", index=False)
    assert start(em_run, tmp_path / "cohort.csv", tmp_path / "out") == 0
    for name in table["scan_id"]:
        assert json.loads((tmp_path / "out" / name / "measurements.json").read_text())["lung_source"] == "file"


def test_results_of_another_model_are_not_mixed(em_run: Path, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "DOE^JANE first")
    start(em_run, folder, tmp_path / "out")
    assert start(em_run, folder, tmp_path / "out", "--flips") == 2


def test_a_bug_in_one_output_leaves_no_half_written_folder(
    em_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "segment", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    assert start(em_run, folder, tmp_path / "out") == 1
    assert [path for path in (tmp_path / "out").iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_an_ensemble_and_flips_average_and_say_how_much_they_differ(em_run: Path, cohort: Path, tmp_path: Path) -> None:
    scan, best = cohort.parent / "images" / "B007", str(em_run / "best.ckpt")
    main(["--ckpt", best, "--scan", str(scan), "--out", str(tmp_path / "one")])
    main(["--ckpt", best, best, "--scan", str(scan), "--out", str(tmp_path / "two")])
    main(["--ckpt", best, "--flips", "--scan", str(scan), "--out", str(tmp_path / "flips")])
    one, two, flips = (
        json.loads((tmp_path / name / "measurements.json").read_text()) for name in ("one", "two", "flips")
    )
    assert "infection_ml_spread" not in one
    # A model twice is that model: the same masks, and no spread.
    assert two["infection_ml"] == one["infection_ml"]
    assert two["infection_ml_spread"] == 0
    assert flips["infection_ml_spread"] > 0
    assert flips["infection_ml"] == pytest.approx(one["infection_ml"], rel=0.5)
    assert 0 < one["entropy_in_lungs_bits"] < np.log2(3)


def test_an_ensemble_of_different_tasks_is_refused(
    em_run: Path, infection_run: Path, cohort: Path, tmp_path: Path
) -> None:
    checkpoints = [str(em_run / "best.ckpt"), str(infection_run / "best.ckpt")]
    with pytest.raises(SystemExit):
        main(["--ckpt", *checkpoints, "--scan", str(cohort), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
