"""The human ceiling on a run's test scans: how well a reader, and the model, agree with the average of the others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ct.classes import UNLABELLED
from evaluation.run_data import Run
from metrics.agreement import Counts, Figures, average_counts, calls_of, iou

FEWEST_READERS = 2


def dice_of_overlap(counts: Counts) -> Figures:
    """2 |A and B| / (|A| + |B|) of counts (..., 3) as `metrics.agreement.overlap_counts` gives them, NaN of nothing."""
    overlap = iou(counts)
    return 2 * overlap / (1 + overlap)


def ceiling_table(run: Run) -> pd.DataFrame:
    """The human ceiling of a run's findings inside the lungs, over its test scans with two readers or more.

    Args:
        run: A run with masks.

    Returns:
        Columns site ("all" and each), finding, figure (dice_mean: mean over scans of the mean over their readers;
        dice_pooled, iou_pooled: mean over the readers, each over all voxels read), reader, model (judged in
        the readers' stead, against the same averages), scans. Empty without readers.
    """
    scans = run.scans[run.scans["readers"].fillna(0) >= FEWEST_READERS]
    counts = [_count(run, row) for row in tqdm(scans.to_dict("records"), "readers", leave=False, disable=None)]
    rows = []
    for site in ["all", *sorted(scans["site"].unique())] if len(scans) else []:
        here = [count for count, one in zip(counts, scans["site"], strict=True) if site in ("all", one)]
        for finding in run.findings:
            human, model = zip(*(count[finding] for count in here), strict=True)
            rows += [
                {"site": site, "finding": finding, "figure": figure, "reader": view(human), "model": view(model)}
                | {"scans": len(here)}
                for figure, view in FIGURES.items()
            ]
    return pd.DataFrame(rows, columns=["site", "finding", "figure", "reader", "model", "scans"])


def _count(run: Run, row: dict[Any, Any]) -> dict[str, tuple[Counts, Counts]]:
    """Of each finding two int64 (R, 3): each reader, and the model, against the average of the other readers."""
    arrays = run.arrays(row["scan_id"])
    codes = np.load(Path(row["folder"]) / "readers.npy", mmap_mode="r")[:, arrays["z"]]
    groups = np.where(arrays["lung"] > 0, run.classes.leaves_of(codes), UNLABELLED)
    counts = {}
    for finding in run.findings:
        leaves = run.classes.indices_of("consolidation" if finding == "threshold" else finding)
        calls, judged = calls_of(groups, leaves), run.pair(row["scan_id"], finding)[1]
        counts[finding] = (average_counts(calls, False), average_counts(calls, False, judged))
    return counts


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _pooled(tables: Sequence[Counts]) -> Counts:
    """Sum over scans, readers matched by their place; a scan with fewer readers adds nothing to the others."""
    total = np.zeros((max(len(table) for table in tables), 3), np.int64)
    for table in tables:
        total[: len(table)] += table
    return total


FIGURES: dict[str, Callable[[Sequence[Counts]], float]] = {
    "dice_mean": lambda tables: _mean(np.array([_mean(dice_of_overlap(table)) for table in tables])),
    "dice_pooled": lambda tables: _mean(dice_of_overlap(_pooled(tables))),
    "iou_pooled": lambda tables: _mean(iou(_pooled(tables))),
}
