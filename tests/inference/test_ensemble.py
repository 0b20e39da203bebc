"""The test of an ensemble through train.py: its run folder, its figures, and what is refused."""

import json
import os
import shlex
from pathlib import Path

import pandas as pd
import pytest
from harness import refused

from evaluation.missing_masks import masks_are_current
from evaluation.run_data import read_run
from inference.ensemble import predict_command
from inference.model_names import checkpoints_in
from train import main


def evaluate(run: Path, runs: Path, *more: str) -> Path:
    """Test through train.py, and return the run folder that is made."""
    os.environ.pop("GROUND_GLASS_RUN", None)
    main(["test", f"--config={run / 'config.yaml'}", f"--runs={runs}", *more])
    (latest,) = runs.glob("*/latest")
    return latest.resolve()


def test_an_ensemble_has_a_run_folder_with_its_figures(em_run: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in em_run.glob("*.json")}
    members = [str(em_run / name) for name in ("best.ckpt", "last.ckpt")]
    saver = "--trainer.callbacks+=callbacks.save_masks.SaveMasks"
    folder = evaluate(em_run, tmp_path, *(f"--members+={path}" for path in members), saver)
    assert folder.parent.name == "smoke_ensemble"
    assert [member["path"] for member in json.loads((folder / "members.json").read_text())["members"]] == members
    # Both have the weights of the last epoch, so their mean answers as either does.
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (folder, em_run))
    assert ours["consolidation/dice_pooled"] == pytest.approx(theirs["consolidation/dice_pooled"], abs=1e-3)
    assert ours["threshold_smoothed/hu"] == theirs["threshold_smoothed/hu"]
    assert list(pd.read_csv(folder / "scans.csv")) == list(pd.read_csv(em_run / "scans.csv"))
    assert (folder / "figures" / "overlays.png").is_file()
    assert masks_are_current(read_run(folder)), "a report needs no best.ckpt"
    assert {path.name: path.read_bytes() for path in em_run.glob("*.json")} == before


def test_mirrored_slices_of_one_model_have_a_run_of_their_own(infection_run: Path, tmp_path: Path) -> None:
    folder = evaluate(infection_run, tmp_path, f"--ckpt_path={infection_run / 'best.ckpt'}", "--flips=true")
    assert folder.parent.name == "smoke_infection_flips"
    assert json.loads((folder / "members.json").read_text())["flips"] is True
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (folder, infection_run))
    assert ours["infection/dice_mean"] != theirs["infection/dice_mean"]


def test_what_is_no_ensemble_is_refused(
    infection_run: Path, em_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = ["test", f"--config={infection_run / 'config.yaml'}", f"--runs={tmp_path}"]
    one, other = f"--members+={infection_run / 'best.ckpt'}", f"--members+={em_run / 'best.ckpt'}"
    assert "is named twice" in refused(capsys, [*test, one, one])
    assert "of different tasks (consolidation, infection)" in refused(capsys, [*test, one, other])
    assert "there is no checkpoint" in refused(capsys, [*test, one, f"--members+={tmp_path / 'no.ckpt'}"])
    assert "test needs weights" in refused(capsys, [*test, "--flips=true"])
    fit = ["fit", f"--config={infection_run / 'config.yaml'}", f"--runs={tmp_path}", one]
    assert "members and flips are of a test; fit takes neither" in refused(capsys, fit)
    assert not list(tmp_path.iterdir())


def test_the_command_that_segments_with_it_is_one_for_a_shell() -> None:
    paths = ["my runs/O'Brien/best.ckpt", "runs/b/best.ckpt"]
    words = shlex.split(predict_command(paths, flips=True))
    assert words[:2] == ["make", "predict"]
    assert checkpoints_in([words[2].removeprefix("CKPT=")]) == paths
    assert words[-1] == "ARGS=--flips"
    assert "ARGS" not in predict_command(paths, flips=False)
