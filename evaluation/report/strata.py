"""Results by slice spacing and by lesion size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from evaluation.run_data import Run
from evaluation.statistics import clustered_bootstrap, mean

SPACING_LIMITS_MM = (2.5, 7.5)
STRATA = ("1 mm (< 2.5)", "5 mm (2.5-7.5)", "10 mm (> 7.5)", "unknown")
SIZE_LIMITS_ML = (0.1, 1.0, 10.0)
SIZES_ML = ("< 0.1 ml", "0.1-1 ml", "1-10 ml", "> 10 ml")
SIZE_LIMITS_PX = (10.0, 100.0, 1000.0)
SIZES_PX = ("< 10 px", "10-100 px", "100-1000 px", "> 1000 px")
NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


def by_spacing(run: Run) -> pd.DataFrame:
    """Return mean Dice by the distance between the slices of the source scan.

    Args:
        run: A run with masks.

    Returns:
        Columns stratum, finding, value (mean over the scans that have the finding), low and high (95 %, bootstrapped
        by patient), n (those scans), patients. Strata without a scan are left out.

    Raises:
        ValueError: The run has no masks.
    """
    patients, spacing = run.patients, run.scans["source_spacing_z_mm"].to_numpy(float)
    stratum = np.where(np.isnan(spacing), len(SPACING_LIMITS_MM) + 1, np.digitize(spacing, SPACING_LIMITS_MM))
    rows = []
    for number in np.unique(stratum):
        for finding in run.findings:
            dice = run.scans[f"{finding}_dice"].to_numpy(float)
            judged = (stratum == number) & np.isfinite(dice)
            interval = clustered_bootstrap(dice[judged], patients[judged], mean)
            rows.append(
                {"stratum": STRATA[number], "finding": finding, "value": interval.value}
                | {"low": interval.low, "high": interval.high, "n": interval.n, "patients": interval.clusters}
            )
    return pd.DataFrame(rows)


def by_lesion_size(run: Run) -> pd.DataFrame:
    """Return how much the run detects of lesions of each size.

    A lesion is a connected component (26 neighbours) of the truth inside the lungs. Its size is in ml, or in pixels
    where the scan's spacing is unknown.

    Args:
        run: A run with masks.

    Returns:
        Columns finding, size, lesions, voxels (theirs), recall (share of these that is predicted), touched (share of
        the lesions of which any voxel is predicted). A size without lesions is NaN, and left out in the unit that no
        scan has.
    """
    lesions = pd.DataFrame(_lesions(run), columns=["finding", "size", "voxels", "predicted"])
    sizes = [size for unit in (SIZES_ML, SIZES_PX) if lesions["size"].isin(unit).any() for size in unit]
    rows = []
    for finding in run.findings:
        for size in sizes:
            of_size = lesions[(lesions["finding"] == finding) & (lesions["size"] == size)]
            voxels = of_size["voxels"].sum()
            shares = {"recall": np.nan, "touched": np.nan}
            if voxels:
                shares = {"recall": of_size["predicted"].sum() / voxels, "touched": (of_size["predicted"] > 0).mean()}
            rows.append({"finding": finding, "size": size, "lesions": len(of_size), "voxels": voxels, **shares})
    return pd.DataFrame(rows)


def _lesions(run: Run) -> Iterator[dict[str, Any]]:
    """Yield a row per lesion: finding, size, voxels, predicted (of these voxels)."""
    for scan in tqdm(run.scans.to_dict("records"), "lesions", unit="scan", leave=False, disable=None):
        for finding in run.findings:
            truth, prediction = run.pair(scan["scan_id"], finding)
            for voxels, predicted in lesion_voxels(truth == 1, prediction):
                row = {"finding": finding, "size": size_of(voxels, scan["voxel_ml"])}
                yield {**row, "voxels": voxels, "predicted": predicted}


def lesion_voxels(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count voxels of each lesion of truth (Z, H, W), and those in prediction (Z, H, W): int64 (lesions, 2)."""
    label, lesions = ndimage.label(truth, NEIGHBOURS_26)
    counts = [np.bincount(label[mask], minlength=lesions + 1)[1:] for mask in (truth, truth & prediction)]
    return np.stack(counts, 1)


def size_of(voxels: int, voxel_ml: float) -> str:
    """Return the size class of a lesion: by volume, or by pixels where the volume of a voxel is NaN."""
    if np.isnan(voxel_ml):
        return SIZES_PX[int(np.digitize(voxels, SIZE_LIMITS_PX))]
    return SIZES_ML[int(np.digitize(voxels * voxel_ml, SIZE_LIMITS_ML))]
