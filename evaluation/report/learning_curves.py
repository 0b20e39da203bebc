"""Learning curves of a run: its loss and its figures of training and validation by epoch, from metrics.csv."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from evaluation.report.drawing import DOTS_PER_INCH, LINE_COLOURS
from pages.page import counted

FILE = "curves.png"
# The panels and their columns of metrics.csv, of which the first that a run logged is shown.
TRAIN, VALIDATION = "train", "validation"
PANELS: dict[str, dict[str, tuple[str, ...]]] = {
    "loss": {TRAIN: ("train/loss_epoch", "train/loss"), VALIDATION: ("val/loss",)},
    "Dice": {TRAIN: ("train/dice",), VALIDATION: ("val/dice",)},
    "IOU": {TRAIN: ("train/iou",), VALIDATION: ("val/iou", "val/opacity_iou")},
    "relative volume": {TRAIN: ("train/relative_volume",), VALIDATION: ("val/relative_volume",)},
    "labelled by the E-step (share)": {TRAIN: ("e_step/share",)},
}
PANELS_PER_ROW = 3
SHARES = ("Dice", "IOU", "labelled by the E-step (share)")
STYLES: dict[str, dict[str, Any]] = {
    TRAIN: {"color": LINE_COLOURS[0], "linestyle": "--", "marker": "o"},
    VALIDATION: {"color": LINE_COLOURS[1], "linestyle": "-", "marker": "s"},
}


def read_curves(folder: Path) -> pd.DataFrame:
    """Read what a run logged by epoch.

    Args:
        folder: A run folder.

    Returns:
        A row per epoch, indexed from 1: the epoch's means of the columns of metrics.csv; empty without that file.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return pd.DataFrame()
    rows = pd.read_csv(path)
    by_epoch = rows.dropna(subset="epoch").groupby("epoch").mean()
    return by_epoch.set_index((by_epoch.index + 1).astype(int)).drop(columns="step")


def curves_of(history: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """Return the curves of each panel that has any: `train` and `validation` by epoch.

    Args:
        history: Rows of `read_curves`.
    """
    panels = {}
    for panel, lines in PANELS.items():
        columns = {name: next((key for key in keys if key in history), None) for name, keys in lines.items()}
        curves = {name: history[key].dropna() for name, key in columns.items() if key is not None}
        panels[panel] = {name: curve for name, curve in curves.items() if np.isfinite(curve).any()}
    return {panel: curves for panel, curves in panels.items() if curves}


def draw_curves(history: pd.DataFrame, title: str = "") -> Any:
    """Draw a panel for the loss and for each figure, training beside validation.

    Args:
        history: Rows of `read_curves`, with at least one curve.
        title: Title of the figure.

    Returns:
        A matplotlib figure.
    """
    panels = curves_of(history)
    columns = min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.1 * columns + 0.4, 2.7 * rows + 0.8), squeeze=False, layout="constrained"
    )
    for unused in axes.flat[len(panels) :]:
        unused.remove()
    few = len(history) <= 30  # markers of more epochs would run into each other
    for axis, (panel, curves) in zip(axes.flat, panels.items(), strict=False):
        for name, curve in curves.items():
            style = STYLES[name] | ({} if few else {"marker": ""})
            axis.plot(curve.index, curve, label=name, markerfacecolor="white", markersize=5, **style)
        axis.set(xlabel="epoch", ylabel=panel, ylim=(0, 1) if panel in SHARES else None)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    handles = [Line2D([], [], label=name, markerfacecolor="white", **style) for name, style in STYLES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(", ".join(filter(None, [title, counted(len(history), "epoch")])), fontsize=10)
    return figure


def write_curves(folder: Path, title: str) -> Path | None:
    """Write <run folder>/curves.png from all that the run has logged, also before it was resumed.

    Returns:
        Its path; None where the run logged no curve.
    """
    history = read_curves(folder)
    if not curves_of(history):
        return None
    figure, path = draw_curves(history, title), folder / FILE
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
    return path
