"""Figures and tables of paper L3 from a run's masks: Table 3, Figure 5, confusion of groups, well-aerated lung."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ct.classes import COLOUR_OF, UNLABELLED, ClassSet
from evaluation.readers.study_figures import draw_cells
from evaluation.report.drawing import WINDOW_HU, crop_to, point_styles
from evaluation.report.opacity_table import COLUMNS, PAPER
from evaluation.run_data import REAL_SCANS, Run
from evaluation.statistics import pearson_interval
from metrics.group_summary import shares_of_truth

# Of the foreground leaves in their order, so that they differ in black and white.
LEAF_HATCHES = ("", "////", "....", "||||", "oo", "++")
UNLABELLED_HATCH = "xx"


class Place(NamedTuple):
    """A slice of a run's masks: the scan, the row in its arrays, and the reason for showing it."""

    scan_id: str
    row: int
    why: str


def results_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return Table 3: loss, relative volume, IOU of opacity and of each group, and more; the paper's own rows below.

    Args:
        runs: Runs by name.
    """
    rows: list[dict[str, Any]] = [
        {"model": name, "scans": run.tested_on} | {column: run.metrics.get(key) for column, key in COLUMNS.items()}
        for name, run in runs.items()
    ]
    rows += [
        {"model": name, "scans": REAL_SCANS} | dict(zip(COLUMNS, values, strict=False))
        for name, values in PAPER.items()
    ]
    return pd.DataFrame(rows, columns=["model", "scans", *COLUMNS]).dropna(axis="columns", how="all")


def group_confusion(run: Run) -> NDArray[np.int64]:
    """Count voxels inside the lungs of all test scans, truth x prediction: int64 (C, C), without unlabelled ones."""
    leaves = len(run.classes.leaves)
    table = np.zeros((leaves, leaves), np.int64)
    for scan_id in run.scans["scan_id"]:
        arrays = run.arrays(scan_id)
        counted = (arrays["lung"] > 0) & (arrays["truth_groups"] != UNLABELLED)
        codes = arrays["truth_groups"][counted].astype(np.int64) * leaves + arrays["groups"][counted]
        table += np.bincount(codes, minlength=table.size).reshape(table.shape)
    return table


def draw_confusion(table: NDArray[np.int64], classes: ClassSet) -> Any:
    """Draw the share of each true class that is called each class.

    Args:
        table: int64 (C, C) of `group_confusion`.
        classes: The class set of the table.

    Returns:
        A matplotlib figure.
    """
    names = [leaf.name.replace("with septal", "with\nseptal") for leaf in classes.leaves]
    voxels = [f"{name}\n(n = {count:,} voxels)" for name, count in zip(names, table.sum(1), strict=True)]
    figure, axis = plt.subplots(figsize=(6.6, 5.2), layout="constrained")
    image = draw_cells(axis, shares_of_truth(table), voxels, names, "")
    axis.set(xlabel="prediction", ylabel="label")
    figure.colorbar(image, label="share of the label's voxels in the lungs")
    return figure


def draw_wal(scans: pd.DataFrame) -> Any:
    """Draw the percentage of well-aerated lung, label against prediction, with Pearson's r and its 95 % interval.

    Args:
        scans: Rows of scans.csv: site, wal_truth, wal_predicted (per cent).

    Returns:
        A matplotlib figure.
    """
    complete = scans.dropna(subset=["wal_truth", "wal_predicted"])
    figure, axis = plt.subplots(figsize=(4.8, 4.8), layout="constrained")
    for (site, rows), (marker, colour) in zip(complete.groupby("site"), point_styles(), strict=False):
        label = f"site {site}, n = {len(rows)}"
        axis.scatter(
            rows["wal_truth"], rows["wal_predicted"], marker=marker, facecolors="none", edgecolors=colour, label=label
        )
    least = float(np.floor(complete[["wal_truth", "wal_predicted"]].to_numpy().min(initial=100) / 5) * 5)
    axis.plot([least, 100], [least, 100], color="grey", linestyle=":", label="equal")
    r = pearson_interval(complete["wal_truth"].to_numpy(float), complete["wal_predicted"].to_numpy(float))
    axis.set_title(f"Pearson's {r.text}", fontsize=10)
    axis.set(xlabel="well-aerated lung, label (%)", ylabel="well-aerated lung, prediction (%)", aspect="equal")
    axis.legend(fontsize=8, loc="upper left")
    return figure


def choose_places(run: Run) -> list[Place]:
    """Choose slices as in Figure 5: where each foreground leaf is largest, and where most voxels are wrong.

    No scan is shown twice while others are left; a leaf that no scan has gets no slice.
    """
    sizes = {scan_id: _sizes(run, scan_id) for scan_id in run.scans["scan_id"]}
    places: list[Place] = []
    names = [run.classes.leaves[index].name for index in run.classes.foreground]
    for number, why in enumerate([*(f"most {name}" for name in names), "most wrong voxels"]):
        shown = {place.scan_id for place in places}
        candidates = [scan_id for scan_id in sizes if scan_id not in shown] or list(sizes)
        best = max(candidates, key=lambda scan_id: int(sizes[scan_id][number].max()))
        if sizes[best][number].max() > 0:
            places.append(Place(best, int(sizes[best][number].argmax()), why))
    return places


def _sizes(run: Run, scan_id: str) -> NDArray[np.int64]:
    """Count the label's voxels of each foreground leaf, and wrong voxels, per slice in the lungs: int64 (n + 1, Z)."""
    arrays, foreground = run.arrays(scan_id), run.classes.foreground
    truth, lung = arrays["truth_groups"], arrays["lung"] > 0
    sizes = [((truth == index) & lung).sum((1, 2)) for index in foreground]
    shown = [np.where(np.isin(leaves, foreground), leaves, 0) for leaves in (truth, arrays["groups"])]
    return np.stack([*sizes, ((shown[0] != shown[1]) & (truth != UNLABELLED) & lung).sum((1, 2))])


