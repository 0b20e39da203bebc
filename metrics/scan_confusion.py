"""The accumulator behind every overlap figure: one confusion table per slice."""

import torch
from torch import Tensor
from torchmetrics import Metric


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
    cells = (row * num_classes + prediction).flatten(1)
    tables = cells.new_zeros(len(cells), (num_classes + 1) * num_classes)
    return tables.scatter_add_(1, cells, where.flatten(1).long()).view(-1, num_classes + 1, num_classes)


class ScanConfusion(Metric):
    """Confusion table of every slice of a SliceTable.

    A slice's table is ASSIGNED at its index and ranks are merged by maximum, so slices that a distributed sampler
    repeats change nothing, and the result does not depend on the number of ranks. Slices never seen stay 0.

    Args:
        num_slices: rows of the SliceTable.
        num_classes: classes C of prediction and truth (2 for a binary mask).

    Attributes:
        table: (num_slices, C + 1, C) int64; rows = truth 0 .. C-1 and last "truth unknown", columns = prediction.
    """

    full_state_update = False
    table: Tensor

    def __init__(self, num_slices: int, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes
        empty = torch.zeros(num_slices, num_classes + 1, num_classes, dtype=torch.int64)
        self.add_state("table", default=empty, dist_reduce_fx="max")

    def update(self, prediction: Tensor, target: Tensor, where: Tensor, slice_index: Tensor) -> None:
        """Enter the tables of B slices, rows `slice_index` (B,) of the SliceTable; the rest as in `confusion`."""
        self.table[slice_index] = confusion(prediction, target, where, self.num_classes)

    def compute(self) -> Tensor:
        """Return the table over all ranks, (num_slices, C + 1, C) int64."""
        return self.table
