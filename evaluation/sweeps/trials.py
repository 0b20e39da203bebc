"""Trials of a sweep: their runs, the figure that ranks them, and the table of all."""

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml

from evaluation.sweeps.sweep_file import TEST, Parameters, Sweep
from machine.latest import latest_run
from machine.package import here
from machine.whole_file import whole_file


@dataclass
class Trial:
    """A point of a sweep with the outcome of its last attempt.

    Attributes:
        key: The name of its folder.
        parameters: Value by the name of the option.
        number: Number of its last attempt in optuna's study.
        state: `unfinished`, `ok` or `failed`.
        seconds: How long it ran; NaN when the sweep was killed before it ended.
        error: Why it failed, else empty.
        value: The sweep's metric; None where it is undefined or not known yet.
    """

    key: str
    parameters: Parameters
    number: int
    state: Literal["unfinished", "ok", "failed"] = "unfinished"
    seconds: float = math.nan
    error: str = ""
    value: float | None = None

    def __str__(self) -> str:
        """Return its parameters."""
        return ", ".join(f"{name} {value}" for name, value in self.parameters.items())


def finished_run(home: Path) -> Path | None:
    """Return the finished run in a trial's folder, if there is one."""
    runs = [latest_run(experiment) for experiment in sorted(home.glob("*/"))]
    return next((run for run in runs if run and (run / "metrics.json").is_file()), None)


def best_trial(trials: Sequence[Trial], goal: str) -> Trial | None:
    """Return the finished trial with the best value, of equal ones the first; None where no trial has a value."""
    sign = 1 if goal == "maximize" else -1
    valued = [trial for trial in trials if trial.state == "ok" and math.isfinite(trial.value or math.nan)]
    return max(valued, key=lambda trial: sign * (trial.value or 0.0), default=None)


def write_trials(trials: Sequence[Trial], sweep: Sweep, folder: Path) -> pd.DataFrame:
    """Write trials.csv: trial, state, parameters, run folder, seconds, error, and the figures of metrics.json.

    The row of the best trial has the name of the sweep's metric in the column `best_by`.

    Args:
        trials: In the order of the rows.
        sweep: Their sweep.
        folder: The folder of the sweep, with a folder per trial.

    Returns:
        The table.
    """
    rows, best = [], best_trial(trials, sweep.goal)
    for trial in trials:
        run = finished_run(folder / trial.key) if trial.state == "ok" else None
        figures = json.loads((run / "metrics.json").read_text()) if run else {}
        if run and not sweep.metric.startswith(TEST):
            figures[sweep.metric] = trial.value
        rows.append(
            {"trial": trial.key, "state": trial.state}
            | trial.parameters
            | {"run": str(run or ""), "seconds": round(trial.seconds, 1), "error": trial.error}
            | {"best_by": sweep.metric if trial is best else ""}
            | figures
        )
    table = pd.DataFrame(rows)
    with whole_file(folder / "trials.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def best_sentence(trials: pd.DataFrame, parameters: Sequence[str], metric: str) -> str:
    """Return a sentence on the best trial and the metric that ranks it.

    Args:
        trials: trials.csv; the best trial has the metric's name in the column `best_by`.
        parameters: The columns that were searched.
        metric: The sweep's metric.
    """
    best = trials[trials["best_by"] == metric]
    if best.empty:
        return f"no trial has a value of {metric}, so none is the best"
    row = best.iloc[0]
    named = ", ".join(f"{name} {row[name]}" for name in parameters)
    warning = "; it was chosen on test scans, so its figures flatter it" if metric.startswith(TEST) else ""
    return f"best by {metric}: {named} ({row[metric.removeprefix(TEST)]:.4f}){warning}"


def metric_of(run: Path, metric: str) -> float | None:
    """Return a figure of a finished run: `test/<key>` from metrics.json, else from a column of metrics.csv.

    Of a column it is the value that W&B compares: the highest where that chose the run's best.ckpt, else the last.

    Raises:
        ValueError: The run has no such figure.
    """
    if metric.startswith(TEST):
        figures = json.loads((run / "metrics.json").read_text())
        name = metric.removeprefix(TEST)
        if name in figures:
            return None if figures[name] is None else float(figures[name])
        names = [f"{TEST}{key}" for key in figures if not key.startswith("site/")]
    else:
        history = pd.read_csv(run / "metrics.csv")
        if metric in history:
            values = history[metric].dropna()
            if values.empty:
                return None
            return float(values.max() if metric == monitor_of(run) else values.iloc[-1])
        names = list(history.columns)
    raise ValueError(f"{run} has no figure {metric!r}, the sweep's metric; expected one of {', '.join(sorted(names))}")


def monitor_of(run: Path) -> str | None:
    """Return the figure whose highest value chose a run's best.ckpt; None where that is the last epoch."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "model" not in config:
        return None
    if config["model"].get("init_args", {}).get("keep") == "last":
        return None
    module, _, name = config["model"]["class_path"].rpartition(".")
    monitor: str | None = getattr(importlib.import_module(here(module)), name).monitor
    return monitor
