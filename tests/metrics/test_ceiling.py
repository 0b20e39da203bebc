import numpy as np
import pytest

from metrics.ceiling import compare_with_readers, human_ceiling


def study(scans: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Counts (scans, 3, 3) of readers and of a model whose IOU is lower by 0.1 on average; scans of similar size."""
    size = rng.uniform(1000, 3000, (scans, 1)) * np.ones(3)
    human = rng.normal(0.7, 0.05, (scans, 1)) + rng.normal(0, 0.02, (scans, 3))
    model = human - 0.1 + rng.normal(0, 0.05, (scans, 1))
    readers, network = (np.stack([size * x, size * x, size], -1).astype(int) for x in (human, model))
    return readers, network


def test_ceiling_by_hand() -> None:
    counts = np.array([[2, 3, 3], [1, 1, 2], [0, 0, 0]])
    mean, readers = human_ceiling(counts)
    assert mean == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert readers == 2
    assert np.isnan(human_ceiling(np.zeros((2, 3), int))[0])
    assert human_ceiling(np.zeros((2, 3), int))[1] == 0


def test_comparison_by_hand() -> None:
    # Two scans, two readers; reader 2 did not read the second scan. IOU pooled: 6/10 and 2/4; model 4/10 and 3/4.
    human = np.array([[[2, 4, 4], [2, 3, 3]], [[4, 4, 4], [0, 0, 0]]])
    model = np.array([[[1, 4, 4], [3, 3, 4]], [[3, 3, 6], [0, 0, 0]]])
    comparison = compare_with_readers(human, model)
    assert comparison.human == pytest.approx((6 / 10 + 2 / 4) / 2)
    assert comparison.model == pytest.approx((4 / 13 + 3 / 4) / 2)
    assert comparison.difference == pytest.approx(comparison.model - comparison.human)
    assert (comparison.scans, comparison.readers) == (2, 2)
    # A resample is both scans, twice the first, or twice the second, in which reader 2 does not count.
    ends = sorted([(1 / 7 - 2 / 6 + 3 / 4 - 2 / 4) / 2, 3 / 6 - 1])
    assert (comparison.low, comparison.high) == pytest.approx((ends[0], ends[1]))


def test_a_reader_undefined_on_one_side_is_left_out_of_both() -> None:
    human = np.array([[[1, 1, 2], [0, 0, 0]]])
    model = np.array([[[1, 2, 2], [0, 5, 0]]])
    comparison = compare_with_readers(human, model)
    assert (comparison.human, comparison.readers) == (1 / 2, 1)
    assert comparison.model == pytest.approx(1 / 3)
    assert np.isnan([comparison.low, comparison.high]).all(), "one scan has no spread"


def test_resamples_without_a_figure_are_left_out_and_counted() -> None:
    human = np.array([[[0, 0, 0]], [[1, 2, 2]]])
    model = np.array([[[0, 3, 0]], [[1, 1, 2]]])
    comparison = compare_with_readers(human, model)
    assert 0.7 * 9999 < comparison.resamples < 0.8 * 9999, "a quarter draws the empty scan twice"
    assert np.isfinite([comparison.low, comparison.high]).all()
    nothing = compare_with_readers(human[:1], model[:1])
    assert np.isnan(nothing.difference)
    assert nothing.readers == 0
    assert compare_with_readers(np.repeat(human[:1], 2, 0), np.repeat(model[:1], 2, 0)).resamples == 0


def test_a_reader_of_their_own_differs_by_nothing() -> None:
    human, _ = study(9, np.random.default_rng(0))
    assert compare_with_readers(human, human)[2:5] == (0, 0, 0)


def test_the_seed_and_the_pairing() -> None:
    human, model = study(15, np.random.default_rng(1))
    first, same, other = (compare_with_readers(human, model, seed) for seed in (1, 1, 2))
    assert first == same
    assert first.low != other.low
    assert first.low == pytest.approx(other.low, abs=0.01)
    order = np.random.default_rng(2).permutation(15)
    unpaired = compare_with_readers(human, model[order])
    assert first.difference == pytest.approx(unpaired.difference)
    assert unpaired.high - unpaired.low > 1.1 * (first.high - first.low), (
        "scans that are hard for both are drawn together"
    )
    assert compare_with_readers(human[order], model[order]).difference == pytest.approx(first.difference)


def test_intervals_cover_the_true_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metrics.ceiling.RESAMPLES", 999)
    rng = np.random.default_rng(3)
    comparisons = [compare_with_readers(*study(20, rng), seed) for seed in range(200)]
    covered = np.mean([comparison.low <= -0.1 <= comparison.high for comparison in comparisons])
    assert 0.87 < covered < 0.99
    # As wide as the normal approximation: readers and model share what makes a scan hard.
    width = np.mean([comparison.high - comparison.low for comparison in comparisons])
    assert width == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(20), rel=0.15)
