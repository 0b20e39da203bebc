"""Agreement of raters against scikit-learn, published examples and sums written out."""

from itertools import product
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from evaluation.score_agreement import (
    agreement_of_scores,
    bland_altman,
    cross_table,
    intraclass_correlation,
    weighted_kappa,
)

NAN = float("nan")
# Shrout and Fleiss 1979, table 2: four judges of six targets.
TARGETS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def ratings(seed: int, scans: int, raters: int = 2) -> NDArray[np.float64]:
    """Scores 0..5 of raters who mostly agree; the last is stricter."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, (scans, 1))
    strict = np.arange(raters) == raters - 1
    return np.clip(truth + rng.integers(-1, 2, (scans, raters)) + strict, 0, 5).astype(float)


# -- weighted kappa ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power", "weights"), [(1, "linear"), (2, "quadratic")])
@pytest.mark.parametrize(("seed", "scans"), [(0, 3), (1, 12), (2, 200)])
def test_kappa_is_that_of_scikit_learn(power: Literal[1, 2], weights: str, seed: int, scans: int) -> None:
    first, second = ratings(seed, scans).T
    expected = cohen_kappa_score(first, second, labels=range(6), weights=weights)
    assert weighted_kappa(first, second, 5, power) == pytest.approx(expected)
    assert weighted_kappa([*first, NAN, 2], [*second, 1, NAN], 5, power) == pytest.approx(expected)
    assert weighted_kappa(first, second, 25, power) == pytest.approx(expected), "scores that nobody gives do not matter"


def test_kappa_by_hand() -> None:
    # Disagreements 0, 1, 0, 2: observed 3 of 4. By chance: 16 over the 16 pairs of any two scans.
    assert weighted_kappa([0, 1, 2, 2], [0, 2, 2, 0], 2) == pytest.approx(1 - (3 / 4) / (16 / 16))
    assert weighted_kappa([0, 1, 2], [0, 1, 2], 2) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([3], [3]), ([2, 2, 2], [2, 2, 2]), ([2, 2, 2], [1, 2, 3]), ([0, 5], [5, 5]), ([1, NAN], [NAN, 1])],
)
def test_kappa_of_what_does_not_vary_is_undefined(first: list[float], second: list[float]) -> None:
    assert np.isnan(weighted_kappa(first, second, 5))


@pytest.mark.parametrize("score", [6, -1, 2.5])
def test_kappa_of_a_score_beyond_the_scale_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="expected whole numbers from 0 to 5"):
        weighted_kappa([1, score], [1, 2], 5)


def test_the_cross_table_has_a_row_per_score_of_the_first() -> None:
    assert cross_table([0, 2, 2.0], [1, 0, 0.0], 2).tolist() == [[0, 1, 0], [0, 0, 0], [2, 0, 0]]
    assert cross_table([], [], 1).tolist() == [[0, 0], [0, 0]]


# -- Bland and Altman --------------------------------------------------------------------------------------------------


def test_bland_altman_by_hand() -> None:
    # Differences 2, 4, 6, 8: mean 5, sum of squares 20, sd sqrt(20 / 3), t(0.975, 3) = 3.1824.
    bias, lower, upper = result = bland_altman([3, 6, 9, 12, NAN], [1, 2, 3, 4, 5])
    sd = np.sqrt(20 / 3)
    half, of_limit = 3.182446 * sd / 2, 3.182446 * sd * np.sqrt(1 / 4 + 1.96**2 / 6)
    assert bias == pytest.approx((5, 5 - half, 5 + half, 4), rel=1e-6)
    assert lower == pytest.approx((5 - 1.96 * sd, 5 - 1.96 * sd - of_limit, 5 - 1.96 * sd + of_limit, 4), rel=1e-6)
    assert upper == pytest.approx((5 + 1.96 * sd, 5 + 1.96 * sd - of_limit, 5 + 1.96 * sd + of_limit, 4), rel=1e-6)
    assert result.sd == pytest.approx(sd)


def test_the_limits_interval_holds_the_true_limit_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    limits = [bland_altman(rng.normal(size=60), np.zeros(60)).upper for _ in range(600)]
    covered = np.mean([limit.low < 1.96 < limit.high for limit in limits])
    assert 0.93 < covered < 0.97


def test_bland_altman_of_one_pair_has_no_spread() -> None:
    bias, lower, upper = result = bland_altman([3.0], [1.0])
    assert (bias.value, bias.n) == (2, 1)
    assert np.isnan([*bias[1:3], *lower[:3], *upper[:3], result.sd]).all()
    empty = bland_altman([], [])
    assert empty.bias.n == 0
    assert np.isnan([*empty.bias[:3], empty.sd]).all()


def test_bland_altman_of_equal_measurements_has_limits_at_0() -> None:
    assert all(bound == (0, 0, 0, 3) for bound in bland_altman([1, 2, 3], [1, 2, 3]))


# -- intraclass correlation --------------------------------------------------------------------------------------------


def two_way(rows: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares of scans, raters and the rest, each summed over the cells."""
    n, raters = rows.shape
    total, scans, judges = rows.mean(), rows.mean(1), rows.mean(0)
    sums = np.zeros(3)
    for scan, rater in product(range(n), range(raters)):
        rest = rows[scan, rater] - scans[scan] - judges[rater] + total
        sums += (scans[scan] - total) ** 2, (judges[rater] - total) ** 2, rest**2
    return tuple(sums / (n - 1, raters - 1, (n - 1) * (raters - 1)))


