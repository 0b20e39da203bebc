"""The accumulator behind every overlap figure: one confusion table per slice."""

import torch
from torch import Tensor
from torchmetrics import Metric

LANES = 8  # pixels that one 64-bit word holds, a byte each
WORDS = 128  # words added up before a byte could overflow


def count_pairs(rows: list[Tensor], columns: list[Tensor]) -> Tensor:
    """How many pixels of each image are in each pair of masks, eight pixels at a time and without a host sync.

    A mask of bytes 0 and 1 is read as 64-bit words: one `and` intersects eight pixels, and a sum of up to 255 words
    counts in each byte by itself. So counting costs as much as reading, where a scatter costs an address per pixel.

    Args:
        rows: R masks, bool (B, ...).
        columns: C masks, bool (B, ...).

    Returns:
        (B, R, C + 1) int64; the last column counts the row's mask alone.
    """
    words = [_words(mask) for mask in columns]
    sums = [torch.stack([*((row & column).sum(-1) for column in words), row.sum(-1)], 1) for row in map(_words, rows)]
    return torch.stack(sums, 1).view(torch.uint8).sum(-1)


def _words(mask: Tensor) -> Tensor:
    """(B, ...) bool -> (B, n, WORDS) int64, filled up with False."""
    flat = mask.flatten(1)
    missing = -flat.shape[1] % (LANES * WORDS)
    flat = torch.nn.functional.pad(flat, (0, missing)) if missing else flat.contiguous()
    return flat.view(torch.int64).view(len(flat), -1, WORDS)


def confusion(prediction: Tensor, target: Tensor, where: Tensor, num_classes: int = 2) -> Tensor:
    """Confusion tables of B slices.

    Args:
        prediction: (B, H, W) bool or integers in 0 .. C-1.
        target: (B, H, W) bool or integers in 0 .. C-1, or -1 where the truth is unknown.
        where: (B, H, W) bool, pixels that count (the lungs).
        num_classes: C.

    Returns:
        (B, C + 1, C) int64; rows = truth 0 .. C-1 and last "truth unknown", columns = prediction.
    """
    # A byte per pixel is compared fastest, and what is neither of the other classes is class 0.
    prediction, target = prediction.to(torch.int8), target.to(torch.int8)
    others = range(1, num_classes)
    truth = [where, *((target == c) & where for c in others), (target < 0) & where]
    counts = count_pairs(truth, [prediction == c for c in others])
    counts = torch.cat([counts[..., -1:] - counts[..., :-1].sum(-1, keepdim=True), counts[..., :-1]], 2)
    return torch.cat([counts[:, :1] - counts[:, 1:].sum(1, keepdim=True), counts[:, 1:]], 1)


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
        """The table over all ranks, (num_slices, C + 1, C) int64."""
        return self.table
