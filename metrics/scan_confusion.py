"""The accumulator behind every overlap figure: one confusion table per slice."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.ranks import by_maximum


def count_per_image(code: Tensor, where: Tensor, codes: int) -> Tensor:
    """Count each code in each image, in one scatter and without a host sync (CUDA's bincount has one).

    Args:
        code: (B, ...) integers in 0 .. codes - 1 wherever `where` holds.
        where: (B, ...) bool, pixels that count.
        codes: Number of codes.

    Returns:
        (B, codes) int64.
    """
    # Pixels that do not count go to an extra bin, which is dropped.
    index = torch.where(where, code.long(), codes).flatten(1)
    counts = index.new_zeros(len(index), codes + 1)
    return counts.scatter_add_(1, index, index.new_ones(()).expand_as(index))[:, :codes]


def confusion(prediction: Tensor, target: Tensor, where: Tensor, num_classes: int = 2) -> Tensor:
    """Return the confusion tables of B slices; on a GPU the host does not wait for them.

    Args:
        prediction: (B, H, W) bool or integers in 0 .. C-1.
        target: (B, H, W) bool or integers in 0 .. C-1, or -1 where the truth is unknown.
        where: (B, H, W) bool, pixels that count (the lungs).
        num_classes: C.

    Returns:
        (B, C + 1, C) int64; rows = truth 0 .. C-1 and last "truth unknown", columns = prediction.
    """
    row = torch.where(target < 0, num_classes, target.long())
    counts = count_per_image(row * num_classes + prediction, where, (num_classes + 1) * num_classes)
    return counts.reshape(-1, num_classes + 1, num_classes)


class ScanConfusion(Metric):
    """Confusion table of every slice of a SliceTable.

    A slice's table is ASSIGNED at its index and ranks are merged by maximum, so slices that a distributed sampler
    repeats change nothing, and the result does not depend on the number of ranks. Slices never seen stay 0.

    Args:
        num_slices: Rows of the SliceTable.
        num_classes: Classes C of prediction and truth (2 for a binary mask).

    Attributes:
        table: (num_slices, C + 1, C) int64; rows = truth 0 .. C-1 and last "truth unknown", columns = prediction.
    """

    full_state_update = False
    table: Tensor

    def __init__(self, num_slices: int, num_classes: int = 2) -> None:
        super().__init__(dist_sync_fn=by_maximum)
        self.num_classes = num_classes
        empty = torch.zeros(num_slices, num_classes + 1, num_classes, dtype=torch.int64)
        self.add_state("table", default=empty, dist_reduce_fx="max")

    def update(self, prediction: Tensor, target: Tensor, where: Tensor, slice_index: Tensor) -> None:
        """Enter the tables of B slices, rows `slice_index` (B,) of the SliceTable; the rest as in `confusion`."""
        self.table[slice_index] = confusion(prediction, target, where, self.num_classes)

    def compute(self) -> Tensor:
        """Return the table over all ranks, (num_slices, C + 1, C) int64."""
        return self.table
