"""Recorder of a training's Dice by CPU time: the points of its curve, and the state from which it goes on."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.cpu_clock import CpuClock
from benchmarks.held_out_folds import Fold, Predict
from ct.refusal import Refusal
from training.precision import fastest_precision

CHECKPOINTS = 20  # evaluations of a training, in equal steps of its budget
POINTS = "points.jsonl"
Save = Callable[[Path], Any]


@dataclass(frozen=True)
class Training:
    """What tells one training from another.

    Attributes:
        method: Its name.
        fold: From 0.
        budget_s: CPU seconds, over which its schedule of the learning rate runs.
    """

    method: str
    fold: int
    budget_s: float

    @property
    def name(self) -> str:
        """Its name as part of a file's."""
        return f"{self.method}-fold{self.fold}-{self.budget_s:g}s"


def read_points(out: Path) -> list[dict[str, Any]]:
    """Read the points of all trainings.

    Raises:
        Refusal: A line is no JSON.
    """
    path = out / POINTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    points = []
    for number, line in enumerate(lines, start=1):
        try:
            points.append(json.loads(line))
        except json.JSONDecodeError:
            raise Refusal(
                "{path}: line {number} is no JSON; remove it, and its training goes on from the line before",
                path=path,
                number=number,
            ) from None
    return points


def machine(threads: int, packages: Sequence[str]) -> dict[str, Any]:
    """Describe where and with what something was measured."""
    names = [row.partition(":")[2].strip() for row in _cpuinfo() if row.startswith("model name")]
    versions = {name: version(name) for name in ("torch", *packages)}
    return {"cpu": names[0] if names else platform.processor(), "threads": threads, "versions": versions}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


class Recorder:
    """Clock of one training, whose points are lines of a file.

    A point is written once its state is saved, and a state is used only if its point is written: a training that was
    killed goes on from its last point, with the CPU time that it had spent there.

    Args:
        training: The training.
        fold: Where it is evaluated.
        out: The folder of the points and states.
        packages: Distributions whose versions are recorded.
    """

    def __init__(self, training: Training, fold: Fold, out: Path, packages: Sequence[str] = ()) -> None:
        self.training, self.fold, self.out = training, fold, out
        self.about = machine(torch.get_num_threads(), packages) | {"precision": fastest_precision()}
        mine = [point for point in read_points(out) if Training(**{k: point[k] for k in asdict(training)}) == training]
        set_up = {name: self.about[name] for name in ("threads", "precision")}
        if any({name: point[name] for name in set_up} != set_up for point in mine):
            raise Refusal(
                "{out} holds points of {name} with other threads or precision; choose another --out",
                out=out,
                name=training.name,
            )
        self.reached: int = mine[-1]["checkpoint"] if mine else 0
        self.steps: int = mine[-1]["steps"] if mine else 0
        self._spent: float = mine[-1]["cpu_s"] if mine else 0.0
        self.clock = CpuClock(self._spent)

    @property
    def done(self) -> bool:
        """Whether the budget is spent."""
        return self.reached >= CHECKPOINTS

    @property
    def state(self) -> Path | None:
        """The file from which the training goes on; None at its beginning."""
        return self._state(self.reached) if self.reached else None

    def _state(self, checkpoint: int) -> Path:
        return self.out / "states" / f"{self.training.name}-{checkpoint:02d}.ckpt"

    def start(self) -> None:
        """Start the clock: everything is read and built, and the first step comes next."""
        self.clock = CpuClock(self._spent)

    @property
    def share(self) -> float:
        """The share of the budget that is spent, at most 1."""
        return min(1.0, self.clock.seconds / self.training.budget_s)

    def step_done(self, predict: Predict, save: Save) -> bool:
        """Count a step, evaluate if it is time, and tell whether the budget is spent.

        Args:
            predict: Predicts with the weights as they are.
            save: Writes the training's state to a path.
        """
        self.steps += 1
        due = int(self.share * CHECKPOINTS)
        if due > self.reached:
            spent = self.clock.seconds
            with self.clock.paused():
                self._record(due, spent, predict, save)
        return self.done

    def _record(self, checkpoint: int, spent: float, predict: Predict, save: Save) -> None:
        figures = {
            "checkpoint": checkpoint,
            "cpu_s": round(spent, 3),
            "steps": self.steps,
            **self.fold.evaluate(predict),
        }
        state = self._state(checkpoint)
        state.parent.mkdir(parents=True, exist_ok=True)
        save(state)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with (self.out / POINTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self.training) | figures | self.about | {"time": now}) + "\n")
        self.reached = checkpoint
        for older in state.parent.glob(f"{self.training.name}-*.ckpt"):
            if older != state:
                older.unlink()
        print(f"{self.training.name}: {spent:.0f} of {self.training.budget_s:g} CPU s, {self.steps} steps, "
              f"Dice {figures['dice_mean']:.3f} (pooled {figures['dice_pooled']:.3f})", flush=True)  # fmt: skip
