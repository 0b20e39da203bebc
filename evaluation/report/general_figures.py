"""Figures beyond both papers: intervals per site, volumes, calibration, results by slice spacing and by lesion size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from ct.classes import COLOUR_OF
from evaluation.report.drawing import HATCHES, marker_of, point_styles, rank_of
from evaluation.score_agreement import BlandAltman
from evaluation.statistics import FEWEST, between
from pages.page import counted

FOREST_FIGURES = {"dice_mean": "Dice, mean over scans", "iou_pooled": "IOU, pooled over voxels"}
LIMITS = "Solid: bias; dashed: limits of agreement, bias ± 1.96 sd; grey bands: their 95 % intervals."
AREA_PER_SCAN = 36  # of a point; scans of the same figures make one larger point
PANELS_PER_ROW = 3
CEILING: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 2}
DETECTION_FIGURES = {"recall": "share of lesion voxels found", "touched": "share of lesions touched"}


def forest(table: pd.DataFrame, ceiling: pd.DataFrame | None = None) -> Any:
    """Draw Dice and IOU with their intervals: a row per finding and site, the human ceiling where readers exist.

    Args:
        table: Rows of `evaluation.statistics.per_site_table`: site, finding, figure, value, low, high, scans, patients.
        ceiling: Rows of `evaluation.report.human_ceiling.ceiling_table`: site, finding, figure, reader.

    Returns:
        A matplotlib figure.
    """
    shown = table[table["figure"].isin(FOREST_FIGURES)]
    shown = shown[shown.groupby(["finding", "site"])["value"].transform("count") > 0]  # no row that is empty
    rows = list(dict.fromkeys(zip(shown["finding"], shown["site"], strict=True)))
    rows.sort(key=lambda row: rank_of(row[0]))
    figure, axes = plt.subplots(
        1, len(FOREST_FIGURES), figsize=(9.6, 0.3 * len(rows) + 1.9), sharey=True, layout="constrained"
    )
    for axis, (name, label) in zip(axes, FOREST_FIGURES.items(), strict=True):
        values = shown[shown["figure"] == name].set_index(["finding", "site"])
        for place, row in enumerate(rows):
            _draw_interval(axis, place, row, values.loc[row])
        if ceiling is not None:
            _draw_ceiling(axis, rows, ceiling[ceiling["figure"] == name])
        axis.set(xlim=(-0.02, 1.02), xlabel=label)
        axis.grid(axis="x", alpha=0.3)
    first = shown.drop_duplicates(["finding", "site"]).set_index(["finding", "site"])
    axes[0].set_yticks(range(len(rows)), [_row_label(row, first.loc[row]) for row in rows], fontsize=9)
    axes[0].invert_yaxis()
    handles = [_finding_handle(finding) for finding in dict.fromkeys(finding for finding, _ in rows)]
    handles += [_ceiling_handle()] if _has_rows(ceiling) else []
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False, fontsize=9)
    return figure


def _row_label(row: tuple[str, str], figures: Any) -> str:
    finding, site = row
    name = "all sites" if site == "all" else f"site {site}"
    scans, patients = counted(int(figures["scans"]), "scan"), counted(int(figures["patients"]), "patient")
    return f"{finding.replace('_', ' ')}, {name} (n = {scans}, {patients})"


def _draw_interval(axis: Any, place: int, row: tuple[str, str], figures: Any) -> None:
    finding, site = row
    colour, whole = COLOUR_OF[finding], site == "all"
    axis.plot([figures["low"], figures["high"]], [place, place], color=colour, linewidth=3 if whole else 1.5)
    axis.plot(
        figures["value"],
        place,
        marker=marker_of(finding),
        markersize=8 if whole else 6,
        color=colour,
        markerfacecolor=colour if whole else "white",
    )


def _draw_ceiling(axis: Any, rows: Sequence[tuple[str, str]], ceiling: pd.DataFrame) -> None:
    values = ceiling.set_index(["finding", "site"])["reader"]
    for place, row in enumerate(rows):
        if row in values.index and np.isfinite(values.loc[row]):
            axis.plot([values.loc[row]] * 2, [place - 0.4, place + 0.4], **CEILING)


def _finding_handle(finding: str) -> Line2D:
    colour, marker = COLOUR_OF[finding], marker_of(finding)
    return Line2D([], [], color=colour, marker=marker, label=finding.replace("_", " "))


def _ceiling_handle() -> Line2D:
    return Line2D([], [], label="human ceiling", **CEILING)


def draw_bland_altman(
    pairs: pd.DataFrame, limits: Mapping[str, BlandAltman], compared: Sequence[str], unit: str = ""
) -> Any:
    """Draw the difference of two measurements against their mean, a panel per finding (Bland and Altman, Lancet 1986).

    Args:
        pairs: One row per scan and finding: finding, site, and a column per measurement.
        limits: Agreement of each finding to show.
        compared: The two measurements, by their columns; the second is subtracted.
        unit: Unit of both.

    Returns:
        A matplotlib figure.
    """
    findings = list(limits)
    columns = 2 if len(findings) == 4 else min(len(findings), PANELS_PER_ROW)
    rows = -(-len(findings) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.5 * columns + 0.4, 3.7 * rows + 0.4), squeeze=False, layout="constrained"
    )
    first, second = compared
    in_unit = f" ({unit})" if unit else ""
    for axis, finding in zip(axes.flat, findings, strict=False):
        _draw_differences(axis, pairs[pairs["finding"] == finding], sorted(pairs["site"].unique()), compared)
        _draw_limits(axis, limits[finding])
        axis.set_title(_limits_title(finding, limits[finding], unit), fontsize=9)
        axis.set(xlabel=f"mean of {second} and {first}{in_unit}", ylabel=f"{first} - {second}{in_unit}")
    legend = figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, fontsize=9
    )
    handles: Sequence[Any] = legend.legend_handles
    for handle in handles:
        handle.set_sizes([AREA_PER_SCAN])
    return figure


def _draw_differences(axis: Any, scans: pd.DataFrame, sites: Sequence[str], compared: Sequence[str]) -> None:
    for site, (marker, colour) in zip(sites, point_styles(), strict=False):
        first, second = (scans.loc[scans["site"] == site, name].to_numpy(float) for name in compared)
        places, scans_there = np.unique([(first + second) / 2, first - second], axis=1, return_counts=True)
        style = {"marker": marker, "facecolors": "none", "edgecolors": colour, "label": f"site {site}"}
        axis.scatter(*places, s=AREA_PER_SCAN * scans_there, **style)


def _draw_limits(axis: Any, agreement: BlandAltman) -> None:
    for bound, style in zip(agreement, ("-", "--", "--"), strict=True):
        axis.axhspan(bound.low, bound.high, color="black", alpha=0.12 if style == "-" else 0.06, linewidth=0)
        axis.axhline(bound.value, color="black", linestyle=style, linewidth=1)
    axis.axhline(0, color="grey", linewidth=0.6, linestyle=":")


def _limits_title(finding: str, agreement: BlandAltman, unit: str) -> str:
    bias, lower, upper = agreement
    unit = f" {unit}" if unit else ""
    title = f"{finding.replace('_', ' ')}, n = {counted(bias.n, 'scan')}\n"
    title += f"bias {between(bias.value, bias.low, bias.high, '.1f', unit)}"
    return title + (f",\nlimits {lower.value:.1f} to {upper.value:.1f}{unit}" if bias.n >= FEWEST else "")


def draw_calibration(curves: Mapping[str, pd.DataFrame], errors: Mapping[str, float]) -> Any:
    """Draw the share of true voxels against predicted probability, above the number of voxels of each bin.

    Args:
        curves: For each finding, rows of `evaluation.report.reliability_curve`: mean_predicted, share_true, voxels.
        errors: Expected calibration error of each finding.

    Returns:
        A matplotlib figure.
    """
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(5.4, 6.2), height_ratios=[3, 1], sharex=True, layout="constrained"
    )
    upper.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    for finding, curve in curves.items():
        filled = curve[curve["voxels"] > 0]
        style = {"color": COLOUR_OF[finding], "marker": marker_of(finding), "markerfacecolor": "white"}
        label = f"{finding}: ECE {errors[finding]:.4f}, n = {filled['voxels'].sum():,.0f} voxels"
        upper.plot(filled["mean_predicted"], filled["share_true"], label=label, **style)
        lower.plot(filled["mean_predicted"], filled["voxels"], **style)
    upper.set(ylabel="share of voxels that are true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    upper.legend(fontsize=8, loc="upper left")
    lower.set(xlabel="predicted probability", ylabel="voxels", yscale="log")
    return figure


def draw_by_spacing(table: pd.DataFrame, ceiling: pd.DataFrame | None = None) -> Any:
    """Draw mean Dice with its interval for each stratum of slice spacing, the findings' bars side by side.

    Args:
        table: Rows of `evaluation.report.strata.by_spacing`: stratum, finding, value, low, high, n.
        ceiling: As in `forest`; the ceiling of all sites is drawn across the bars.

    Returns:
        A matplotlib figure.
    """
    strata, findings = list(dict.fromkeys(table["stratum"])), list(dict.fromkeys(table["finding"]))
    figure, axis = plt.subplots(figsize=(2.2 * len(strata) + 2.4, 4.2), layout="constrained")
    width = 0.8 / len(findings)
    for number, finding in enumerate(findings):
        rows = table[table["finding"] == finding].set_index("stratum").reindex(strata)
        centres = np.arange(len(strata)) + (number - (len(findings) - 1) / 2) * width
        spread = np.abs(rows[["low", "high"]].to_numpy(float) - rows[["value"]].to_numpy(float)).T
        axis.bar(
            centres,
            rows["value"],
            width,
            yerr=spread,
            capsize=3,
            facecolor=to_rgba(COLOUR_OF[finding], 0.35),
            edgecolor=COLOUR_OF[finding],
            hatch=HATCHES[number % len(HATCHES)],
            label=finding.replace("_", " "),
        )
        human = _ceiling_of_all(ceiling, finding)
        for centre, n in zip(centres, rows["n"].fillna(0), strict=True):
            axis.plot([centre - width / 2, centre + width / 2], [human, human], **CEILING)
            axis.text(centre, 0.02, f"n = {n:.0f}", rotation=90, ha="center", va="bottom", fontsize=8, **_ON_BAR)
    axis.set_xticks(range(len(strata)), strata)
    axis.set(xlabel="distance between slices of the scan", ylabel="Dice, mean over scans (95 % interval)", ylim=(0, 1))
    handles = [*axis.get_legend_handles_labels()[0], *([_ceiling_handle()] if _has_rows(ceiling) else [])]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _has_rows(ceiling: pd.DataFrame | None) -> bool:
    return ceiling is not None and len(ceiling) > 0


def _ceiling_of_all(ceiling: pd.DataFrame | None, finding: str) -> float:
    """Return the mean Dice of the readers over all sites; NaN, which draws nothing, without readers."""
    if ceiling is None:
        return float("nan")
    rows = ceiling.set_index(["site", "finding", "figure"])["reader"]
    return float(rows.get(("all", finding, "dice_mean"), float("nan")))


_ON_BAR: dict[str, Any] = {"bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}}


def draw_by_lesion_size(table: pd.DataFrame) -> Any:
    """Draw how much of the lesions of each size is found, and how many are touched at all.

    Args:
        table: Rows of `evaluation.report.strata.by_lesion_size`: finding, size, recall, touched, lesions.

    Returns:
        A matplotlib figure.
    """
    sizes, findings = list(dict.fromkeys(table["size"])), list(dict.fromkeys(table["finding"]))
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4), sharey=True, layout="constrained")
    for axis, (name, label) in zip(axes, DETECTION_FIGURES.items(), strict=True):
        for finding in findings:
            rows = table[table["finding"] == finding].set_index("size").reindex(sizes)
            axis.plot(
                range(len(sizes)),
                rows[name],
                color=COLOUR_OF[finding],
                marker=marker_of(finding),
                markerfacecolor="white",
                label=f"{finding.replace('_', ' ')}, n = {', '.join(f'{n:.0f}' for n in rows['lesions'].fillna(0))}",
            )
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set(xlabel="size of the true lesion", ylabel=label, xlim=(-0.4, len(sizes) - 0.6), ylim=(-0.02, 1.02))
        axis.grid(axis="y", alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure
