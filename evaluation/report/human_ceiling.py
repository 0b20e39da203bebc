"""The human ceiling on a run's test scans: agreement of a reader, and of the model, with the average of the others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ct.classes import UNLABELLED
from evaluation.readers.study_counts import FEWEST_READERS
from evaluation.readers.study_tables import finite_mean, stacked
from evaluation.run_data import Run
from metrics.agreement import Counts, Figures, average_counts, calls_of, iou

# Views of the counts of several scans, int64 (R, 3) each.
FIGURES: dict[str, Callable[[Sequence[Counts]], float]] = {
    "dice_mean": lambda tables: finite_mean(np.array([finite_mean(dice_of_overlap(table)) for table in tables])),
    "dice_pooled": lambda tables: finite_mean(dice_of_overlap(stacked(tables).sum(0))),
    "iou_pooled": lambda tables: finite_mean(iou(stacked(tables).sum(0))),
}


def dice_of_overlap(counts: Counts) -> Figures:
    """Return 2 |A and B| / (|A| + |B|) of `metrics.agreement.overlap_counts` (..., 3); NaN where both are empty."""
    overlap = iou(counts)
    return 2 * overlap / (1 + overlap)


def ceiling_table(run: Run) -> pd.DataFrame:
    """Return the human ceiling of a run's findings inside the lungs, over its test scans with two readers or more.

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
        at_site = [count for count, place in zip(counts, scans["site"], strict=True) if site in ("all", place)]
        for finding in run.findings:
            human, model = zip(*(count[finding] for count in at_site), strict=True)
            rows += [
                {"site": site, "finding": finding, "figure": figure, "reader": view(human), "model": view(model)}
                | {"scans": len(at_site)}
                for figure, view in FIGURES.items()
            ]
    return pd.DataFrame(rows, columns=["site", "finding", "figure", "reader", "model", "scans"])


def _count(run: Run, row: dict[Any, Any]) -> dict[str, tuple[Counts, Counts]]:
    """Count per finding how each reader, and the model, overlaps with the average of the others: int64 (R, 3) each."""
    arrays = run.arrays(row["scan_id"])
    codes = np.load(Path(row["folder"]) / "readers.npy", mmap_mode="r")[:, arrays["z"]]
    groups = np.where(arrays["lung"] > 0, run.classes.leaves_of(codes), UNLABELLED)
    counts = {}
    for finding in run.findings:
        leaves = run.classes.indices_of("consolidation" if finding == "threshold" else finding)
        calls, judged = calls_of(groups, leaves), run.pair(row["scan_id"], finding)[1]
        counts[finding] = (average_counts(calls, False), average_counts(calls, False, judged))
    return counts
