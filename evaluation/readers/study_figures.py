"""Figures of a reader study, after Figures 3 and 4 of paper L3."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ct.classes import COLOUR_OF, L3
from evaluation.readers.study_counts import ScanCounts, read_model
from evaluation.readers.study_tables import WITH_SELF, WITHOUT_SELF, average_iou, model_iou, pairwise_iou, readers_table
from evaluation.report.drawing import WINDOW_HU, Extent, crop_to, extent_of, outline
from metrics.agreement import Figures, average_map, calls_of, deviation_map, entropy_map, mean_map, votes_of
from pages.page import counted

# Light where readers agree, dark where they do not; readable without colour.
DISAGREEMENT_COLOURS = "PuBu"
MOST_ENTROPY = float(np.log(len(L3.indices)))
# Columns of the maps: title, groups, colour. Opacity is all three groups together.
COLUMNS = [
    ("opacity", L3.opacities, COLOUR_OF["opacity"]),
    *((L3.leaves[group].name, (group,), L3.leaves[group].colour) for group in L3.opacities),
]
MARGIN_PIXELS = 4  # around the lungs


class Place(NamedTuple):
    """A slice of the study: row of the list of scans, and its z."""

    scan: int
    z: int


def draw_matrix(scans: Sequence[ScanCounts]) -> Any:
    """Draw Figure 3: (a) opacity IOU of every two readers, (b) of each reader with the average; the model as last row.

    Args:
        scans: The study. The model's row is over the scans with a mask by it.

    Returns:
        A matplotlib figure.
    """
    pairs, average = pairwise_iou(scans), average_iou(scans)
    names = [f"reader {reader + 1}" for reader in range(len(pairs))]
    with_model = [scan for scan in scans if scan.has_model]
    if with_model:
        to_readers = model_iou(with_model)[0]
        missing = len(pairs) - len(to_readers)  # readers of whose scans the model has none
        pairs = np.vstack([pairs, np.pad(to_readers, (0, missing), constant_values=np.nan)])
        to_average = readers_table(scans)[["iou_average", "iou_average_of_others"]].to_numpy(float)[-1:]
        average = np.hstack([average, to_average.T])
        names.append("model")
    rows, readers = pairs.shape
    width, height = 0.62 * (readers + 2) + 3.2, 0.46 * rows + 2.4
    figure, axes = plt.subplots(
        1, 2, figsize=(width, height), width_ratios=[readers, 2], layout="constrained", squeeze=False
    )
    draw_cells(axes[0, 0], pairs, names, names[:readers], "(a) with each reader")
    image = draw_cells(
        axes[0, 1], average[[WITH_SELF, WITHOUT_SELF]].T, [""] * rows, ["all", "others"], "(b) with the\naverage of"
    )
    figure.colorbar(image, ax=axes[0, 1], label="opacity IOU", fraction=0.3)
    for axis in axes[0] if with_model else ():
        axis.axhline(rows - 1.5, color="white", linewidth=3)
    figure.suptitle(_title(scans, len(with_model)), fontsize=10)
    return figure


def _title(scans: Sequence[ScanCounts], with_model: int) -> str:
    numbers = sorted({scan.readers for scan in scans})
    readers = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    slices = sum(scan.labelled for scan in scans)
    lines = [f"n = {counted(len(scans), 'scan')}, {counted(slices, 'slice')}, {readers} readers per scan"]
    if with_model:
        lines.append(f"model: n = {counted(with_model, 'scan')}")
    return "\n".join(lines)


def draw_cells(axis: Any, values: Figures, rows: list[str], columns: list[str], title: str) -> Any:
    """Draw a heat map with its numbers; a dash where a figure is undefined or compares a reader with themselves."""
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    image = axis.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if np.isfinite(value) else "-"
        colour = "white" if value < 0.6 else "black"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 2 else 0, fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.tick_params(length=0)
    return image


def most_contested(scans: Sequence[ScanCounts], number: int) -> list[Place]:
    """Choose the slice with the largest summed entropy of each scan; of these, return the `number` largest."""
    entropy = [[counts.entropy for counts in scan.slices] for scan in scans]
    places = [Place(scan, int(np.argmax(slices))) for scan, slices in enumerate(entropy)]
    places = [place for place in places if entropy[place.scan][place.z] > 0]
    return sorted(places, key=lambda place: -entropy[place.scan][place.z])[:number]


def draw_maps(scans: Sequence[ScanCounts], places: Sequence[Place], predictions: Path | None = None) -> Any:
    """Draw Figure 4: for each slice the CT, and maps of the readers' mean (above) and standard deviation (below).

    Below the CT stands the entropy of the readers' groups. All panels are cut to the lungs and all opacities.

    Args:
        scans: The study.
        places: The slices.
        predictions: Folder with the masks of a model, which are outlined on the CT.

    Returns:
        A matplotlib figure.
    """
    figure = plt.figure(figsize=(12.5, 4.3 * len(places) + 1.2), layout="constrained")
    parts = figure.subfigures(len(places) + 1, 1, height_ratios=[4.3] * len(places) + [1.2], squeeze=False)[:, 0]
    images: dict[str, Any] = {}
    for part, place in zip(parts, places, strict=False):
        images = _draw_place(part, scans[place.scan], place.z, predictions)
    _draw_scales(parts[-1], images)
    handles: list[Any] = [Line2D([], [], color=COLOUR_OF["reader"], label="average reader")]
    handles += [Line2D([], [], color=COLOUR_OF["model"], label="model")] if predictions else []
    handles += [
        Line2D([], [], color=COLOUR_OF["lungs"], label="lungs"),
        Patch(color=COLOUR_OF["unlabelled"], label="unlabelled"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    figure.suptitle("Mean and standard deviation of the readers' maps, where they disagree most", fontsize=11)
    return figure


def _draw_place(figure: Any, scan: ScanCounts, z: int, predictions: Path | None) -> dict[str, Any]:
    """Draw two rows of panels; return the images that the colour scales belong to, by title."""
    folder = Path(scan.row["folder"])
    codes = np.load(folder / "readers.npy", mmap_mode="r")
    groups, lung = L3.leaves_of(codes[:, z]), np.load(folder / "lung.npy", mmap_mode="r")[z] > 0
    hu = np.load(folder / "hu.npy", mmap_mode="r")[z]
    model = read_model(predictions, scan.row["scan_id"], codes.shape[1:]) if predictions else None
    calls, votes = calls_of(groups), votes_of(groups)
    axes = figure.subplots(2, 1 + len(COLUMNS), sharex=True, sharey=True)
    crop = crop_to(lung | calls.positive.any(0), MARGIN_PIXELS)
    extent, unit = extent_of(hu[crop].shape, scan.row)
    axes[0, 0].imshow(hu[crop], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], extent=extent)
    outline(axes[0, 0], average_map(calls)[crop], extent, colors=COLOUR_OF["reader"], linewidths=1)
    if model is not None:
        outline(axes[0, 0], model[z][crop], extent, colors=COLOUR_OF["model"], linewidths=1)
    images = {"entropy": _show(axes[1, 0], entropy_map(votes)[crop], DISAGREEMENT_COLOURS, MOST_ENTROPY, extent)}
    for column, (title, leaves, colour) in enumerate(COLUMNS, 1):
        faint_to_full = LinearSegmentedColormap.from_list(title, ["white", colour])
        images[title] = _show(axes[0, column], mean_map(votes, leaves)[crop], faint_to_full, 1, extent)
        images["deviation"] = _show(
            axes[1, column], deviation_map(votes, leaves)[crop], DISAGREEMENT_COLOURS, 0.5, extent
        )
    for axis in axes.ravel()[1:]:
        outline(axis, lung[crop], extent, colors=COLOUR_OF["lungs"], linewidths=0.6)
    title = f"{scan.row['scan_id']}, slice {z + 1} of {len(scan.slices)}, n = {counted(scan.readers, 'reader')}"
    figure.suptitle(title, fontsize=10, weight="bold")
    _label(axes, unit)
    return images


def _show(axis: Any, values: Figures, colours: str | Colormap, top: float, extent: Extent) -> Any:
    chosen = matplotlib.colormaps[colours] if isinstance(colours, str) else colours
    return axis.imshow(
        np.ma.masked_invalid(values),
        cmap=chosen.with_extremes(bad=COLOUR_OF["unlabelled"]),
        vmin=0,
        vmax=top,
        extent=extent,
        interpolation="nearest",
    )


def _label(axes: NDArray[Any], unit: str) -> None:
    for axis in axes.ravel():
        axis.tick_params(labelsize=7)
        axis.locator_params(nbins=4)
    for axis, title in zip(axes[0], ("CT", *(f"{title}, mean" for title, _, _ in COLUMNS)), strict=True):
        axis.set_title(title.replace("with septal", "with\nseptal"), fontsize=9)
    for axis, title in zip(axes[1], ("entropy", *["deviation"] * len(COLUMNS)), strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(f"right → left ({unit})", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"front → back ({unit})", fontsize=8)


def _draw_scales(figure: Any, images: dict[str, Any]) -> None:
    axes = figure.subplots(1, len(images), gridspec_kw={"wspace": 0.15})
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        bar = figure.colorbar(image, cax=axis, orientation="horizontal")
        axis.set_box_aspect(0.09)
        label = {"entropy": "entropy (nats)", "deviation": "standard deviation"}.get(name, f"mean of {name}")
        bar.set_label(label.replace("with septal", "with\nseptal"), fontsize=8)
        axis.tick_params(labelsize=7)