def draw_groups(run: Run, places: Sequence[Place]) -> Any:
    """Draw Figure 5: CT, label and prediction of some slices in the colours of the classes, cut to the lungs.

    Returns:
        A matplotlib figure.
    """
    figure, axes = plt.subplots(
        len(places), 3, figsize=(9, 2.25 * len(places) + 0.7), squeeze=False, layout="constrained"
    )
    for line, place in zip(axes, places, strict=True):
        arrays = run.arrays(place.scan_id)
        lung = arrays["lung"][place.row] > 0
        crop = crop_to(lung)
        for axis, groups in zip(line, (None, arrays["truth_groups"], arrays["groups"]), strict=True):
            axis.imshow(arrays["hu"][place.row][crop], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
            axis.set(xticks=[], yticks=[])
            if groups is not None:
                _paint(axis, np.where(lung | (groups[place.row] < 0), groups[place.row], 0)[crop], run.classes)
        line[0].set_ylabel(f"{place.scan_id}, slice {arrays['z'][place.row] + 1}\n{place.why}", fontsize=8)
    for axis, title in zip(axes[0], ("CT", "label", "prediction"), strict=True):
        axis.set_title(title, fontsize=10)
    handles = [Patch(facecolor=colour, hatch=hatch, label=name) for _, name, colour, hatch, _ in _styles(run.classes)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _styles(classes: ClassSet) -> list[tuple[int, str, str, str, float]]:
    """Return index, name, colour, hatch and opacity of each painted leaf; unlabelled voxels are only tinted."""
    leaves = [(index, classes.leaves[index]) for index in classes.foreground if classes.leaves[index].in_lungs]
    styles = [(index, leaf.name, leaf.colour, hatch, 0.7) for (index, leaf), hatch in zip(leaves, cycle(LEAF_HATCHES))]
    return [*styles, (UNLABELLED, "unlabelled", COLOUR_OF["unlabelled"], UNLABELLED_HATCH, 0.25)]


def _paint(axis: Any, leaves: NDArray[np.int8], classes: ClassSet) -> None:
    """Fill the foreground leaves, each with a hatch for black and white."""
    for index, _, colour, hatch, alpha in _styles(classes):
        mask = leaves == index
        if mask.any():
            axis.contourf(mask, levels=[0.5, 1.5], colors=[colour], hatches=[hatch], alpha=alpha)
