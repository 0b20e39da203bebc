"""Agreement of raters on the same scans: weighted kappa, Bland and Altman's limits, intraclass correlation.

Pure functions. A scan that a rater left out, NaN, is left out. Where ratings do not tell agreement from chance, as
those that never vary, a figure is NaN, neither 0 nor 1.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evaluation.statistics import FEWEST, LEVEL, Values, clustered_bootstrap, whole_pairs

LIMIT_SD = 1.96  # 95 % of normally distributed differences lie within the limits of agreement
UPPER_TAIL = (1 + LEVEL) / 2


class Estimate(NamedTuple):
    """A figure, the ends of its 95 % interval, NaN where it has none, and the number of scans behind it."""

    value: float
    low: float
    high: float
    n: int


class BlandAltman(NamedTuple):
    """Agreement of two measurements of the same scans, by their differences.

    Attributes:
        bias: Mean difference, first minus second.
        lower: Lower limit of agreement, bias - 1.96 sd.
        upper: Upper limit of agreement, bias + 1.96 sd.
    """

    bias: Estimate
    lower: Estimate
    upper: Estimate

    @property
    def sd(self) -> float:
        """Standard deviation of the differences, n - 1 in its denominator."""
        return (self.upper.value - self.lower.value) / 2 / LIMIT_SD


class Agreement(NamedTuple):
    """Agreement of two raters who score scans in whole numbers.

    Attributes:
        linear: Weighted kappa, linear weights.
        quadratic: Weighted kappa, quadratic weights.
        icc: Intraclass correlation, ICC(2,1).
        differences: Bland and Altman's figures.
        patients: Whose scans they are.
    """

    linear: Estimate
    quadratic: Estimate
    icc: Estimate
    differences: BlandAltman
    patients: int


def weighted_kappa(first: ArrayLike, second: ArrayLike, highest: int, power: Literal[1, 2] = 1) -> float:
    """Return Cohen's weighted kappa, 1 - observed / expected disagreement (Psychological Bulletin 70, 1968).

    Two scores i and j disagree by |i - j|^power; what is expected by chance follows from how often each rater gives
    each score.

    Args:
        first: (N,), whole numbers 0..highest.
        second: (N,), of the same scans.
        highest: The highest score of the scale.
        power: 1 for linear weights, 2 for quadratic ones.

    Returns:
        Kappa; NaN for fewer than 2 scans, and where a rater gives all scans one score: it would be 0 whatever the other
        says.

    Raises:
        ValueError: A score is none of the scale's.
    """
    pairs, scale = whole_pairs(first, second), np.arange(highest + 1)
    if not np.isin(pairs, scale).all():
        raise ValueError(f"scores {np.unique(pairs)}; expected whole numbers from 0 to {highest}")
    table = cross_table(pairs[:, 0], pairs[:, 1], highest)
    given = table.sum(1), table.sum(0)
    if min(map(np.count_nonzero, given)) < FEWEST:
        return math.nan
    weights = np.abs(scale[:, None] - scale) ** power
    return float(1 - len(pairs) * (table * weights).sum() / (np.outer(*given) * weights).sum())


def cross_table(first: ArrayLike, second: ArrayLike, highest: int) -> NDArray[np.int64]:
    """Count how often each score of the first, a row, meets each of the second: int64 (highest + 1, highest + 1)."""
    i, j = np.asarray(first, int), np.asarray(second, int)
    return np.bincount(i * (highest + 1) + j, minlength=(highest + 1) ** 2).reshape(highest + 1, highest + 1)


def bland_altman(first: ArrayLike, second: ArrayLike) -> BlandAltman:
    """Return bias and limits of agreement with their intervals (Bland and Altman, Lancet 1986).

    With Student's t, and the standard errors sd / sqrt(n) of the bias and, of the limits, sd sqrt(1 / n + 1.96^2 /
    (2 (n - 1))) (Bland and Altman, Statistical Methods in Medical Research 8, 1999).

    Args:
        first: (N,), a measurement per scan.
        second: (N,), of the same scans.

    Returns:
        Of no scan all is NaN, of a single one all but the bias.
    """
    pairs = whole_pairs(first, second)
    bias, lower, upper = (_bound(pairs, side) for side in (0, -1, 1))
    n = len(pairs)
    half = (upper - lower) / 2 / LIMIT_SD * stats.t.ppf(UPPER_TAIL, n - 1) if n >= FEWEST else math.nan
    of_bias = half / math.sqrt(n) if n else math.nan
    of_limit = half * math.sqrt(1 / n + LIMIT_SD**2 / (2 * (n - 1))) if n >= FEWEST else math.nan
    return BlandAltman(
        Estimate(bias, bias - of_bias, bias + of_bias, n),
        Estimate(lower, lower - of_limit, lower + of_limit, n),
        Estimate(upper, upper - of_limit, upper + of_limit, n),
    )


def _bound(pairs: Values, side: Literal[-1, 0, 1]) -> float:
    """Return the bias of the first (0), or its lower (-1) or upper (1) limit of agreement."""
    difference = pairs[:, 0] - pairs[:, 1]
    bias = float(difference.mean()) if len(difference) else math.nan
    if side == 0:
        return bias
    return bias + side * LIMIT_SD * float(difference.std(ddof=1)) if len(difference) >= FEWEST else math.nan


def intraclass_correlation(ratings: ArrayLike) -> Estimate:
    """Return ICC(2,1): two-way random effects, absolute agreement, a single rater.

    Shrout and Fleiss, Psychological Bulletin 86 (1979); called ICC(A,1) by McGraw and Wong, Psychological Methods 1
    (1996), whose table 7 has the interval.

    Args:
        ratings: (N, raters), a row per scan.

    Returns:
        NaN for fewer than 2 scans or raters, and where no rater tells one scan from another. No interval where all
        agree.
    """
    rows = np.asarray(ratings, float)
    rows = rows[np.isfinite(rows).all(1)]
    if min(rows.shape) < FEWEST or (np.ptp(rows, axis=0) == 0).all():
        return Estimate(math.nan, math.nan, math.nan, len(rows))
    (n, raters), (of_scans, of_raters, of_error) = rows.shape, _mean_squares(rows)
    value = (of_scans - of_error) / (of_scans + (raters - 1) * of_error + raters * (of_raters - of_error) / n)
    freedom = _freedom(value, n, raters, of_raters, of_error)
    low_f, high_f = stats.f.ppf(UPPER_TAIL, n - 1, freedom), stats.f.ppf(UPPER_TAIL, freedom, n - 1)
    rest = raters * of_raters + (raters * n - raters - n) * of_error
    low = n * (of_scans - low_f * of_error) / (low_f * rest + n * of_scans)
    high = n * (high_f * of_scans - of_error) / (rest + n * high_f * of_scans)
    return Estimate(value, float(low), float(high), n)


def _mean_squares(rows: Values) -> tuple[float, float, float]:
    """Return the mean squares of a two-way analysis of variance: between scans, between raters, and of the rest."""
    n, raters = rows.shape
    of_scan, of_rater, mean = rows.mean(1), rows.mean(0), rows.mean()
    rest = rows - of_scan[:, None] - of_rater + mean
    squares = raters * ((of_scan - mean) ** 2).sum(), n * ((of_rater - mean) ** 2).sum(), (rest**2).sum()
    return float(squares[0] / (n - 1)), float(squares[1] / (raters - 1)), float(squares[2] / ((n - 1) * (raters - 1)))


def _freedom(icc: float, n: int, raters: int, of_raters: float, of_error: float) -> float:
    """Return Satterthwaite's degrees of freedom of the denominator; NaN where all raters agree."""
    a, b = raters * icc * of_raters, (n * (1 - icc) + raters * icc * (n - 1)) * of_error
    spread = a**2 / (raters - 1) + b**2 / ((n - 1) * (raters - 1))
    return (a + b) ** 2 / spread if spread > 0 else math.nan


