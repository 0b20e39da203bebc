"""Reliability of probabilities: a table per slice, and the expected calibration error."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from metrics.ranks import by_magnitude

BINS = 20


def reliability(probability: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Return per image and bin of predicted probability: number of pixels, sum of probabilities, sum of truths.

    Args:
        probability: float (B, ...) in [0, 1].
        truth: (B, ...) in [0, 1]: a label, or the fraction of a pixel that is the finding.
        where: bool (B, ...), pixels that count.

    Returns:
        float64 (B, BINS, 3).
    """
    flat = probability.flatten(1).double()
    # Pixels that do not count go to an extra bin, which is dropped.
    index = torch.where(where.flatten(1), (flat * BINS).long().clamp(max=BINS - 1), BINS)
    summands = torch.stack([torch.ones_like(flat), flat, truth.flatten(1).double()], 2)
    table = torch.zeros(len(flat), BINS + 1, 3, dtype=torch.float64, device=flat.device)
    return table.scatter_add_(1, index[..., None].expand_as(summands), summands)[:, :BINS]


def expected_calibration_error(table: NDArray[np.float64]) -> float:
    """Return the mean over pixels of |mean truth - mean probability| of their bin (Guo et al., ICML 2017, equation 3).

    Args:
        table: (BINS, 3) as `reliability` gives it, summed over whatever is pooled.

    Returns:
        In [0, 1]; NaN without any pixel.
    """
    total = table[:, 0].sum()
    return float(np.abs(table[:, 2] - table[:, 1]).sum() / total) if total > 0 else float("nan")


class SliceSums(Metric):
    """Sums of any shape per slice of a SliceTable, ASSIGNED at its index as `ScanConfusion` does.

    A slice that a distributed sampler repeats changes nothing, and the result does not depend on the number of ranks.

    Args:
        num_slices: Rows of the SliceTable.
        shape: Shape of a slice's sums.
    """

    full_state_update = False
    table: Tensor

    def __init__(self, num_slices: int, *shape: int) -> None:
        super().__init__(dist_sync_fn=by_magnitude)
        default = torch.zeros(num_slices, *shape, dtype=torch.float64)
        self.add_state("table", default=default, dist_reduce_fx="max")

    def update(self, sums: Tensor, slice_index: Tensor) -> None:
        """Enter the sums (B, *shape) of B slices at rows slice_index (B,)."""
        self.table[slice_index] = sums.to(self.table)

    def compute(self) -> Any:
        """Return float64 (num_slices, *shape) over all ranks."""
        return self.table
