from itertools import permutations

import numpy as np
import pytest
from places import SHARED_DATA
from scipy import stats
from sklearn.metrics import jaccard_score

from ct.classes import L3
from metrics.agreement import (
    Calls,
    average_counts,
    average_map,
    calls_of,
    deviation_map,
    disagreement,
    entropy_map,
    iou,
    mean_map,
    overlap_counts,
    pairwise_counts,
    relative_volume,
    votes_of,
)

OPACITY_GROUPS = L3.opacities

# Three readers of six pixels; -1 is unlabelled.
GROUPS = np.array(
    [
        [2, 2, 1, 4, 1, 0],
        [2, 3, 2, -1, 1, 0],
        [2, 1, 1, 4, -1, -1],
    ],
    np.int8,
)


def random_groups(readers: int, seed: int, unlabelled: float = 0.1) -> np.ndarray:
    """int8 (readers, 3, 13, 7): readers who say mostly the same."""
    rng = np.random.default_rng(seed)
    shape = (readers, 3, 13, 7)
    truth = rng.choice(5, shape[1:], p=[0.3, 0.3, 0.2, 0.1, 0.1])
    groups = np.where(rng.random(shape) < 0.7, truth, rng.integers(0, 5, shape))
    return np.where(rng.random(shape) < unlabelled, -1, groups).astype(np.int8)


def test_pairs_by_hand() -> None:
    counts = pairwise_counts(calls_of(GROUPS))
    # Readers 1 and 2 share the pixels 0, 1, 2, 4, 5: both opaque on 0, 1; reader 2 also on 2.
    assert counts[0, 1].tolist() == [2, 2, 3]
    assert counts[1, 0].tolist() == [2, 3, 2]
    # Readers 1 and 3 share 0..3: opaque 0, 1, 3 and 0, 3. Readers 2 and 3 share 0..2: opaque 0, 1, 2 and 0.
    np.testing.assert_allclose(iou(counts), [[1, 2 / 3, 2 / 3], [2 / 3, 1, 1 / 3], [2 / 3, 1 / 3, 1]])
    np.testing.assert_allclose(relative_volume(counts)[0], [1, 2 / 3, 3 / 2])


def test_averages_by_hand() -> None:
    calls = calls_of(GROUPS)
    # Of the others, at least half say opaque: pixels 0, 1, 2 (1 of 2), 3 against reader 1 who says 0, 1, 3.
    assert average_counts(calls, with_self=False)[0].tolist() == [3, 3, 4]
    # Pixel 3 is opaque for reader 3 alone among those who labelled it beside reader 1; reader 2 left it unlabelled.
    assert average_counts(calls, with_self=False)[1].tolist() == [2, 3, 2]
    assert average_counts(calls, with_self=True)[0].tolist() == [3, 3, 3]
    assert average_map(calls).tolist() == [True, True, False, True, False, False]


def test_pixels_of_one_reader_alone_are_not_compared_with_the_average() -> None:
    groups = np.array([[2, 2], [2, -1]], np.int8)
    for with_self in (True, False):
        assert average_counts(calls_of(groups), with_self).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_model_is_judged_on_the_same_pixels_as_each_reader() -> None:
    model = np.array([True, False, True, True, True, True])
    # Against readers 2 and 3 on the pixels of reader 1, who labelled all: the average is 0, 1, 2, 3.
    counts = average_counts(calls_of(GROUPS), False, model)
    assert counts[0].tolist() == [3, 5, 4]
    # Reader 3 labelled 0..3 only: the average of readers 1 and 2 is 0, 1, 2, 3 there.
    assert counts[2].tolist() == [3, 3, 4]
    own = GROUPS[0] > 1
    assert (
        average_counts(calls_of(GROUPS), False, own)[0].tolist() == average_counts(calls_of(GROUPS), False)[0].tolist()
    )


@pytest.mark.parametrize("finding", [OPACITY_GROUPS, (3,)])
def test_pairs_as_scikit_learn_has_them(finding: tuple[int, ...]) -> None:
    groups = random_groups(4, 0)
    figures = iou(pairwise_counts(calls_of(groups, finding)))
    for a in range(4):
        for b in range(4):
            shared = (groups[a] >= 0) & (groups[b] >= 0)
            first, second = (np.isin(groups[reader][shared], finding) for reader in (a, b))
            assert figures[a, b] == pytest.approx(jaccard_score(first, second))


def test_averages_as_scikit_learn_has_them() -> None:
    groups = random_groups(5, 1)
    opaque = np.where(groups < 0, np.nan, np.isin(groups, OPACITY_GROUPS))
    figures = {with_self: iou(average_counts(calls_of(groups), with_self)) for with_self in (True, False)}
    for reader in range(5):
        others = np.delete(opaque, reader, 0)
        shared = (groups[reader] >= 0) & ~np.isnan(others).all(0)
        for with_self, maps in ((True, opaque), (False, others)):
            average = np.nanmean(maps[:, shared], 0) >= 0.5
            assert figures[with_self][reader] == pytest.approx(jaccard_score(opaque[reader][shared] == 1, average))
    assert (figures[True] > figures[False]).all()