def agreement_of_scores(first: ArrayLike, second: ArrayLike, patients: ArrayLike, highest: int) -> Agreement:
    """Return how well two raters agree on scans.

    Where a patient has several scans, which are not independent, all intervals are bootstrapped by patient; those of
    kappa always are. These are of the two raters as they are; that of ICC by F allows for others in their stead, too.

    Args:
        first: (N,), whole numbers 0..highest; NaN where the rater gave none.
        second: (N,), of the same scans.
        patients: (N,), the patient of each scan.
        highest: The highest score of the scale.
    """
    judged = np.isfinite(np.asarray(first, float)) & np.isfinite(np.asarray(second, float))
    pairs, of_scan = whole_pairs(first, second), np.asarray(patients)[judged]
    distinct = len(np.unique(of_scan))

    def drawn(statistic: Callable[[Any], float], closed: Estimate | None = None) -> Estimate:
        if closed is not None and distinct == len(of_scan):
            return closed
        interval = clustered_bootstrap(pairs, of_scan, statistic)
        return Estimate(interval.value, interval.low, interval.high, interval.n)

    icc, (bias, lower, upper) = intraclass_correlation(pairs), bland_altman(first, second)
    return Agreement(
        drawn(lambda rows: weighted_kappa(rows[:, 0], rows[:, 1], highest, 1)),
        drawn(lambda rows: weighted_kappa(rows[:, 0], rows[:, 1], highest, 2)),
        drawn(lambda rows: intraclass_correlation(rows).value, icc),
        BlandAltman(
            drawn(lambda rows: _bound(rows, 0), bias),
            drawn(lambda rows: _bound(rows, -1), lower),
            drawn(lambda rows: _bound(rows, 1), upper),
        ),
        distinct,
    )
