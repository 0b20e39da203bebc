"""Merging tables of several ranks in place of gathering them: what a rank holds meanwhile does not grow with the ranks.

Each is a `dist_sync_fn` of torchmetrics, which expects the tensors of all ranks: the merged one stands for them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp


def by_maximum(table: Tensor, group: Any = None) -> list[Tensor]:
    """Return the maximum over ranks of every entry."""
    return [_reduced(table, ReduceOp.MAX, group)]


def by_magnitude(table: Tensor, group: Any = None) -> list[Tensor]:
    """Return of every entry the one that is farthest from 0 over ranks, where all but zeros are the same."""
    most, least = _reduced(table, ReduceOp.MAX, group), _reduced(table, ReduceOp.MIN, group)
    return [torch.where(most.abs() >= least.abs(), most, least)]


def _reduced(table: Tensor, operation: Any, group: Any) -> Tensor:
    merged = table.clone()
    torch.distributed.all_reduce(merged, operation, group)
    return merged
