"""Reliability curves: how often voxels of a predicted probability are true."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.run_data import Run
from metrics.reliability import expected_calibration_error

CURVE_BINS = 15
LEVELS = 256  # of the saved probabilities: round(255 p)


def calibration_curve(run: Run, finding: str) -> pd.DataFrame:
    """Return the reliability of a finding's probability over the labelled lung voxels of all test scans.

    The probabilities were saved in 256 levels, 17 to each bin; consolidation has 0 outside the predicted infection.

    Args:
        run: A run with masks.
        finding: A finding of the run other than `threshold`, which has no probability.

    Returns:
        One row per bin of equal width: low, high (its ends), mean_predicted, share_true (NaN without voxels), voxels.

    Raises:
        ValueError: The finding has no probability.
    """
    counts = np.zeros((2, LEVELS), np.int64)
    for scan_id in tqdm(run.scans["scan_id"], f"calibration of {finding}", unit="scan", leave=False, disable=None):
        arrays, (truth, _) = run.arrays(scan_id), run.pair(scan_id, finding)
        name = f"probability_{_saved_as(finding, run)}"
        if name not in arrays:
            raise ValueError(f"{run.folder / 'masks'}: holds no {name}; expected a finding other than '{finding}'")
        for label in (0, 1):
            counts[label] += np.bincount(arrays[name][truth == label], minlength=LEVELS)
    return curve_of_levels(counts)


def _saved_as(finding: str, run: Run) -> str:
    """Return what `SaveMasks` names a finding's probability: its key, or `group_` and the index of its leaf."""
    if run.task != "opacity":
        return finding
    leaves = {leaf.key: f"group_{index}" for index, leaf in enumerate(run.classes.leaves)}
    unions = {union.figures: union.key for union in run.classes.findings if len(union.leaves) > 1}
    return (leaves | unions)[finding]


def curve_of_levels(counts: NDArray[np.int64]) -> pd.DataFrame:
    """Return the curve of voxel counts (2, 256) by truth (0, 1) and level of probability; columns as above."""
    level = np.arange(LEVELS)
    bins = np.minimum(level * CURVE_BINS // (LEVELS - 1), CURVE_BINS - 1)
    voxels, true = (np.bincount(bins, weights, CURVE_BINS) for weights in (counts.sum(0), counts[1]))
    predicted = np.bincount(bins, counts.sum(0) * level / (LEVELS - 1), CURVE_BINS)
    divisor = np.where(voxels > 0, voxels, np.nan)
    ends = np.linspace(0, 1, CURVE_BINS + 1)
    shares = {"mean_predicted": predicted / divisor, "share_true": true / divisor}
    return pd.DataFrame({"low": ends[:-1], "high": ends[1:], **shares, "voxels": voxels.astype(np.int64)})


def calibration_error(curve: pd.DataFrame) -> float:
    """Return the expected calibration error of a curve, in [0, 1]; NaN without voxels.

    It has 15 bins; `ece` of metrics.json has 20, of probabilities that are not rounded to 256 levels.
    """
    shares = curve[["mean_predicted", "share_true"]].fillna(0).to_numpy(float)
    voxels = curve["voxels"].to_numpy(float)
    return expected_calibration_error(np.column_stack([voxels, shares * voxels[:, None]]))
