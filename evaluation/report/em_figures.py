"""Figures 2, 4, 5, 6 and 7 of paper EM, from finished runs; Figure 3, of a sweep, is in `sweep_figures`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

from ct.classes import COLOUR_OF
from evaluation.report.drawing import WINDOW_HU, crop_to, extent_of, marker_of, outline, point_styles
from evaluation.run_data import Run
from evaluation.statistics import FEWEST, fit_gamma, mann_whitney, pearson_interval
from pages.page import counted

Place = tuple[str, int]  # scan_id, and the row of the prepared scan

ZOOM_TO = 0.1  # the paper's inset shows the severities in [0, 0.1]
FITTED = "phi2"  # the group of points that the curve of Figure 4 goes through
MOST_DILATIONS = 9
SQUARE = np.ones((1, 3, 3), bool)  # in plane
WHITE_POINTS: dict[str, Any] = {"facecolor": "white", "linewidth": 1.4, "s": 36, "zorder": 3}
# What the paper calls ground glass is dashed and consolidation solid, so that they differ without colour.
GLASS: dict[str, Any] = {"colors": COLOUR_OF["infection"], "linestyles": "--", "linewidths": 1.3}
DENSE: dict[str, Any] = {"colors": COLOUR_OF["consolidation"], "linestyles": "-", "linewidths": 1.5}


def severity_scatter(run: Run) -> Any:
    """Draw Figure 2: severity by the label against severity by the model, with the range up to 0.1 enlarged.

    Args:
        run: A run that judges infection; a marker per site.

    Returns:
        A matplotlib figure; r with its 95 % interval and n stand in the title.
    """
    scans = run.scans[["site", "severity_truth", "severity_predicted"]].dropna()
    truth, predicted = scans["severity_truth"].to_numpy(float), scans["severity_predicted"].to_numpy(float)
    top = 1.08 * float(max(truth.max(initial=0), predicted.max(initial=0), ZOOM_TO))
    figure, (whole, zoom) = plt.subplots(1, 2, figsize=(8.6, 4.4), layout="constrained", width_ratios=[1.25, 1])
    for axis, limit in ((whole, top), (zoom, ZOOM_TO)):
        axis.plot([0, limit], [0, limit], color="grey", linestyle=":", label="prediction = label")
        for (site, rows), (marker, colour) in zip(scans.groupby("site"), point_styles(), strict=False):
            name = f"site {site} (n = {len(rows)})"
            axis.scatter(
                rows["severity_truth"],
                rows["severity_predicted"],
                marker=marker,
                edgecolor=colour,
                label=name,
                **WHITE_POINTS,
            )
        axis.set(
            xlim=(0, 1.02 * limit),
            ylim=(0, 1.02 * limit),
            aspect="equal",
            xlabel="severity, label (share of the lungs)",
        )
    whole.set_ylabel("severity, prediction (share of the lungs)")
    whole.legend(fontsize=8, loc="lower right")
    shown = int(((truth <= ZOOM_TO) & (predicted <= ZOOM_TO)).sum())
    zoom.set_title(f"up to {ZOOM_TO:g}: {shown} of {counted(len(scans), 'scan')}", fontsize=10)
    whole.indicate_inset([0, 0, ZOOM_TO, ZOOM_TO], edgecolor="black")
    r = pearson_interval(truth, predicted)
    figure.suptitle(f"Pearson's {r.text}", fontsize=11)
    return figure


def tpr_fpr(points: pd.DataFrame) -> Any:
    """Draw Figure 4: true against false positive rate, and TPR = FPR^gamma fitted through the points of phi2.

    Args:
        points: Columns label, group, tpr, fpr. Points with the same label share marker and colour; those whose group
            is `phi2` are fitted, where there are two or more. Points without a rate are left out and counted.

    Returns:
        A matplotlib figure; gamma and the number of points stand in its legend.
    """
    defined = points.dropna(subset=["tpr", "fpr"]).astype({"tpr": float, "fpr": float})
    figure, axis = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    for (label, rows), (marker, colour) in zip(defined.groupby("label", sort=False), point_styles(), strict=False):
        name = str(label) if len(rows) == 1 else f"{label} (n = {len(rows)})"
        colour = COLOUR_OF["threshold"] if rows["group"].eq("threshold").all() else colour
        points_style = WHITE_POINTS | {"edgecolor": colour, "clip_on": False}  # whole also on the edge, at 0 and 1
        axis.scatter(rows["fpr"], rows["tpr"], marker=marker, label=name, **points_style)
    fitted = defined[defined["group"] == FITTED]
    right = 1.15 * float(defined["fpr"].max()) if len(defined) and defined["fpr"].max() > 0 else 1.0
    if len(fitted) >= FEWEST:  # through a single point goes every curve
        gamma = fit_gamma(fitted["tpr"].to_numpy(float), fitted["fpr"].to_numpy(float))
        fpr = np.linspace(0, right, 400)[1:]
        name = rf"TPR = FPR$^\gamma$, $\gamma$ = {gamma:.3f} ($\varphi_2$, n = {len(fitted)})"
        axis.plot(fpr, fpr**gamma, color="black", linestyle="--", label=name)
    axis.set(xlim=(0, right), ylim=(0, 1), xlabel="false positive rate", ylabel="true positive rate")
    left_out = len(points) - len(defined)
    axis.set_title(
        f"n = {counted(len(defined), 'point')}" + (f" ({left_out} undefined)" if left_out else ""), fontsize=10
    )
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def choose_places(run: Run, number: int) -> list[Place]:
    """Choose the slice with most truth of scans neither best nor worst, evenly spread over the order of Dice.

    Args:
        run: A run with masks; the order is that of consolidation where it is judged, else of the first finding.
        number: How many slices.

    Returns:
        Scan and row of the prepared scan. Where no scan has the finding, the slices with most lung.
    """
    finding = "consolidation" if "consolidation" in run.findings else run.findings[0]
    with_it = run.scans.dropna(subset=[f"{finding}_dice"])
    scans = (with_it if len(with_it) else run.scans).sort_values([f"{finding}_dice", "scan_id"])["scan_id"].tolist()
    number = min(number, len(scans))
    chosen = [scans[(2 * place + 1) * len(scans) // (2 * number)] for place in range(number)]
    return [(scan_id, _fullest(run, scan_id, finding)) for scan_id in chosen]


def _fullest(run: Run, scan_id: str, finding: str) -> int:
    arrays = run.arrays(scan_id)
    area = (run.pair(scan_id, finding)[0] == 1).sum((1, 2))
    area = area if area.any() else (arrays["lung"] > 0).sum((1, 2))
    return int(arrays["z"][int(area.argmax())])


def overlays(runs: Mapping[str, Run], places: Sequence[Place]) -> Any:
    """Draw Figure 5: outlines of infection without consolidation (dashed) and of consolidation (solid) on the CT.

    Args:
        runs: Runs with masks of the same scans, by the title of their column; where the first is a stage 2 run, the
            -200 HU threshold inside its infection is a last column.
        places: A row for each.

    Returns:
        A matplotlib figure.
    """
    first = next(iter(runs.values()))
    titles = ["CT", "label", *runs, *(["threshold (-200 HU)"] if "threshold" in first.findings else [])]
    size = (2.5 * len(titles) + 0.6, 2.3 * len(places) + 0.8)
    figure, axes = plt.subplots(len(places), len(titles), figsize=size, layout="constrained", squeeze=False)
    for row, (scan_id, z) in zip(axes, places, strict=True):
        _draw_place(row, runs, scan_id, z)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title.replace(" (", "\n("), fontsize=9)
    handles = [
        Line2D([], [], color=style["colors"], linestyle=style["linestyles"], label=name)
        for name, style in (("infection without consolidation", GLASS), ("consolidation", DENSE))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    scans = {scan for scan, _ in places}
    figure.suptitle(f"n = {counted(len(places), 'slice')} of {counted(len(scans), 'scan')}", fontsize=10)
    return figure


def _draw_place(axes: NDArray[Any], runs: Mapping[str, Run], scan_id: str, z: int) -> None:
    first = next(iter(runs.values()))
    arrays = first.arrays(scan_id)
    at = int(np.flatnonzero(arrays["z"] == z)[0])
    crop = crop_to(arrays["lung"][at] > 0)
    hu = arrays["hu"][at][crop]
    extent, unit = extent_of(hu.shape, first.scans.set_index("scan_id").loc[scan_id])
    panels: list[tuple[NDArray[np.bool_], NDArray[np.bool_]] | None] = [None, _outlined(first, scan_id, "", at)]
    panels += [_outlined(run, scan_id, "consolidation", at) for run in runs.values()]
    if "threshold" in first.findings:
        panels.append(_outlined(first, scan_id, "threshold", at))
    for axis, masks in zip(axes, panels, strict=True):
        low, high = WINDOW_HU
        axis.imshow(hu, cmap="gray", vmin=low, vmax=high, extent=extent)
        for mask, style in zip(masks or (), (GLASS, DENSE), strict=False):
            outline(axis, mask[crop], extent, **style)
        axis.tick_params(labelsize=7)
        axis.locator_params(nbins=4)
        axis.set_xlabel(f"right → left ({unit})", fontsize=7)
    axes[0].set_ylabel(f"{scan_id}, slice {z + 1}\nfront → back ({unit})", fontsize=8)


def _outlined(run: Run, scan_id: str, dense: str, at: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return infection without consolidation, and consolidation (H, W): predicted as `dense`, or the label's."""
    which, name = (1, dense) if dense else (0, "consolidation")
    infection = run.pair(scan_id, "infection")[which][at] == 1
    consolidation = run.pair(scan_id, name)[which][at] == 1 if name in run.findings else np.zeros_like(infection)
    return infection & ~consolidation, consolidation


