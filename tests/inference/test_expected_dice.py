import numpy as np
import pytest

from inference.expected_dice import expected_dice


def test_it_is_the_mean_dice_of_truths_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((3, 40, 50)) ** 2
    found = probability > 0.5
    truths = rng.random((300, 1, 40, 50)) < probability
    both = 2 * (truths & found).sum((-2, -1))
    drawn = both / (truths.sum((-2, -1)) + found.sum((-2, -1)))
    np.testing.assert_allclose(expected_dice(probability, found), drawn.mean(0), atol=0.002)


def test_a_small_faint_finding_promises_less_than_a_large_clear_one() -> None:
    clear = np.zeros((20, 20))
    clear[5:15, 5:15] = 0.98
    faint = np.zeros((20, 20))
    faint[8:11, 8:11] = 0.55
    faint[7, 7:12] = 0.4
    both = np.stack([clear, faint])
    # By hand: 2 * 98 / (100 + 98) and 2 * 4.95 / (9 + 4.95 + 2).
    np.testing.assert_allclose(expected_dice(both, both > 0.5), [196 / 198, 9.9 / 15.95])


def test_where_nothing_is_found_nothing_is_promised() -> None:
    assert np.isnan(expected_dice(np.full((4, 4), 0.3), np.zeros((4, 4), bool)))
    assert expected_dice(np.ones((4, 4)), np.ones((4, 4), bool)) == pytest.approx(1)
