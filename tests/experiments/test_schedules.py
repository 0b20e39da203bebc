"""The schedule of the learning rate is as long as the training, whatever length the user asks for."""

import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from harness import EXPERIMENTS, experiment_args, train_in_process
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import instantiate_class

from train import ExperimentCLI, main
from training.checkpoint_file import load_checkpoint_file
from training.schedule import training_length

FILES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if path.stem != "base")
# The rate in each of three epochs and after them, as a share of the first: half a cosine, and the papers' steps.
RATES: dict[str | None, list[float]]
RATES = {
    "CosineAnnealingLR": [1, 0.75, 0.25, 0],
    "StepsLR": [1, 0.1, 0.01, 0.01],
    None: [1, 1, 1, 1],
}


class Parsed(ExperimentCLI):
    """Parses a command and makes nothing."""

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def parsed(name: str, *more: str) -> Any:
    """The resolved configuration of `make train EXP=<name>`, as config.yaml of the run would hold it."""
    args = ["fit", f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={EXPERIMENTS / name}.yaml", *more]
    cli = Parsed(LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, args=args)
    return yaml.safe_load(cli.resolved())


def rates(config: Any) -> list[float]:
    """The learning rate in every epoch, or step, of a training and after the last, as shares of the first."""
    optimizer = instantiate_class((torch.nn.Linear(1, 1).parameters(),), config["optimizer"])
    schedule = instantiate_class(optimizer, config["lr_scheduler"]) if config["lr_scheduler"] else None
    values = [optimizer.param_groups[0]["lr"]]
    length, _ = training_length(config["trainer"]["max_epochs"], config["trainer"]["max_steps"])
    assert length is not None
    for _ in range(length):
        optimizer.step()
        if schedule is not None:
            schedule.step()
        values.append(optimizer.param_groups[0]["lr"])
    return [value / config["optimizer"]["init_args"]["lr"] for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_experiment_can_be_shortened(name: str) -> None:
    config = parsed(name, "--trainer.max_epochs=3")
    kind = config["lr_scheduler"] and config["lr_scheduler"]["class_path"].rpartition(".")[2]
    assert rates(config) == pytest.approx(RATES[kind], abs=1e-9)
    assert rates(parsed(name))[-1] == pytest.approx(RATES[kind][-1], abs=1e-9)


@pytest.mark.parametrize("name", ["unet_em", "unet_infection_paper"])
def test_the_length_may_be_a_number_of_steps(name: str) -> None:
    config = parsed(name, "--trainer.max_epochs=-1", "--trainer.max_steps=3")
    kind = config["lr_scheduler"]["class_path"].rpartition(".")[2]
    assert rates(config) == pytest.approx(RATES[kind], abs=1e-9)


@pytest.mark.parametrize(("name", "falls"), [("opacity_unet_paper", [10, 20]), ("unet_infection_paper", [50, 100])])
def test_the_papers_epochs_at_the_papers_length(name: str, falls: list[int]) -> None:
    course = rates(parsed(name))
    assert [epoch for epoch in range(1, len(course)) if course[epoch] < course[epoch - 1] * 0.99] == falls


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2])
def test_the_first_epoch_has_the_rate_that_was_asked_for(epochs: int) -> None:
    for name in ("unet_em", "unet_infection_paper"):
        assert rates(parsed(name, f"--trainer.max_epochs={epochs}"))[0] == pytest.approx(1)


def test_a_schedule_without_a_length_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["fit", f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={EXPERIMENTS / 'unet_infection.yaml'}"]
    with pytest.raises(SystemExit) as stop:
        main([*args, "--trainer.max_epochs=-1"])
    assert stop.value.code == 2
    message = "trainer.max_epochs is -1 and trainer.max_steps is -1, but the learning rate follows a schedule"
    assert message in capsys.readouterr().err


def refusal_of(capsys: pytest.CaptureFixture[str], args: list[str], run: Path) -> str:
    """What a training says that is to go on from the last checkpoint of a run and is refused."""
    os.environ.pop("GROUND_GLASS_RUN", None)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *args, f"--ckpt_path={run / 'last.ckpt'}"])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_shortened_training_ends_at_a_low_rate(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--trainer.max_epochs=3", "--lr_scheduler=CosineAnnealingLR", f"--runs={tmp_path}"]
    train_in_process("smoke_infection", cohort, work, *more, "--trainer.log_every_n_steps=1")
    run = (tmp_path / "smoke_infection" / "latest").resolve()
    assert yaml.safe_load((run / "config.yaml").read_text())["lr_scheduler"]["init_args"]["T_max"] == 3
    course = pd.read_csv(run / "metrics.csv")["lr-Adam"].dropna()
    assert list(course.round(8).unique()) == pytest.approx([3e-3, 2.25e-3, 0.75e-3])
    line = refusal_of(capsys, [*experiment_args("smoke_infection", cohort, work, *more), "--trainer.max_epochs=5"], run)
    assert "last.ckpt follows a schedule of 3 epochs, but this training has 5" in line


def test_a_training_in_steps_ends_at_a_low_rate_and_validated(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--trainer.max_epochs=-1", "--trainer.max_steps=8", "--lr_scheduler=CosineAnnealingLR"]
    more += ["--trainer.check_val_every_n_epoch=2", f"--runs={tmp_path}", "--trainer.log_every_n_steps=1"]
    train_in_process("smoke_infection", cohort, work, *more)
    run = (tmp_path / "smoke_infection" / "latest").resolve()
    course = pd.read_csv(run / "metrics.csv")
    # Eight steps of half a cosine; an epoch has three, so the third ends early, and is the only one validated but the
    # second.
    half_cosine = [3e-3 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert list(course["lr-Adam"].dropna()) == pytest.approx(half_cosine)
    assert list(course.dropna(subset="val/dice")["epoch"]) == [1, 2]
    assert load_checkpoint_file(run / "last.ckpt")["ground_glass"]["validation"]["infection/dice_mean"] is not None
    line = refusal_of(capsys, [*experiment_args("smoke_infection", cohort, work, *more), "--trainer.max_steps=9"], run)
    assert "last.ckpt follows a schedule of 8 steps, but this training has 9" in line