def interval(rows: NDArray[np.float64]) -> tuple[float, float, float]:
    """ICC(A,1) of McGraw and Wong 1996 with its interval, as their tables 4 and 7 write them."""
    (n, k), (msr, msc, mse) = rows.shape, two_way(rows)
    icc = (msr - mse) / (msr + (k - 1) * mse + k / n * (msc - mse))
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    below, above = stats.f.ppf(0.975, n - 1, v), stats.f.ppf(0.975, v, n - 1)
    low = n * (msr - below * mse) / (below * (k * msc + (k * n - k - n) * mse) + n * msr)
    high = n * (above * msr - mse) / (k * msc + (k * n - k - n) * mse + n * above * msr)
    return icc, low, high


def test_icc_of_the_example_of_shrout_and_fleiss() -> None:
    msr, msc, mse = two_way(np.array(TARGETS, float))
    assert (msr, msc, mse) == pytest.approx((11.24, 32.49, 1.02), abs=0.006), "their table 3"
    within = (3 * mse * 5 + msc * 3) / 18
    assert (msr - within) / (msr + 3 * within) == pytest.approx(0.17, abs=0.005), "ICC(1,1)"
    assert (msr - mse) / (msr + 3 * mse) == pytest.approx(0.71, abs=0.005), "ICC(3,1)"
    result = intraclass_correlation(TARGETS)
    assert result.value == pytest.approx(0.29, abs=0.005)
    assert (result.low, result.high) == pytest.approx((0.02, 0.76), abs=0.005)
    assert result.n == 6


@pytest.mark.parametrize(("seed", "scans", "raters"), [(0, 2, 2), (1, 9, 2), (2, 30, 5), (3, 150, 3)])
def test_icc_is_that_of_the_formulas_written_out(seed: int, scans: int, raters: int) -> None:
    rows = ratings(seed, scans, raters)
    missing = np.full((1, raters), 3.0)
    missing[0, 0] = NAN
    result = intraclass_correlation(np.concatenate([rows, missing]))
    assert result == pytest.approx((*interval(rows), scans))


def test_icc_counts_a_shift_as_disagreement() -> None:
    rows = np.array([[0, 2], [1, 3], [2, 4], [3, 5.0]])
    # Between scans 10 / 3, between raters 8, no rest: 10/3 / (10/3 + 2 * 8 / 4).
    assert intraclass_correlation(rows).value == pytest.approx(10 / 22)
    assert intraclass_correlation(rows - [0, 2]).value == 1
    assert np.isnan(intraclass_correlation(rows - [0, 2])[1:3]).all(), "raters who agree leave no variance to judge by"


@pytest.mark.parametrize(
    "rows", [np.empty((0, 2)), [[1, 2]], [[3, 3], [3, 3], [3, 3]], [[3, 4], [3, 4]], [[1], [2]], [[1, NAN], [2, 3]]]
)
def test_icc_of_what_does_not_vary_is_undefined(rows: NDArray[np.float64]) -> None:
    assert np.isnan(intraclass_correlation(rows)[:3]).all()


# -- all of them, by patient -------------------------------------------------------------------------------------------


def test_scans_of_different_patients_have_the_intervals_of_theory() -> None:
    first, second = ratings(5, 40).T
    result = agreement_of_scores(first, second, np.arange(40), 5)
    assert result.icc == intraclass_correlation(np.column_stack([first, second]))
    assert result.differences == bland_altman(first, second)
    assert result.patients == 40
    assert result.linear.value == weighted_kappa(first, second, 5, 1)
    assert result.quadratic.value == weighted_kappa(first, second, 5, 2)
    for kappa in (result.linear, result.quadratic):
        assert kappa.low < kappa.value < kappa.high
        assert kappa.n == 40


def test_repeated_scans_of_a_patient_say_no_more_than_one() -> None:
    single = ratings(6, 25)
    patients = np.array([f"p{number}" for number in range(25)])
    once = agreement_of_scores(single[:, 0], single[:, 1], patients, 5)
    first, second = np.repeat(single, 4, axis=0).T
    four = agreement_of_scores(first, second, np.repeat(patients, 4), 5)
    assert (four.linear.n, four.patients, once.patients) == (100, 25, 25)
    assert four.linear[:3] == pytest.approx(once.linear[:3])
    as_if = agreement_of_scores(first, second, np.arange(100), 5)
    for drawn, closed in zip(four.differences, as_if.differences, strict=True):
        assert drawn.value == pytest.approx(closed.value)
        assert drawn.high - drawn.low > 1.4 * (closed.high - closed.low), "not as if all scans were independent"
    assert four.icc.value == pytest.approx(as_if.icc.value)
    assert four.icc.low < four.icc.value < four.icc.high


def test_scans_that_one_of_them_left_out_are_left_out() -> None:
    first, second = ratings(7, 12).T
    patients = np.array([f"p{number}" for number in range(12)])
    more = agreement_of_scores([*first, NAN, 3], [*second, 1, NAN], [*patients, "p0", "p1"], 5)
    assert more == agreement_of_scores(first, second, patients, 5)


def test_a_single_patient_has_no_interval_but_those_of_nobody_are_undefined() -> None:
    result = agreement_of_scores([0, 1, 3], [0, 2, 3], ["p", "p", "p"], 5)
    assert (result.patients, result.icc.n) == (1, 3)
    assert result.icc.value > 0.8
    for each in (result.linear, result.quadratic, result.icc, *result.differences):
        assert np.isfinite(each.value)
        assert np.isnan(each[1:3]).all()
    nobody = agreement_of_scores([], [], [], 5)
    for each in (nobody.linear, nobody.quadratic, nobody.icc, *nobody.differences):
        assert np.isnan(each[:3]).all()
        assert each.n == 0
