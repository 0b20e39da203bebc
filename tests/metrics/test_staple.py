from itertools import permutations

import numpy as np
import pytest
import SimpleITK

from metrics.staple import multi_label_staple, staple


def readers_of(truth: np.ndarray, sensitivity: list[float], specificity: list[float], seed: int) -> np.ndarray:
    """bool (R, ...): readers who miss and add pixels at random."""
    rng = np.random.default_rng(seed)
    rates = zip(sensitivity, specificity, strict=True)
    return np.stack([rng.random(truth.shape) < np.where(truth, se, 1 - sp) for se, sp in rates])


@pytest.fixture
def truth() -> np.ndarray:
    truth = np.zeros((5, 30, 40), bool)
    truth[1:4, 5:20, 8:30] = True
    return truth


def test_readers_are_rated_by_how_they_were_made(truth: np.ndarray) -> None:
    made = [0.9, 0.8, 0.95, 0.7, 0.85], [0.99, 0.95, 0.9, 0.98, 0.97]
    positive = readers_of(truth, *made, seed=0)
    consensus = staple(positive)
    np.testing.assert_allclose(consensus.sensitivity, made[0], atol=0.03)
    np.testing.assert_allclose(consensus.specificity, made[1], atol=0.01)
    assert consensus.converged
    mean = positive.mean(0) >= 0.5
    assert ((consensus.probability >= 0.5) != truth).sum() < (mean != truth).sum() / 1.1, "better than the plain mean"


def test_as_simpleitk_has_it_on_whole_images(truth: np.ndarray) -> None:
    positive = readers_of(truth, [0.9, 0.8, 0.7], [0.99, 0.95, 0.98], seed=1)
    images = [SimpleITK.GetImageFromArray(labels.astype(np.uint8)) for labels in positive]
    np.testing.assert_array_equal(staple(positive).probability, SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images)))


def test_as_its_equations_have_it() -> None:
    """The fixed point of Warfield's EM (equations 15, 19 and 20), iterated here on the votes themselves."""
    rng = np.random.default_rng(2)
    positive = readers_of(rng.random(4000) < 0.2, [0.9, 0.8, 0.7], [0.97, 0.95, 0.98], seed=3)
    prior, p, q = positive.mean(), np.full(3, 0.99999), np.full(3, 0.99999)
    for _ in range(500):
        inside = prior * np.where(positive, p[:, None], 1 - p[:, None]).prod(0)
        outside = (1 - prior) * np.where(positive, 1 - q[:, None], q[:, None]).prod(0)
        weight = inside / (inside + outside)
        p, q = (positive * weight).sum(1) / weight.sum(), (~positive * (1 - weight)).sum(1) / (1 - weight).sum()
    consensus = staple(positive)
    np.testing.assert_allclose(consensus.sensitivity, p, atol=1e-3)
    np.testing.assert_allclose(consensus.specificity, q, atol=1e-3)
    np.testing.assert_allclose(consensus.probability, weight, atol=5e-3)


@pytest.mark.parametrize("order", permutations(range(3)))
def test_the_order_of_readers_and_pixels_does_not_matter(order: tuple[int, ...], truth: np.ndarray) -> None:
    positive = readers_of(truth, [0.9, 0.8, 0.7], [0.99, 0.95, 0.98], seed=4).reshape(3, -1)
    shuffle = np.random.default_rng(5).permutation(positive.shape[1])
    first, shuffled = staple(positive), staple(positive[list(order)][:, shuffle])
    np.testing.assert_allclose(shuffled.sensitivity, first.sensitivity[list(order)], atol=1e-6)
    np.testing.assert_allclose(shuffled.probability, first.probability[shuffle], atol=1e-6)


def test_unanimous_readers() -> None:
    empty, full = np.zeros((2, 3, 4), bool), np.ones((2, 3, 4), bool)
    assert staple(empty).probability.tolist() == np.zeros((3, 4)).tolist()
    assert np.isnan(staple(empty).sensitivity).all()
    assert staple(empty).specificity.tolist() == [1, 1]
    assert staple(full).probability.tolist() == np.ones((3, 4)).tolist()
    assert np.isnan(staple(full).specificity).all()
    assert staple(full).sensitivity.tolist() == [1, 1]
    nowhere = staple(np.zeros((2, 0), bool))
    assert np.isnan([nowhere.sensitivity, nowhere.specificity]).all()
    assert nowhere.probability.shape == (0,)


def test_the_limit_of_iterations_is_told(monkeypatch: pytest.MonkeyPatch, truth: np.ndarray) -> None:
    monkeypatch.setattr("metrics.staple.MAX_ITERATIONS", 2)
    assert not staple(readers_of(truth, [0.9, 0.8, 0.7], [0.99, 0.95, 0.98], seed=6)).converged


def test_groups_as_simpleitk_has_them() -> None:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 5, (4, 20, 30))
    groups = np.where(rng.random((3, *truth.shape)) < 0.8, truth, rng.integers(0, 5, (3, *truth.shape))).astype(np.int8)
    images = [SimpleITK.GetImageFromArray(labels.astype(np.uint8)) for labels in groups]
    consensus = multi_label_staple(groups)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images))
    np.testing.assert_array_equal(
        consensus, np.where(expected == 5, -1, expected), "5 is SimpleITK's own undecided here"
    )
    assert consensus.dtype == np.int8
    assert (consensus == truth).mean() > 0.9


def test_a_tie_is_undecided() -> None:
    groups = np.arange(1000) % 5
    consensus = multi_label_staple(np.stack([groups, (groups + 1) % 5]).astype(np.int8))
    assert (consensus == -1).any()
    assert set(consensus.tolist()) <= {-1, 0, 1, 2, 3, 4}
    assert multi_label_staple(np.zeros((2, 0), np.int8)).shape == (0,)
