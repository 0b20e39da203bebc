"""The any-label task through the command line on the tiny mixed phantom."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import experiment_args, refused, train_in_process
from ranks import Command, run_ranks

from evaluation.run_data import read_run
from inference.load import load_module
from lightning_modules.opacity import OpacityModule
from train import main
from training.checkpoint_file import load_checkpoint_file


@pytest.fixture(scope="module")
def run(mixed_cohort: Path, work: Path) -> Path:
    return train_in_process("smoke_any_label", mixed_cohort, work)


def test_the_run_has_figures_of_groups_and_the_course_of_the_prior(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"opacity/iou_pooled", *(f"group_{group}/iou_pooled" for group in (2, 3, 4))} <= set(metrics)
    course = pd.read_csv(run / "metrics.csv").dropna(subset=["e_step/labelled"])
    assert course["epoch"].tolist() == [1, 2, 3], "the first epoch is of masks alone"
    assert course["e_step/consolidation/b2"].nunique() == 3
    assert metrics["e_step/consolidation/b2"] == pytest.approx(course["e_step/consolidation/b2"].iloc[-1])
    kept = load_checkpoint_file(run / "last.ckpt")["ground_glass"]["e_step"]
    assert kept["e_step/consolidation/b2"] == pytest.approx(course["e_step/consolidation/b2"].iloc[-1])


def test_the_model_is_one_of_the_multi_class_task(run: Path) -> None:
    module = load_module(run / "best.ckpt")
    assert type(module) is OpacityModule
    assert read_run(run).task == "opacity"


def test_a_cohort_without_pattern_masks_in_training_learns_infection(
    mixed_cohort: Path, work: Path, tmp_path: Path
) -> None:
    cohort = mixed_cohort.with_name("only_A.csv")
    folder = train_in_process("smoke_any_label", cohort, work, "--trainer.max_epochs=2", f"--runs={tmp_path}")
    assert (work / "runs" / "smoke_any_label" / "latest").resolve() == folder
    latest = (tmp_path / "smoke_any_label" / "latest").resolve()
    assert np.isfinite(json.loads((latest / "metrics.json").read_text())["test/loss"])


def test_without_priors_nothing_is_relabelled(mixed_cohort: Path, work: Path, tmp_path: Path) -> None:
    none = ["--model.priors=[]", "--data.bits=[]", "--data.balanced=", "--trainer.max_epochs=2", f"--runs={tmp_path}"]
    os.environ.pop("GROUND_GLASS_RUN", None)
    main(["fit", *experiment_args("smoke_any_label", mixed_cohort, work, *none)])
    course = pd.read_csv(tmp_path / "smoke_any_label" / "latest" / "metrics.csv")
    assert not [name for name in map(str, course) if name.startswith("e_step")]


def test_reports_alone_are_refused_since_no_pixel_is_known(
    mixed_cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(mixed_cohort, dtype=str, keep_default_na=False)
    reports = table[(table["site"] == "C") | (table["split"] != "train")]
    path = mixed_cohort.with_name("only_C.csv")
    reports.to_csv(path, index=False)
    line = refused(capsys, ["fit", *experiment_args("smoke_any_label", path, work, f"--runs={tmp_path}")])
    assert "but none of these shows any opacity, which this experiment learns to find" in line


def test_a_prior_of_a_finding_that_no_scan_is_known_to_have_is_refused(
    mixed_cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = experiment_args(
        "smoke_any_label", mixed_cohort.with_name("only_B.csv"), work, f"--runs={tmp_path}", "--data.balanced="
    )
    assert "no training scan is known to have 'consolidation'" in refused(capsys, ["fit", *args])


@pytest.mark.slow
def test_the_first_e_step_of_two_processes_is_that_of_one(mixed_cohort: Path, work: Path, tmp_path: Path) -> None:
    """With the same weights: what is labelled, and what the prior is fitted to, do not depend on who labels what."""
    at_once = tmp_path / "at_once.yaml"
    at_once.write_text("trainer: {callbacks: [{class_path: callbacks.relabel.Relabel}]}\n")
    more = ["--trainer.max_epochs=2", "--trainer.precision=32-true", "--data.balanced="]
    args = [*experiment_args("smoke_any_label", mixed_cohort, work, *more)]
    args = [args[0], args[1], f"--config={at_once}", *args[2:]]
    os.environ.pop("GROUND_GLASS_RUN", None)
    main(["fit", *args, f"--runs={tmp_path / 'one'}"])
    run_ranks(2, [Command(["fit", *args, "--data.batch_size=2"], tmp_path / "two")])
    courses = [
        pd.read_csv(folder / "metrics.csv")
        for folder in (tmp_path / "one" / "smoke_any_label" / "latest", tmp_path / "two")
    ]
    first, other = (course.dropna(subset=["e_step/labelled"]).iloc[0] for course in courses)
    for key in ("e_step/labelled", "e_step/share", "e_step/consolidation/b2", "e_step/consolidation/k2"):
        assert first[key] == pytest.approx(other[key], rel=1e-5), key
    assert first["e_step/labelled"] > 0