def fpr_by_dilation(run: Run) -> pd.DataFrame:
    """Return the false positive rate of threshold and model, pooled over the test scans, by dilation of the label.

    The label is dilated in plane by a square of 3 x 3 pixels, n times. FPR = false positives outside the dilated label
    / lung voxels outside it; voxels of unknown truth count nowhere. Without dilation that is the run's own `fpr`.

    Args:
        run: A stage 2 run with masks.

    Returns:
        Columns method (`threshold`; `EM`, or `supervised` where the run learned from masks), dilation (0..9 pixels),
        fpr (NaN where nothing is left outside) and scans.
    """
    model = run.config["model"]["init_args"].get("supervision", "em")
    methods = {"threshold": "threshold", "EM" if model == "em" else "supervised": "consolidation"}
    counts = {method: np.zeros((MOST_DILATIONS + 1, 2), np.int64) for method in methods}
    for scan_id in run.scans["scan_id"]:
        for method, finding in methods.items():
            counts[method] += _count(*run.pair(scan_id, finding))
    rows = [
        {"method": method, "dilation": dilation, "fpr": wrong / outside if outside else np.nan, "scans": len(run.scans)}
        for method, table in counts.items()
        for dilation, (wrong, outside) in enumerate(table.tolist())
    ]
    return pd.DataFrame(rows)


