"""A training that is cut off and started again with the same command ends as if it had not been cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from fault_harness import OF_A_PROCESS, assert_equal, assert_same_run, only_run, train
from harness import experiment_args
from offline_run import read_offline_run
from places import ROOT

from train import main
from training.checkpoint_file import load_checkpoint_file

pytestmark = pytest.mark.slow

INFECTION_CUTS = {
    "step 1": -9,  # no checkpoint yet
    "rename best.ckpt 1": -9,
    "term 4": 143,
    "rename last.ckpt 1": -9,
    "rename previous.ckpt 1": -9,
    "rename metrics.csv 1": -9,
    "call validation_step 2": -9,
    "call test_step 1": -9,
    "rename metrics.json 1": -9,
    "rename latest 1": -9,
}
EM_CUTS = {"call latent_labels 2": -9, "step 5": -9, "rename last.ckpt 1": -9, "term 11": 143}


def new_environment() -> dict[str, str]:
    """That of a user who starts a command."""
    inherited = {key: value for key, value in os.environ.items() if key not in OF_A_PROCESS}
    return inherited | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}


def cut_and_uncut(
    name: str, cohort: Path, work: Path, tmp_path: Path, cuts: dict[str, int], *more: str, journal: bool = False
) -> tuple[Path, Path]:
    """Run folders of an experiment: trained at one go, and cut off at each place in turn."""
    homes = [tmp_path / "uncut", tmp_path / "cut"]
    for home, places in zip(homes, ({}, cuts), strict=True):
        args = experiment_args(name, cohort, work, "--trainer.log_every_n_steps=1", f"--runs={home}", *more)
        lines = tmp_path / f"{home.name}.journal" if journal else None
        assert {place: train(args, place, lines) for place in places} == places
        assert train(args, journal=lines) == 0
    uncut, cut = (only_run(home / name) for home in homes)
    assert_same_run(uncut, cut)
    return uncut, cut


def test_stage_1_cut_off_anywhere(cohort: Path, work: Path, tmp_path: Path) -> None:
    schedule = "--lr_scheduler=CosineAnnealingLR"  # as long as the training, which goes on with it
    uncut, cut = cut_and_uncut("smoke_infection", cohort, work, tmp_path, INFECTION_CUTS, schedule)
    assert len(set(read_offline_run(cut).ids)) == 1
    files = [sorted(path.name for path in run.iterdir()) for run in (uncut, cut)]
    assert files[0] == files[1]
    assert cut.parent.joinpath("latest").resolve() == cut


def test_em_cut_off_sees_the_same_slices_with_the_same_labels(
    cohort: Path, work: Path, infection_run: Path, tmp_path: Path
) -> None:
    more = ["--trainer.max_epochs=3", f"--model.init_weights={infection_run / 'best.ckpt'}"]
    cut_and_uncut("smoke", cohort, work, tmp_path, EM_CUTS, *more, journal=True)
    uncut, cut = ((tmp_path / f"{name}.journal").read_text().splitlines() for name in ("uncut", "cut"))
    assert len(cut) > len(uncut), "something was repeated"
    assert set(cut) == set(uncut), "and repeated alike"
    assert len({line.split()[-1] for line in uncut}) > 3


def test_any_label_cut_off_goes_on_with_the_same_labels_and_priors(
    mixed_cohort: Path, work: Path, tmp_path: Path
) -> None:
    cuts = {"call latent_labels 2": -9, "step 30": -9, "rename last.ckpt 1": -9}
    uncut, cut = cut_and_uncut("smoke_any_label", mixed_cohort, work, tmp_path, cuts)
    courses = [pd.read_csv(run / "metrics.csv")["e_step/consolidation/b2"].dropna().tolist() for run in (uncut, cut)]
    assert courses[0] == courses[1]
    assert len(set(courses[0])) == 3, "the prior moved in each of three E-steps"


def test_schedules_and_ends_that_watch_a_metric(cohort: Path, work: Path, tmp_path: Path) -> None:
    more = [
        "--lr_scheduler=ReduceLROnPlateau",
        "--lr_scheduler.monitor=val/dice",
        "--lr_scheduler.mode=max",
        "--lr_scheduler.patience=0",
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val/dice",
        "--trainer.callbacks.mode=max",
        "--trainer.callbacks.patience=2",
        "--trainer.max_epochs=9",
    ]
    uncut, _ = cut_and_uncut("smoke_infection", cohort, work, tmp_path, {"step 7": -9, "call test_step 1": -9}, *more)
    last = load_checkpoint_file(uncut / "last.ckpt")
    assert last["epoch"] < 8, "stopped early"
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] < 3e-3


def test_a_number_of_steps_with_a_schedule_and_averaged_weights(cohort: Path, work: Path, tmp_path: Path) -> None:
    more = ["--trainer.max_epochs=-1", "--trainer.max_steps=8"]  # ends within the third epoch
    more += ["--lr_scheduler=CosineAnnealingLR", "--trainer.check_val_every_n_epoch=2"]
    more += ["--trainer.callbacks+=callbacks.average_weights.AverageWeights", "--trainer.callbacks.decay=0.7"]
    runs = cut_and_uncut("smoke_infection", cohort, work, tmp_path, {"step 4": -9, "call test_step 1": -9}, *more)
    uncut, cut = (load_checkpoint_file(run / "last.ckpt") for run in runs)
    assert (uncut["global_step"], cut["global_step"]) == (8, 8)
    assert uncut["averaged_weights"]["count"] == 8
    assert_equal(uncut["averaged_weights"], cut["averaged_weights"], "the weights that training goes on with")


def test_a_damaged_checkpoint_costs_an_epoch_and_no_more(cohort: Path, work: Path, tmp_path: Path) -> None:
    homes = [tmp_path / "uncut", tmp_path / "cut"]
    args = [experiment_args("smoke_infection", cohort, work, f"--runs={home}") for home in homes]
    assert train(args[0]) == 0
    assert train(args[1], "step 7") == -9
    cut = only_run(homes[1] / "smoke_infection")
    damaged = bytearray((cut / "last.ckpt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (cut / "last.ckpt").write_bytes(damaged)
    assert train(args[1], "rename last.ckpt 1") == -9, "the good one is still there, not the damaged one twice"
    assert load_checkpoint_file(cut / "previous.ckpt")["epoch"] == 0
    assert train(args[1]) == 0
    assert_same_run(only_run(homes[0] / "smoke_infection"), cut)


def test_make_train_says_that_it_goes_on(cohort: Path, work: Path, tmp_path: Path) -> None:
    args = experiment_args("smoke_infection", cohort, work, "--trainer.max_epochs=2", f"--runs={tmp_path}")
    assert train(args, "step 4") == -9
    folder = only_run(tmp_path / "smoke_infection")
    command = [sys.executable, str(ROOT / "train.py"), "fit", *args]
    environment = new_environment()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{folder} is unfinished: going on from {folder}/last.ckpt; FRESH=1 starts over" in done.stdout
    assert (folder / "metrics.json").is_file()
    printed = subprocess.run(
        ["make", "-n", "train", "EXP=smoke_infection", "FRESH=1"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "--fresh=true" in printed.stdout


def test_a_cohort_that_changed_is_refused(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = experiment_args("smoke_infection", cohort, work, f"--runs={tmp_path}")
    assert train(args, "step 1") == -9
    verdicts = only_run(tmp_path / "smoke_infection") / "verdicts.csv"
    verdicts.write_text(verdicts.read_text() + "one,more\n")
    os.environ.pop("GROUND_GLASS_RUN", None)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *args])
    assert stop.value.code == 2
    assert "the cohort has changed since this run began" in capsys.readouterr().err


def test_a_checkpoint_from_within_an_epoch_is_refused(
    cohort: Path, work: Path, infection_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    within = load_checkpoint_file(infection_run / "last.ckpt")
    for counts in within["loops"]["fit_loop"]["epoch_progress"].values():
        counts["processed"] -= 1
    torch.save(within, tmp_path / "within.ckpt")
    os.environ.pop("GROUND_GLASS_RUN", None)
    args = experiment_args("smoke_infection", cohort, work, f"--runs={tmp_path}", f"--ckpt_path={tmp_path}/within.ckpt")
    with pytest.raises(SystemExit) as stop:
        main(["fit", *args])
    assert stop.value.code == 2
    assert "was saved in the middle of an epoch" in capsys.readouterr().err


def test_sigterm_ends_all_ranks_and_the_run_goes_on(cohort: Path, work: Path, tmp_path: Path) -> None:
    more = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--trainer.max_epochs=4"]
    more += ["--data.batch_size=4", "--trainer.log_every_n_steps=1", f"--runs={tmp_path}"]
    args = experiment_args("smoke_infection", cohort, work, *more)
    command = [sys.executable, str(ROOT / "train.py"), "fit", *args]
    environment = new_environment()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 900
        while not list(tmp_path.glob("*/*/last.ckpt")):
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert time.monotonic() < deadline, "no epoch was finished"
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 143, errors[-2000:]
        while _lives(process.pid):
            assert time.monotonic() - asked < 30, "a rank is left"
            time.sleep(0.1)
    finally:
        if _lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    run = only_run(tmp_path / "smoke_infection")
    steps = pd.read_csv(run / "metrics.csv").dropna(subset="train/loss")["step"].tolist()
    assert steps == list(range(len(steps)))
    assert len(set(read_offline_run(run).ids)) == 1
    assert json.loads((run / "metrics.json").read_text())["scans"] == 2


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
