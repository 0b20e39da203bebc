"""The lines of a training that nobody watches."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from harness import experiment_args
from places import ROOT

from callbacks import epoch_lines
from callbacks.epoch_lines import EpochLines, duration, progress_bar
from train import ignore_known_warnings


class Training:
    """A trainer, a module and a clock that a test moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, monitor: str | None = None, **trainer: Any) -> None:
        self.now = 50.0
        monkeypatch.setattr(epoch_lines, "time", SimpleNamespace(perf_counter=lambda: self.now))
        limits = {"max_epochs": 4, "max_steps": -1} | trainer
        self.trainer = SimpleNamespace(current_epoch=0, global_step=0, callback_metrics={}, **limits)
        self.module, self.lines = SimpleNamespace(monitor=monitor), EpochLines()
        self.lines.on_train_start(self.trainer, self.module)

    def epoch(self, seconds: float, steps: int, logged: dict[str, float]) -> None:
        self.lines.on_train_epoch_start(self.trainer, self.module)
        self.now += seconds
        self.trainer.global_step += steps
        if any(key.startswith("val/") for key in logged):
            self.lines.on_validation_end(self.trainer, self.module)
        self.lines.on_train_epoch_end(self.trainer, self.module)
        self.trainer.callback_metrics |= {key: torch.tensor(value) for key, value in logged.items()}
        self.trainer.current_epoch += 1

    def end(self) -> None:
        self.lines.on_train_end(self.trainer, self.module)


def test_a_line_has_all_of_its_epoch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(monkeypatch)
    training.epoch(40, 12, {"train/loss_epoch": 0.51234, "val/dice": float("nan")})
    training.epoch(20, 12, {"train/loss_epoch": 0.25, "val/dice": 0.7})
    training.epoch(30, 12, {"train/loss_epoch": 0.125})  # not validated: the figure of before says nothing of it
    training.epoch(30, 12, {"train/loss_epoch": 0.1, "val/dice": 0.75})
    training.end()
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1 of 4: 12 steps, loss 0.5123, val/dice -, 40 s, about 2 min left",
        "epoch 2 of 4: 12 steps, loss 0.25, val/dice 0.7, 20 s, about 60 s left",
        "epoch 3 of 4: 12 steps, loss 0.125, 30 s, about 30 s left",
        "epoch 4 of 4: 12 steps, loss 0.1, val/dice 0.75, 30 s",
    ]


def test_steps_may_be_what_ends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(monkeypatch, "val/opacity_iou", max_epochs=-1, max_steps=25)
    training.epoch(40, 20, {"train/loss_epoch": 0.5, "val/opacity_iou": 0.25, "val/dice": 0.5})
    training.end()
    assert capsys.readouterr().out == "epoch 1: 20 of 25 steps, loss 0.5, val/opacity_iou 0.25, 40 s, about 10 s left\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7100, "118 min"), (11100, "3 h 05 min")]
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(enable_progress_bar=None, callbacks=None, log_every_n_steps=10)
    for terminal in (True, False):
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda terminal=terminal: terminal))
        (shown,) = progress_bar(settings)
        assert isinstance(shown, EpochLines) is not terminal


def test_tips_of_other_products_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    from pytorch_lightning.utilities import rank_zero_info

    ignore_known_warnings()
    caplog.set_level("INFO")
    for text in ("\N{ELECTRIC LIGHT BULB} Tip: try installing something", "train: 3 scans"):
        rank_zero_info(text)
    assert [record.getMessage() for record in caplog.records] == ["train: 3 scans"]


@pytest.mark.slow
def test_a_log_is_a_line_an_epoch_and_nothing_that_moves(cohort: Path, tmp_path: Path) -> None:
    args = experiment_args("smoke_infection", cohort, tmp_path, "--trainer.max_epochs=2")
    args = [arg for arg in args if "enable_progress_bar" not in arg]
    done = subprocess.run([sys.executable, "train.py", "fit", *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert "\r" not in output
    assert "%|" not in output
    assert "Tip" not in output
    lines = re.findall(r"^epoch (\d) of 2: \d+ steps, loss [\d.]+, val/dice \S+, \d+ s", done.stdout, re.MULTILINE)
    assert lines == ["1", "2"]
    assert re.search(r"looked at \d+ training slices in \d+ s", output)
