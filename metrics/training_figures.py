"""Training figures of an epoch: agreement of the steps' predictions with their targets, over all ranks."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics import overlap
from metrics.scan_confusion import confusion
from metrics.summary import Metrics, mean_figure, number


class TrainingFigures:
    """Confusion table of every scan and mean of the losses, added up step by step.

    A slice that is drawn twice in an epoch counts twice, each time as the network saw it then. Sums of integers do not
    depend on their order, so the figures do not depend on how the slices are distributed over ranks.

    Args:
        scan: int64 (N,), the scan of each row of the SliceTable, numbered from 0.
        device: Where the training steps run.
    """

    def __init__(self, scan: NDArray[Any], device: torch.device) -> None:
        self.scan = torch.from_numpy(scan).to(device)
        self.table = torch.zeros(int(scan.max()) + 1, 3, 2, dtype=torch.int64, device=device)
        self.losses = torch.zeros(2, device=device)  # their sum, and the number of steps

    @torch.no_grad()
    def add(self, prediction: Tensor, target: Tensor, where: Tensor, slice_index: Tensor, loss: Tensor) -> None:
        """Enter a step, without a host sync.

        Args:
            prediction: (B, H, W) bool.
            target: (B, H, W), 1, 0, or -1 where the truth is unknown.
            where: (B, H, W) bool, pixels that count (the lungs).
            slice_index: (B,) int64 rows of the SliceTable.
            loss: Loss of the step.
        """
        self.table.index_add_(0, self.scan[slice_index], confusion(prediction, target, where))
        self.losses += torch.stack([loss.float(), torch.ones_like(loss, dtype=torch.float)])

    def figures(self, world_size: int) -> Metrics:
        """Return the mean loss of the steps, and Dice, IOU and RV as of a validation; every rank must call it.

        Args:
            world_size: Number of ranks; their sums are added up first, in one exchange.

        Returns:
            loss_epoch, dice (mean over the scans that have the finding), iou and relative_volume (pooled); None where
            a figure is undefined.
        """
        losses, table = self.losses, self.table
        if world_size > 1:
            sums = torch.cat([losses.double(), table.flatten().double()])  # in which counts below 2^53 are exact
            torch.distributed.all_reduce(sums)
            losses, table = sums[:2], sums[2:].view(table.shape).to(torch.int64)
        total, steps = losses.tolist()
        counts = table.cpu().numpy()
        return {
            "loss_epoch": number(total / steps) if steps else None,
            "dice": mean_figure("dice", overlap.dice(counts))["dice"],
            "iou": number(overlap.iou(counts.sum(0))),
            "relative_volume": number(overlap.relative_volume(counts.sum(0))),
        }
