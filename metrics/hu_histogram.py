"""HU histograms per slice of pixels with and without the finding, from which one pass reads the best threshold."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from metrics.ranks import by_maximum
from metrics.scan_confusion import count_per_image

THRESHOLDS_HU: NDArray[np.float64] = np.arange(-1000.0, 201.0, 25.0)  # candidates; "HU > threshold" is consolidation


class HuHistogram(Metric):
    """Histogram of HU per slice and truth, over the region in which a threshold may predict something.

    Bin k > 0 holds THRESHOLDS_HU[k-1] < HU <= THRESHOLDS_HU[k] (the last is open), bin 0 the pixels that no threshold
    finds: lower HU, and everything outside the region. So "HU > THRESHOLDS_HU[k]" is exactly the bins above k. Assigned
    and merged like `ScanConfusion`; 400 bytes per slice. For smoothed HU use a second one.

    Args:
        num_slices: Rows of the SliceTable.

    Attributes:
        histogram: (num_slices, len(THRESHOLDS_HU) + 1, 2) int32; the last axis is the truth.
    """

    full_state_update = False
    histogram: Tensor
    edges: Tensor

    def __init__(self, num_slices: int) -> None:
        super().__init__(dist_sync_fn=by_maximum)
        self.bins = len(THRESHOLDS_HU) + 1
        self.register_buffer("edges", torch.from_numpy(THRESHOLDS_HU).float(), persistent=False)
        empty = torch.zeros(num_slices, self.bins, 2, dtype=torch.int32)
        self.add_state("histogram", default=empty, dist_reduce_fx="max")

    def update(self, hu: Tensor, target: Tensor, region: Tensor, where: Tensor, slice_index: Tensor) -> None:
        """Enter the histograms of B slices.

        Args:
            hu: (B, H, W) int16 or float HU.
            target: (B, H, W) 0, 1 or -1 (unknown, left out).
            region: (B, H, W) bool, where a threshold may predict (the predicted infected region).
            where: (B, H, W) bool, pixels that count (the lungs).
            slice_index: (B,) int64 rows of the SliceTable.
        """
        bins = torch.bucketize(hu.float(), self.edges) * region
        counts = count_per_image(bins * 2 + target, where & (target >= 0), self.bins * 2)
        self.histogram[slice_index] = counts.view(-1, self.bins, 2).int()

    def compute(self) -> Tensor:
        """Return the histograms over all ranks, (num_slices, bins, 2) int32."""
        return self.histogram


def best_threshold(histogram: NDArray[np.integer], scan_id: NDArray[Any]) -> float | None:
    """Return the candidate threshold in HU with the best mean Dice over the scans that have the finding.

    Args:
        histogram: (num_slices, bins, 2) of a `HuHistogram` of the validation scans.
        scan_id: (num_slices,) the scan of every slice.

    Returns:
        An element of `THRESHOLDS_HU` (the lowest of equals); None if no scan has the finding.
    """
    names, scan = np.unique(scan_id, return_inverse=True)
    per_scan = np.zeros((len(names), *histogram.shape[1:]), np.int64)
    np.add.at(per_scan, scan, histogram)
    per_scan = per_scan[per_scan[..., 1].sum(-1) > 0]
    if not len(per_scan):
        return None
    above = per_scan[:, ::-1].cumsum(1)[:, -2::-1]  # pixels with HU > candidate: (scans, candidates, 2)
    truth = per_scan[..., 1].sum(-1, keepdims=True)
    dice = 2 * above[..., 1] / (above.sum(-1) + truth)
    return float(THRESHOLDS_HU[dice.mean(0).argmax()])
