"""Masks of test scans are made where they are missing, by testing a run again."""

import hashlib
from pathlib import Path

import pytest
from report_harness import make_run

from evaluation import missing_masks
from evaluation.missing_masks import main, runs_without_masks, save_masks

PROGRAM = """
import json, sys
print(json.dumps(sys.argv[1:]))
sys.exit("error: the cohort is gone" if "gone" in sys.argv[2] else 0)
"""


def test_masks_of_other_weights_are_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "unet_infection", "infection")
    assert runs_without_masks([run.folder]) == []
    weights, made_with = run.folder / "best.ckpt", run.folder / "masks" / "weights.sha256"
    weights.write_bytes(b"others")
    made_with.write_text(hashlib.sha256(b"others").hexdigest())
    assert runs_without_masks([run.folder]) == []
    weights.write_bytes(b"trained again")
    assert runs_without_masks([run.folder]) == [run.folder]
    (run.folder / "metrics.json").write_text("{")
    assert runs_without_masks([run.folder]) == [], "its report says what is wrong with it"


def test_the_named_runs_are_tested_again_and_others_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run(tmp_path / "runs", name, "infection") for name in ("one", "another")]
    for run in runs:
        (run.folder / "best.ckpt").write_bytes(b"trained again")
    tested: list[Path] = []
    monkeypatch.setattr(missing_masks, "save_masks", tested.append)
    assert main(["--runs", str(tmp_path / "runs"), "one"]) == 0
    assert tested == [runs[0].folder.resolve()]
    assert capsys.readouterr().err == "1 run to test again first, to save the masks\n"
    assert main(["--runs", str(tmp_path / "runs")]) == 0
    assert tested[1:] == sorted(run.folder.resolve() for run in runs)
    assert main(["--runs", str(tmp_path / "runs"), "third"]) == 2
    assert "error: 'third' is neither a run folder nor an experiment" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "why"), [("a run", ""), ("a gone one", "error: the cohort is gone")])
def test_a_run_that_cannot_be_tested_says_why_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "train.py").write_text(PROGRAM)
    save_masks(tmp_path / name, [str(tmp_path / "train.py")])
    head, *rest = capsys.readouterr().out.splitlines()
    logs = list(tmp_path.glob("ground-glass-masks-*"))
    if not why:
        assert head == f"masks of {tmp_path / name}: 0 s"
        assert (rest, logs) == ([], [])
        return
    assert head.endswith(why)
    assert rest == [f"no masks of {tmp_path / name}, so its report will be short; see {logs[0]}"]
    assert f"--config={tmp_path / name / 'config.yaml'}" in logs[0].read_text()
