"""The slices that a rank sees in an epoch: pure functions of (seed, epoch, rank, world size).

Being pure is what lets the E-step know, without communication, which slices this rank will train on, and what lets a
resumed run continue in the order of the uninterrupted one.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ct.refusal import Refusal

Indices = NDArray[np.int64]


def shuffled(indices: Indices, seed: int, epoch: int) -> Indices:
    """Permute `indices` (N,), depending on (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(indices)


def balanced(weak_label: NDArray[np.int8], indices: Indices, seed: int, epoch: int) -> Indices:
    """Alternate slices of patients with (z = 1) and without (z = 0) consolidation, as paper EM's authors do.

    Args:
        weak_label: int8 (N,), z of each slice in `indices`; only 0 and 1 take part.
        indices: int64 (N,), rows of the SliceTable.
        seed: The run's seed.
        epoch: The epoch, from 0.

    Returns:
        int64 (2 * max(positives, negatives),): each class fills half; the smaller one is repeated, whole rounds first,
        so no slice is seen twice more often than another of its class.

    Raises:
        ValueError: If one of the two classes has no slice.
    """
    classes = [indices[weak_label == z] for z in (0, 1)]
    if min(map(len, classes)) == 0:
        raise Refusal(
            "balanced batches need training slices of patients with and without consolidation, found {present} "
            "with and {absent} without; fill has_consolidation (or report) in cohort.csv for both kinds",
            present=len(classes[1]),
            absent=len(classes[0]),
        )
    length = max(map(len, classes))
    rng = np.random.default_rng([seed, epoch])
    rounds = [np.concatenate([rng.permutation(c) for _ in range(-(-length // len(c)))])[:length] for c in classes]
    return np.stack(rounds, axis=1).reshape(-1)


def training_share(order: Indices, rank: int, world_size: int) -> Indices:
    """Return this rank's part of an epoch's order, without the last N % world_size: ranks must step together.

    Args:
        order: int64 (N,), the order of the whole epoch, the same on every rank.
        rank: From 0.
        world_size: Number of processes.
    """
    return order[rank : len(order) - len(order) % world_size : world_size]


def evaluation_share(rows: Indices, rank: int, world_size: int, batch_size: int) -> Indices:
    """Return this rank's part of the rows to evaluate, in the same number of whole batches on every rank.

    Together the ranks read every row. A rank is filled up with rows that are read anyway, which changes nothing: tables
    are assigned by row, not added up. So every rank, also one without a row of its own, takes part in whatever the
    others wait for. And all batches have one shape, for which the hardware uses one algorithm: other shapes round
    otherwise, and a pixel near 1/2 would depend on the number of ranks.

    Args:
        rows: int64 (N,), the same on every rank.
        rank: From 0.
        world_size: Number of processes.
        batch_size: Rows in a batch.

    Returns:
        int64 (k * batch_size,), k the same for every rank and the smallest possible; nothing where N is 0.
    """
    largest = -(-len(rows) // world_size)
    share = rows[rank::world_size]
    return np.resize(share if len(share) else rows, -(-largest // batch_size) * batch_size)


class EpochSampler(Sampler[int]):
    """A plain or balanced, shuffled sampler over SliceTable rows for one rank.

    Args:
        indices: int64 (N,), the rows to draw from.
        weak_label: int8 (N,) for balanced batches, or None for a plain shuffle.
        seed: The run's seed.
        epoch: The epoch to start at: Lightning iterates before it calls `set_epoch` after a resume.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self, indices: Indices, weak_label: NDArray[np.int8] | None, seed: int, epoch: int, rank: int, world_size: int
    ) -> None:
        self.indices, self.weak_label, self.seed = indices, weak_label, seed
        self.epoch, self.rank, self.world_size = epoch, rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; Lightning calls it when one starts."""
        self.epoch = epoch

    def epoch_indices(self, epoch: int) -> Indices:
        """Return the rows that this rank trains on in `epoch`, in order, int64 (n,)."""
        return training_share(self._order(epoch), self.rank, self.world_size)

    def own_indices(self, epoch: int) -> Indices:
        """Return the rows whose first place in the epoch's order is this rank's, sorted, int64 (n,).

        Every row is one rank's: also a row that several ranks train on, or that is left out of what they share.
        """
        rows, first = np.unique(self._order(epoch), return_index=True)
        return rows[first % self.world_size == self.rank]

    def _order(self, epoch: int) -> Indices:
        if self.weak_label is None:
            return shuffled(self.indices, self.seed, epoch)
        return balanced(self.weak_label, self.indices, self.seed, epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self.epoch_indices(self.epoch).tolist())

    def __len__(self) -> int:
        return len(self.epoch_indices(self.epoch))
