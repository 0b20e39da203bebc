"""The share of waiting: what it counts, what it does not, and that every run logs it."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callbacks import waiting
from callbacks.waiting import WaitingShare


class Hands:
    """A clock that a test moves on, and a module that remembers what it was told to log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.logged: dict[str, float] = {}
        monkeypatch.setattr(waiting, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def log(self, name: str, value: float, **more: Any) -> None:
        self.logged[name] = value


def epoch(callback: WaitingShare, hands: Hands, steps: list[tuple[float, float]], validated_s: float = 0) -> float:
    """The share of an epoch with (waited, worked) seconds per step, and a validation after its first step."""
    callback.on_train_epoch_start(None, hands)
    for number, (waited_s, worked_s) in enumerate(steps):
        hands.now += waited_s
        callback.on_train_batch_start(None, hands, None, number)
        hands.now += worked_s
        callback.on_train_batch_end(None, hands, None, None, number)
        if validated_s and number == 0:
            callback.on_validation_start(None, hands)
            hands.now += validated_s
    callback.on_train_epoch_end(None, hands)
    return float(hands.logged["train/waiting_share"])


def test_share_of_the_time_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, callback = Hands(monkeypatch), WaitingShare()
    # What comes before the first step is no waiting between steps: 1 + 2 of 1 + 2 + 3 * 3 seconds.
    assert epoch(callback, hands, [(50, 3), (1, 3), (2, 3)]) == pytest.approx(3 / 12)
    assert epoch(callback, hands, [(50, 2), (0, 2)]) == 0, "an epoch must not remember the one before"


def test_validation_inside_an_epoch_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, callback = Hands(monkeypatch), WaitingShare()
    assert epoch(callback, hands, [(0, 4), (1, 4), (2, 4)], validated_s=1000) == pytest.approx(2 / 14)


def test_an_epoch_without_steps_logs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, callback = Hands(monkeypatch), WaitingShare()
    callback.on_train_epoch_start(None, hands)
    callback.on_train_epoch_end(None, hands)
    assert hands.logged == {}


def test_every_run_logs_it_once_per_epoch(infection_run: Path) -> None:
    with (infection_run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/waiting_share"]]
    assert [int(row["epoch"]) for row in rows] == list(range(6))
    assert all(0 < float(row["train/waiting_share"]) < 1 for row in rows)
