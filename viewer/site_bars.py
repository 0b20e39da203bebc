"""Figures of several runs by site, as bars."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from evaluation.figures import HATCHES, LINE_COLOURS
from evaluation.side_by_side import Runs

BAR_FIGURES = {
    "dice_mean": "Dice (mean over scans)",
    "iou_pooled": "IOU (pooled)",
    "relative_volume": "Relative volume (pooled)",
}
ALL = "all"


def site_figures(part: Runs, finding: str, figure: str) -> pd.DataFrame:
    """A row for each site and one for all, a column for each run; NaN where a figure is undefined.

    Args:
        part: Runs of the same test scans.
        finding: What they are judged by.
        figure: A key of BAR_FIGURES.
    """
    sites = sorted({str(site) for run in part.values() for site in run.scans["site"]})
    key = f"{finding}/{figure}"
    columns = {
        name: [run.metrics.get(f"site/{site}/{key}") for site in sites] + [run.metrics.get(key)]
        for name, run in part.items()
    }
    return pd.DataFrame(columns, index=[*sites, ALL], dtype=float)


def draw_sites(values: pd.DataFrame, label: str) -> Any:
    """Bars of `site_figures`, runs side by side at each site.

    Args:
        values: Its table.
        label: Of the figure.

    Returns:
        A matplotlib figure.
    """
    figure, axis = plt.subplots(figsize=(9.6, 2.6), layout="constrained")
    width = 0.8 / len(values.columns)
    for number, name in enumerate(values.columns):
        places = np.arange(len(values)) + (number - (len(values.columns) - 1) / 2) * width
        colour, hatch = LINE_COLOURS[number % len(LINE_COLOURS)], HATCHES[number % len(HATCHES)]
        bars = axis.bar(places, values[name], width, label=name, edgecolor="white", color=colour, hatch=hatch)
        axis.bar_label(bars, fmt="%.2f", fontsize=8)
    axis.set_xticks(range(len(values)), ["all sites" if site == ALL else f"site {site}" for site in values.index])
    axis.set_ylabel(label)
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    return figure
