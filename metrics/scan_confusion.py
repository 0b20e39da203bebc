"""The accumulator behind every overlap figure: one confusion table per slice."""

import torch
from torch import Tensor
from torchmetrics import Metric


def count_per_image(code: Tensor, where: Tensor, codes: int) -> Tensor:
    """How often each code occurs in each image, in one scatter and without a host sync (CUDA's bincount has one).

    Args:
        code: (B, ...) integers in 0 .. codes - 1 wherever `where` holds.
        where: (B, ...) bool, pixels that count.
        codes: number of codes.

    Returns:
        (B, codes) int64.
    """
    # Pixels that do not count go to a bin of their own, which is cut off again.
    index = torch.where(where, code.long(), codes).flatten(1)
    counts = index.new_zeros(len(index), codes + 1)
    return counts.scatter_add_(1, index, index.new_ones(()).expand_as(index))[:, :codes]


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
        """Enter the tables of B slices.

        Args:
            prediction: (B, H, W) bool or integers in 0 .. C-1.
            target: (B, H, W) bool or integers in 0 .. C-1, or -1 where the truth is unknown.
            where: (B, H, W) bool, pixels that count (the lungs).
            slice_index: (B,) int64 rows of the SliceTable.
        """
        rows, columns = self.num_classes + 1, self.num_classes
        truth = torch.where(target < 0, columns, target.long())
        counts = count_per_image(truth * columns + prediction, where, rows * columns)
        self.table[slice_index] = counts.view(-1, rows, columns)

    def compute(self) -> Tensor:
        """The table over all ranks, (num_slices, C + 1, C) int64."""
        return self.table