def test_counts_of_parts_add_up() -> None:
    groups = random_groups(3, 2)
    for function in (pairwise_counts, lambda calls: average_counts(calls, False)):
        slices = [function(calls_of(groups[:, z])) for z in range(groups.shape[1])]
        np.testing.assert_array_equal(np.sum(slices, 0), function(calls_of(groups)))


def test_undefined_is_nan_and_an_empty_reader_is_not() -> None:
    nobody = pairwise_counts(calls_of(np.zeros((2, 4), np.int8)))
    assert np.isnan(iou(nobody)).all()
    one_only = pairwise_counts(calls_of(np.array([[2, 0], [0, 0]], np.int8)))
    assert iou(one_only)[0, 1] == 0
    assert np.isnan(relative_volume(one_only)[0, 1])
    apart = pairwise_counts(calls_of(np.array([[2, -1], [-1, 2]], np.int8)))
    assert np.isnan(iou(apart)[0, 1])
    assert not average_map(calls_of(np.full((2, 3), -1, np.int8))).any()


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
def test_maps_as_numpy_has_them() -> None:
    groups = random_groups(6, 3, unlabelled=0.4)
    votes = votes_of(groups)
    assert votes.dtype == np.uint8
    for finding in (OPACITY_GROUPS, (2,), (0, 1)):
        calls = np.where(groups < 0, np.nan, np.isin(groups, finding))
        np.testing.assert_allclose(mean_map(votes, finding), np.nanmean(calls, 0))
        np.testing.assert_allclose(deviation_map(votes, finding), np.nanstd(calls, 0), atol=1e-7)
    alone = votes_of(np.full((2, 3), -1, np.int8))
    assert np.isnan([mean_map(alone), deviation_map(alone), entropy_map(alone)]).all()


def test_entropy_as_scipy_has_it() -> None:
    groups = random_groups(7, 4, unlabelled=0.5)
    votes, labelled = votes_of(groups), (groups >= 0).sum(0)
    expected = np.where(labelled > 1, stats.entropy(votes.astype(float), axis=0), np.nan)
    np.testing.assert_allclose(entropy_map(votes), expected, atol=1e-12)
    assert {0, 1, 2} < set(labelled.ravel().tolist())


def test_entropy_and_agreement_by_hand() -> None:
    # Contested: pixels 0 (all say 2), 1 (2, 3, 1), 2 (1, 2, 1), 3 (4, 4; one unlabelled).
    sums = disagreement(votes_of(GROUPS))
    assert sums[:3] == (4, 2, 2)
    half, third = np.log(2), np.log(3)
    assert sums.entropy == pytest.approx(third + (third - 2 / 3 * half))
    same_finding = disagreement(votes_of(np.array([[2, 1], [3, 1]], np.int8)))
    assert same_finding == pytest.approx((1, 1, 0, half))


def test_what_one_reader_alone_labelled_is_not_contested() -> None:
    assert disagreement(votes_of(np.array([[2, 4], [-1, 4]], np.int8))) == (1, 1, 1, 0)


def test_the_order_of_readers_does_not_matter() -> None:
    groups = random_groups(3, 5)
    votes, pairs = votes_of(groups), pairwise_counts(calls_of(groups))
    average = average_counts(calls_of(groups), False)
    for order in permutations(range(3)):
        shuffled = groups[list(order)]
        np.testing.assert_array_equal(votes_of(shuffled), votes)
        np.testing.assert_array_equal(pairwise_counts(calls_of(shuffled)), pairs[np.ix_(order, order)])
        np.testing.assert_array_equal(average_counts(calls_of(shuffled), False), average[list(order)])


def test_overlap_counts_only_what_is_counted() -> None:
    first, second = np.array([True, True, False, True]), np.array([True, False, True, True])
    assert overlap_counts(first, second, np.array([True, True, True, False])).tolist() == [1, 2, 2]


@pytest.mark.shared_data
def test_readers_of_real_nodules() -> None:
    """LIDC-IDRI: outlines of nodules by 2 to 4 radiologists each. Plausibility only: nodules are no opacities."""
    path = SHARED_DATA / "lidc_multireader" / "lidc_multireader.npz"
    if not path.is_file():
        pytest.skip(f"no real readers at {path}")
    with np.load(path) as arrays:
        masks, readers = arrays["mask"] > 0, arrays["n_readers"]
    labelled = np.arange(4)[:, None, None, None] < readers[:, None, None]
    calls = Calls(masks.transpose(1, 0, 2, 3), np.broadcast_to(labelled, masks.transpose(1, 0, 2, 3).shape))
    pairs = iou(pairwise_counts(calls))[np.triu_indices(4, 1)]
    others, everyone = (iou(average_counts(calls, with_self)) for with_self in (False, True))
    groups = np.where(calls.labelled, np.where(calls.positive, 4, 0), -1).astype(np.int8)
    sums = disagreement(votes_of(groups))
    union = masks.any(1)
    assert sums.pixels == union.sum()
    assert sums.agreed == sum(mask[:number].all(0).sum() for mask, number in zip(masks, readers, strict=True))
    assert 0.75 < pairs.min() < pairs.max() < 0.85
    assert pairs.mean() < others.mean() < everyone.mean() < 0.95
    assert 0.6 < sums.agreed / sums.pixels < 0.75
    assert 0 < sums.entropy / sums.pixels < np.log(2)
