"""Figures of the five lobes: how much of each is involved, and the scores of reader and model."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import LIMITS
from evaluation.report.drawing import point_styles
from pages.page import counted

# Right lobes stand on the left, as a radiologist looks at a chest, and a gap parts the lungs.
PLACES = dict(zip(LOBES, (0.0, 1.0, 2.0, 3.5, 4.5), strict=True))
LUNGS = {"right": {"facecolor": "white"}, "left": {"facecolor": "lightgrey", "hatch": "////"}}
# Per cent of a lobe at which its score rises above 1, 2, 3 and 4.
SCORE_LIMITS = tuple(100 * limit for limit in LIMITS[1:])
LEAST_TOP = 10


def name_of(lobe: str) -> str:
    """Return a lobe's name in tables and figures."""
    return lobe.replace("_", " ")


def shares_of(finding: str) -> list[str]:
    """Return the columns of measurements.csv with the share of each lobe that a finding involves."""
    return [f"{lobe}_{finding}_share" for lobe in LOBES]


def draw_shares(scans: pd.DataFrame, finding: str) -> Any:
    """Draw the share of each lobe that a finding involves: median, quartiles and whiskers, and every scan's point.

    Args:
        scans: Of `evaluation.segmented_scans.SegmentedScans`; a marker per site, where sites are known.
        finding: Its key.

    Returns:
        A matplotlib figure. Dotted lines part the scores; whiskers reach to the last scan within 1.5 times the distance
        of the quartiles.
    """
    per_cent = 100 * scans.reindex(columns=shares_of(finding)).set_axis(list(LOBES), axis=1)
    top = max(1.08 * float(np.nanmax(per_cent.to_numpy())), LEAST_TOP)
    figure, axis = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for lobe, place in PLACES.items():
        _draw_box(axis, per_cent[lobe].dropna(), place, LUNGS[lobe.partition("_")[0]])
    _draw_points(axis, per_cent, scans["site"])
    _draw_score_limits(axis, top)
    names = [f"{name_of(lobe)}\nn = {per_cent[lobe].count()}".replace(" ", "\n", 1) for lobe in LOBES]
    axis.set_xticks(list(PLACES.values()), names, fontsize=9)
    axis.set(ylim=(-0.02 * top, top), xlim=(-0.6, 5.1), ylabel=f"{finding.replace('_', ' ')} (% of the lobe)")
    axis.set_title(f"n = {counted(int(per_cent.notna().any(axis=1).sum()), 'scan')}", fontsize=10)
    if axis.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def _draw_box(axis: Any, values: pd.Series, place: float, fill: dict[str, Any]) -> None:
    parts = axis.boxplot(
        [values], positions=[place], widths=0.6, showfliers=False, patch_artist=True, medianprops={"color": "black"}
    )
    parts["medians"][0].set_linewidth(2.5)
    parts["boxes"][0].set(edgecolor="black", **fill)


def _draw_points(axis: Any, per_cent: pd.DataFrame, site: pd.Series) -> None:
    random = np.random.default_rng(0)  # only to draw the points beside each other
    beside = pd.Series(random.uniform(-0.2, 0.2, len(per_cent)), per_cent.index)
    names = [*sorted(site.dropna().unique()), None]
    for name, (marker, colour) in zip(names, point_styles(), strict=False):
        there = per_cent[site.isna() if name is None else site == name]
        if len(there):
            x = np.concatenate([place + beside[there.index] for place in PLACES.values()])
            label = f"site {name}" if name is not None else "site unknown" if len(names) > 1 else None
            style = {"marker": marker, "facecolor": "white", "edgecolor": colour, "s": 20, "zorder": 3}
            axis.scatter(x, there[list(PLACES)].to_numpy().T.ravel(), label=label, linewidth=1.1, **style)


def _draw_score_limits(axis: Any, top: float) -> None:
    """Draw the limits of the scores, which a second axis names between them."""
    below = [limit for limit in SCORE_LIMITS if limit < top]
    for limit in below:
        axis.axhline(limit, color="grey", linestyle=":", linewidth=1, zorder=0)
    ends = [0, *below, top]
    scores = axis.secondary_yaxis("right")
    scores.set_yticks([(low + high) / 2 for low, high in pairwise(ends)], range(1, len(ends)))
    scores.set_ylabel("score of the lobe")
    scores.tick_params(length=0)


def draw_scores(table: NDArray[np.int64], scans: int) -> Any:
    """Draw how often each score of the reader meets each score of the model; where they agree, a frame.

    Args:
        table: Counts of lobes, int64 (6, 6), reader x model.
        scans: How many scans have these lobes.

    Returns:
        A matplotlib figure.
    """
    figure, axis = plt.subplots(figsize=(5.0, 4.6), layout="constrained")
    image = axis.imshow(table, cmap="viridis", origin="lower", vmin=0, vmax=max(int(table.max()), 1), aspect="auto")
    for (reader, model), count in np.ndenumerate(table):
        colour = "white" if count < 0.6 * table.max() else "black"
        axis.text(model, reader, str(count), ha="center", va="center", color=colour, fontsize=9)
        if reader == model:
            frame = Rectangle((model - 0.5, reader - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=2)
            axis.add_patch(frame)
    axis.set(xlabel="score of the lobe, model", ylabel="score of the lobe, reader")
    axis.tick_params(length=0)
    axis.set_title(f"n = {counted(int(table.sum()), 'lobe')} of {counted(scans, 'scan')}", fontsize=10)
    figure.colorbar(image, label="lobes")
    return figure
