import numpy as np
import pytest

from datamodules.samplers import EpochSampler, balanced, evaluation_share, shuffled, training_share

INDICES = np.arange(100, 121)  # 21 slices
WEAK_LABEL = np.array([1] * 6 + [0] * 15, dtype=np.int8)


def test_balanced_alternates_classes_and_repeats_the_smaller_in_whole_rounds() -> None:
    order = balanced(WEAK_LABEL, INDICES, seed=3, epoch=5)
    assert len(order) == 30
    assert (order[0::2] >= 106).all()  # z = 0
    assert (order[1::2] < 106).all()  # z = 1
    assert sorted(order[0::2]) == list(range(106, 121))
    counts = np.unique(order[1::2], return_counts=True)[1]
    assert set(counts) <= {2, 3}
    assert counts.sum() == 15


def test_order_depends_on_seed_and_epoch_alone() -> None:
    np.testing.assert_array_equal(shuffled(INDICES, 1, 2), shuffled(INDICES, 1, 2))
    assert (shuffled(INDICES, 1, 2) != shuffled(INDICES, 1, 3)).any()
    assert (shuffled(INDICES, 1, 2) != shuffled(INDICES, 2, 2)).any()


def test_one_class_only_is_refused() -> None:
    with pytest.raises(ValueError, match="found 21 with and 0 without"):
        balanced(np.ones(21, dtype=np.int8), INDICES, 0, 0)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_training_shares_are_equal_and_never_overlap(world_size: int) -> None:
    shares = [training_share(INDICES, rank, world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {21 // world_size}
    together = np.concatenate(shares)
    assert len(set(together)) == len(together)


@pytest.mark.parametrize(
    ("slices", "world_size", "batch_size", "batches"),
    [(21, 1, 8, 3), (21, 2, 8, 2), (21, 3, 8, 1), (21, 2, 1, 11), (2, 3, 8, 1), (1, 4, 3, 1)],
)
def test_evaluation_shares_are_whole_batches_that_hold_every_slice(
    slices: int, world_size: int, batch_size: int, batches: int
) -> None:
    rows = INDICES[:slices]
    shares = [evaluation_share(rows, rank, world_size, batch_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {batches * batch_size}
    assert set(np.concatenate(shares)) == set(rows)


def test_nothing_to_evaluate_is_nothing() -> None:
    assert len(evaluation_share(INDICES[:0], 1, 2, 8)) == 0


def test_a_rank_knows_an_epoch_before_it_is_set() -> None:
    sampler = EpochSampler(INDICES, WEAK_LABEL, seed=0, epoch=0, rank=1, world_size=2)
    ahead = sampler.epoch_indices(4).tolist()
    assert list(sampler) != ahead
    sampler.set_epoch(4)
    assert list(sampler) == ahead
    assert len(sampler) == 15
