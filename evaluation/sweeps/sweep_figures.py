"""Figures of a sweep: Figure 3 of paper EM, and the metric of any sweep against its parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from ct.classes import COLOUR_OF
from evaluation.report.drawing import LINE_COLOURS, LINE_STYLES, MARKERS
from evaluation.report.general_figures import CEILING
from pages.page import counted

B2, K2 = "model.prior.b2", "model.prior.k2"
DICE = "consolidation/dice_mean"
PHI1_COLOUR, *B2_COLOURS = LINE_COLOURS
# Their line styles tell them apart without colour.
PHI1: dict[str, Any] = {"color": PHI1_COLOUR, "linestyle": "-.", "linewidth": 2.0}
THRESHOLD: dict[str, Any] = {"color": COLOUR_OF["threshold"], "linestyle": "--", "linewidth": 2.0}
MOST_LINES = 8
HU_PER_UNIT, HU_AT_0 = 110, -1024  # x = (HU + 1024) / 110


def prior_dice(
    trials: pd.DataFrame, phi1: float | None, threshold: float | None, ceiling: tuple[float, int] | None = None
) -> Any:
    """Draw Figure 3 of paper EM: Dice of consolidation over the steepness k2 of phi2, a line for each centre b2.

    Args:
        trials: trials.csv of a sweep over `B2` and `K2`; trials that failed are left out and counted.
        phi1: Mean Dice of the run with the prior phi1; None leaves its line out.
        threshold: Mean Dice of the -200 HU threshold; None leaves its line out.
        ceiling: Mean Dice of a reader with the average of the others, and the number of scans that readers share.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The table has no such parameters, or no finished trial.
    """
    finished = _finished(trials, [B2, K2, DICE])
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    names = {b2: f"$b_2$ = {b2:g} ({b2 * HU_PER_UNIT + HU_AT_0:.0f} HU)" for b2 in sorted(finished[B2].unique())}
    _draw_lines(axis, finished, B2, K2, DICE, names)
    for value, name, style in ((phi1, r"$\varphi_1$", PHI1), (threshold, "threshold (-200 HU)", THRESHOLD)):
        if value is not None and not np.isnan(value):
            axis.axhline(value, label=f"{name}: {value:.3f}", **style)
    if ceiling is not None:
        axis.axhline(ceiling[0], label=f"human ceiling: {ceiling[0]:.3f} ({ceiling[1]} scans)", **CEILING)
    axis.set_xlabel("steepness $k_2$ (per 110 HU)")
    axis.set_ylabel("mean Dice of consolidation")
    scans = int(finished[f"{DICE}_n"].max()) if f"{DICE}_n" in finished else None
    tested = f", each tested on n = {counted(scans, 'scan')}" if scans else ""
    figure.suptitle(_counted(trials, finished) + tested, fontsize=10)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=9, frameon=False)
    return figure


def draw_parameters(trials: pd.DataFrame, parameters: Sequence[str], metric: str) -> Any:
    """Draw the metric against the parameters: lines over a grid of two numbers, else a panel for each parameter.

    Args:
        trials: trials.csv; trials that failed are left out and counted.
        parameters: The columns that were searched; those that never vary are not shown.
        metric: The sweep's metric; `test/<key>` is the column `<key>`.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: No trial is finished, or a column is missing.
    """
    column = metric.removeprefix("test/")
    finished = _finished(trials, [*parameters, column])
    varied = [name for name in parameters if finished[name].nunique() > 1] or list(parameters[:1])
    if _is_grid(finished, varied):
        figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
        first, second = varied
        names = {value: f"{first} = {value:g}" for value in sorted(finished[first].unique())}
        _draw_lines(axis, finished, first, second, column, names)
        axis.set_xlabel(second)
        axis.set_ylabel(metric)
        axis.grid(alpha=0.3)
        figure.legend(loc="outside right center", fontsize=9, frameon=False)
    else:
        width = 3.2 * len(varied) + 1
        figure, axes = plt.subplots(1, len(varied), figsize=(width, 3.6), layout="constrained", squeeze=False)
        for axis, name in zip(axes[0], varied, strict=True):
            _draw_panel(axis, finished, name, column)
        axes[0, 0].set_ylabel(metric)
    figure.suptitle(_counted(trials, finished), fontsize=10)
    return figure


def _finished(trials: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    missing = [name for name in columns if name not in trials]
    if missing:
        raise ValueError(f"the sweep's table has no column {missing[0]!r}; expected {', '.join(columns)}")
    finished = trials[(trials["state"] == "ok") & trials[columns[-1]].notna()]
    if finished.empty:
        raise ValueError(f"none of the sweep's {len(trials)} trials has a figure {columns[-1]!r}; run the sweep again")
    return finished


def _counted(trials: pd.DataFrame, finished: pd.DataFrame) -> str:
    left_out = len(trials) - len(finished)
    return f"n = {counted(len(finished), 'trial')}" + (f" ({left_out} failed or undefined)" if left_out else "")


def _is_grid(finished: pd.DataFrame, varied: Sequence[str]) -> bool:
    if len(varied) != 2 or not all(pd.api.types.is_numeric_dtype(finished[name]) for name in varied):
        return False
    return finished[varied[0]].nunique() <= MOST_LINES and not finished.duplicated(list(varied)).any()


def _draw_lines(
    axis: Any, finished: pd.DataFrame, first: str, second: str, column: str, names: dict[float, str]
) -> None:
    """Draw a line over `second` for each value of `first`, with hollow points."""
    ticks = sorted(finished[second].unique())
    for number, (value, name) in enumerate(names.items()):
        # A trial that failed leaves a gap in its line.
        line = finished[finished[first] == value].set_index(second)[column].reindex(ticks)
        colour = B2_COLOURS[number % len(B2_COLOURS)]
        style = LINE_STYLES[number // len(B2_COLOURS)]
        axis.plot(
            line.index,
            line,
            color=colour,
            linestyle=style,
            marker=MARKERS[number % len(MARKERS)],
            markerfacecolor="white",
            markeredgewidth=1.5,
            label=name,
        )
    axis.set_xticks(ticks)


def _draw_panel(axis: Any, finished: pd.DataFrame, name: str, column: str) -> None:
    """Draw the metric of every trial against one parameter."""
    values = finished[name]
    style = {"marker": "o", "s": 30, "facecolor": "white", "edgecolor": LINE_COLOURS[0], "linewidth": 1.5}
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        axis.scatter(values, finished[column], **style)
        if values.min() > 0 and values.max() / values.min() > 50:
            axis.set_xscale("log")
    else:
        levels = sorted(values.astype(str).unique())
        axis.scatter([levels.index(value) for value in values.astype(str)], finished[column], **style)
        axis.set_xticks(np.arange(len(levels)), levels)
        axis.set_xlim(-0.5, len(levels) - 0.5)
    axis.set_xlabel(name)
    axis.grid(alpha=0.3)