def _count(truth: NDArray[np.int8], prediction: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count false positives and voxels outside the label after 0..9 dilations: int64 (10, 2)."""
    label, table = truth == 1, []
    for _ in range(MOST_DILATIONS + 1):
        outside = (truth >= 0) & ~label
        table.append([(prediction & outside).sum(), outside.sum()])
        label = ndimage.binary_dilation(label, SQUARE)
    return np.array(table, np.int64)


def draw_fpr_by_dilation(table: pd.DataFrame) -> Any:
    """Draw Figure 6: the table of `fpr_by_dilation`, a line for each method.

    Returns:
        A matplotlib figure.
    """
    figure, axis = plt.subplots(figsize=(5.8, 4.2), layout="constrained")
    for method, rows in table.groupby("method", sort=False):
        finding = "threshold" if method == "threshold" else "consolidation"
        axis.plot(
            rows["dilation"],
            rows["fpr"],
            color=COLOUR_OF[finding],
            marker=marker_of(finding),
            markerfacecolor="white",
            linestyle="--" if method == "threshold" else "-",
            label="threshold (-200 HU)" if method == "threshold" else str(method),
        )
    axis.set(xlabel="dilation of the label (pixels)", ylabel="false positive rate", ylim=(0, None))
    axis.set_xticks(range(MOST_DILATIONS + 1))
    axis.set_title(f"n = {counted(int(table['scans'].max()), 'scan')}", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def score_boxes(run: Run) -> Any:
    """Draw Figure 7: predicted consolidation scores of the scans with and without consolidation, by their weak labels.

    Args:
        run: A stage 2 run. Scans without a score or with an unknown label are left out and counted.

    Returns:
        A matplotlib figure; the medians, n, and p of the Mann-Whitney test stand in it.
    """
    scans = run.scans[["consolidation_score", "has_consolidation"]].astype(float)
    complete = scans.dropna()
    samples = [complete["consolidation_score"][complete["has_consolidation"] == label].to_numpy() for label in (1, 0)]
    figure, axis = plt.subplots(figsize=(5.4, 4.6), layout="constrained")
    axis.boxplot(samples, widths=0.5, showfliers=False, medianprops={"color": "black", "linewidth": 2})
    names = []
    random = np.random.default_rng(0)  # only to draw the points beside each other
    styles = ((COLOUR_OF["consolidation"], "s"), ("grey", "o"))
    for place, (sample, name, (colour, marker)) in enumerate(
        zip(samples, ("consolidation", "no consolidation"), styles, strict=True), 1
    ):
        x = place + random.uniform(-0.15, 0.15, len(sample))
        axis.scatter(x, sample, marker=marker, edgecolor=colour, **WHITE_POINTS)
        median = f"{np.median(sample):.4f}" if len(sample) else "-"
        names.append(f"{name}\nn = {counted(len(sample), 'scan')}, median {median}")
    axis.set_xticks([1, 2], names)
    axis.set_ylabel("predicted consolidation score (share of the lungs)")
    test, left_out = mann_whitney(*samples), len(scans) - len(complete)
    unknown = f"\nleft out: {counted(left_out, 'scan')} of unknown label or without a score" if left_out else ""
    result = f"p = {test.p:.2g}, AUC = {test.auc:.3f}" if all(map(len, samples)) else "needs scans of both kinds"
    axis.set_title(f"Mann-Whitney U test: {result}{unknown}", fontsize=10)
    return figure
