"""The accumulator behind every overlap figure: one confusion table per slice."""

import torch
from torch import Tensor
from torchmetrics import Metric

LANES = 8  # pixels that one 64-bit word holds, a byte each
WORDS = 128  # words added up before a byte could overflow


def count_pairs(rows: Tensor, columns: Tensor) -> Tensor:
    """How many pixels of each image are in each pair of masks, eight pixels at a time and without a host sync.

    A mask of bytes 0 and 1 is read as 64-bit words: one `and` intersects eight pixels, and a sum of up to 255 words
    counts in each byte by itself. So counting costs as much as reading, where a scatter costs an address per pixel.

    Args:
        rows: (B, R, ...) bool masks.
        columns: (B, C, ...) bool masks.

    Returns:
        (B, R, C) int64.
    """
    words = _words(columns)
    both = [(row[:, None] & words).sum(-1) for row in _words(rows).unbind(1)]
    return torch.stack(both, 1).view(torch.uint8).sum(-1)


def _words(masks: Tensor) -> Tensor:
    """(B, M, ...) bool -> (B, M, n, WORDS) int64, filled up with False."""
    flat = masks.flatten(2)
    flat = torch.nn.functional.pad(flat, (0, -flat.shape[2] % (LANES * WORDS)))
    return flat.view(torch.int64).view(*flat.shape[:2], -1, WORDS)


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
        classes = range(self.num_classes)
        prediction, target = prediction.to(torch.int8), target.to(torch.int8)  # a byte per pixel is compared fastest
        truth = torch.stack([*(target == c for c in classes), target < 0], 1) & where[:, None]
        predicted = torch.stack([prediction == c for c in classes], 1)
        self.table[slice_index] = count_pairs(truth, predicted)

    def compute(self) -> Tensor:
        """The table over all ranks, (num_slices, C + 1, C) int64."""
        return self.table
