"""Distances in mm between the predicted and the true surface."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_distance import compute_average_surface_distance
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.run_data import SPACING, Run

PERCENTILE = 95

# MONAI warns of an argument that only MONAI itself passes.
warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges:always_return_as_numpy")


def surface_distances(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the distances between the surfaces of two masks, by MONAI.

    Args:
        truth: bool (Z, H, W).
        prediction: bool (Z, H, W).
        spacing_mm: Voxel size along z, y and x; NaN where unknown.

    Returns:
        (hd95_mm, assd_mm): the larger of the two directed 95th percentile Hausdorff distances, and the mean distance of
        the voxels of both surfaces from the other one. NaN where a mask is empty or the spacing is unknown.
    """
    if not (truth.any() and prediction.any() and np.isfinite(spacing_mm).all()):
        return np.nan, np.nan
    predicted, true = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    settings: dict[str, Any] = {"include_background": True, "spacing": list(spacing_mm)}
    hd95 = compute_hausdorff_distance(predicted, true, percentile=PERCENTILE, **settings)
    assd = compute_average_surface_distance(predicted, true, symmetric=True, **settings)
    return float(hd95), float(assd)


def surface_table(run: Run) -> pd.DataFrame:
    """Return surface distances of every test scan, over the labelled voxels inside the lungs.

    Args:
        run: A run with masks.

    Returns:
        Columns scan_id, site, patient, finding, hd95_mm, assd_mm; NaN as in `surface_distances`.
    """
    rows = []
    for scan in tqdm(run.scans.to_dict("records"), "surface distances", unit="scan", leave=False, disable=None):
        identity = {name: scan[name] for name in ("scan_id", "site", "patient")}
        z_mm, y_mm, x_mm = (float(scan[name]) for name in SPACING)
        for finding in run.findings:
            truth, prediction = run.pair(scan["scan_id"], finding)
            hd95, assd = surface_distances(truth == 1, prediction & (truth >= 0), (z_mm, y_mm, x_mm))
            rows.append({**identity, "finding": finding, "hd95_mm": hd95, "assd_mm": assd})
    return pd.DataFrame(rows)
