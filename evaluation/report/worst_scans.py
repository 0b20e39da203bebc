"""The scans on which a run did worst, each with the slice that shows it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ct.classes import COLOUR_OF
from evaluation.report.drawing import WINDOW_HU, crop_to
from evaluation.run_data import Run

NUMBER = 10
PER_ROW = 2
# Missed voxels have the reader's colour, false ones the model's.
MISSED = TRUTH = COLOUR_OF["reader"]
FALSE = COLOUR_OF["model"]


class Failure(NamedTuple):
    """A slice of a scan: hu int16, truth int8 (-1 unknown) and prediction bool, each (H, W), cut to the lungs."""

    title: str
    hu: NDArray[np.int16]
    truth: NDArray[np.int8]
    prediction: NDArray[np.bool_]


def worst_scans(run: Run, finding: str, number: int = NUMBER) -> pd.DataFrame:
    """Return the scans that have the finding by their Dice, least first, then by their wrong voxels, most first.

    Returns:
        Columns scan_id, site, dice, missed_voxels, false_voxels, lung_ml.
    """
    scans = run.scans[run.scans[f"{finding}_dice"].notna()]
    return (
        _listed(scans, finding)
        .sort_values(["dice", "wrong"], ascending=[True, False])
        .head(number)
        .drop(columns="wrong")
    )


def most_false(run: Run, finding: str, number: int = NUMBER) -> pd.DataFrame:
    """Return the scans without the finding, which have no Dice, by false positives, most first; columns as above."""
    labelled = run.scans[f"{finding}_fp"] + run.scans[f"{finding}_tn"] > 0
    scans = run.scans[run.scans[f"{finding}_dice"].isna() & labelled]
    return _listed(scans, finding).sort_values("wrong", ascending=False).head(number).drop(columns="wrong")


def _listed(scans: pd.DataFrame, finding: str) -> pd.DataFrame:
    missed, false = scans[f"{finding}_fn"], scans[f"{finding}_fp"]
    return pd.DataFrame(
        {"scan_id": scans["scan_id"], "site": scans["site"], "dice": scans[f"{finding}_dice"]}
        | {"missed_voxels": missed, "false_voxels": false, "lung_ml": scans["lung_ml"], "wrong": missed + false}
    ).reset_index(drop=True)


def failure(run: Run, row: Mapping[Any, Any], finding: str) -> Failure:
    """Return the slice of a scan with the most wrong voxels.

    Args:
        run: A run with masks.
        row: A row of `worst_scans`.
        finding: The finding of that row.
    """
    truth, prediction = run.pair(row["scan_id"], finding)
    arrays = run.arrays(row["scan_id"])
    wrong = (truth >= 0) & (prediction != (truth == 1))
    z = int(wrong.sum((1, 2)).argmax())
    crop = crop_to(arrays["lung"][z] > 0)
    dice = f"Dice {row['dice']:.2f}" if np.isfinite(row["dice"]) else "Dice undefined"
    title = f"{row['scan_id']} (site {row['site']}), {dice}, slice {arrays['z'][z] + 1}"
    return Failure(title, arrays["hu"][z][crop], truth[z][crop], prediction[z][crop])


def draw_failures(failures: Sequence[Failure]) -> Any:
    """Draw two panels for each slice: the CT alone, and with wrong voxels filled in and the truth outlined.

    Returns:
        A matplotlib figure.
    """
    columns = min(PER_ROW, len(failures))
    rows = -(-len(failures) // columns)
    figure = plt.figure(figsize=(5.2 * columns, 2.35 * rows + 0.5), layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False).ravel()
    for part, case in zip(parts, failures, strict=False):
        part.suptitle(case.title, fontsize=9)
        for axis, marked in zip(part.subplots(1, 2), (False, True), strict=True):
            axis.imshow(case.hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
            axis.set(xticks=[], yticks=[])
            if marked:
                _mark(axis, case)
    handles = [
        Patch(facecolor=MISSED, hatch="///", label="missed: only the truth has it"),
        Patch(facecolor=FALSE, hatch="...", label="false: only the model has it"),
        Line2D([], [], color=TRUTH, label="outline of the truth"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _mark(axis: Any, case: Failure) -> None:
    truth, labelled = case.truth == 1, case.truth >= 0
    for wrong, colour, hatch in (
        (truth & ~case.prediction, MISSED, "////"),
        (labelled & ~truth & case.prediction, FALSE, "...."),
    ):
        if wrong.any():
            axis.contourf(wrong, levels=[0.5, 1.5], colors=[colour], hatches=[hatch], alpha=0.55)
    if truth.any() and not truth.all():
        axis.contour(truth, levels=[0.5], colors=TRUTH, linewidths=0.9)
