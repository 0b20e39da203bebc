"""Intervals and tests behind the report's figures: pure functions, the statistics themselves from scipy.stats.

A patient may have several scans, so intervals over scans are bootstrapped by patient. NaN values are left out and
counted; a figure that too few values leave undefined is NaN.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from evaluation.run_data import Run
from metrics import overlap
from metrics.summary import tables_of
from pages.page import counted

Values = NDArray[np.float64]

LEVEL = 0.95
TO = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}"  # a narrow table breaks its lines before an interval, never in it
DRAWS = 2000
STEEPEST_GAMMA = 20.0  # TPR = FPR^20 is below 0.13 wherever FPR < 0.9: no detector
FEWEST = 2


class Correlation(NamedTuple):
    """Pearson's r with its interval by Fisher's transformation, its two-sided p, and the number of pairs."""

    r: float
    low: float
    high: float
    p: float
    n: int

    @property
    def text(self) -> str:
        """Its sentence in a figure, which says so where too few or equal pairs leave it undefined."""
        scans = counted(self.n, "scan")
        if math.isnan(self.r):
            return f"r is undefined for {scans}" + (" that do not differ" if self.n > FEWEST else "")
        interval = "" if math.isnan(self.low + self.high) else f" (95 % interval {self.low:.3f} to {self.high:.3f})"
        return f"r = {self.r:.3f}{interval}, n = {scans}"


class Interval(NamedTuple):
    """A figure with its percentile bootstrap interval.

    Attributes:
        value: Of all rows.
        low: Lower end; NaN with fewer than 2 clusters.
        high: Upper end.
        n: Rows.
        clusters: Distinct clusters, such as patients.
        undefined: Draws left out because the figure is NaN in them.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int
    undefined: int = 0


class RankTest(NamedTuple):
    """Mann-Whitney's U of the first sample, its two-sided p, and U as a share of the pairs: the area under the ROC."""

    u: float
    p: float
    auc: float


class Paired(NamedTuple):
    """Two methods on the same scans.

    Attributes:
        mean_difference: First minus second.
        low: Lower end of its interval, bootstrapped by patient.
        high: Upper end.
        wilcoxon_p: Two-sided p of Wilcoxon's signed-rank test; 1 where nothing differs.
        n: Scans compared.
        left_out: Scans left out because either value is NaN.
    """

    mean_difference: float
    low: float
    high: float
    wilcoxon_p: float
    n: int
    left_out: int


def between(value: float, low: float, high: float, form: str = ".3f", unit: str = "") -> str:
    """Write a figure with its interval: "0.812 (0.701 to 0.903)"; "0.812" without one, "-" where it is undefined."""
    if math.isnan(value):
        return "-"
    return f"{value:{form}}{unit}" + ("" if math.isnan(low + high) else f" ({low:{form}}{TO}{high:{form}})")


def pearson_interval(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Correlation:
    """Return Pearson's r over the pairs without NaN.

    All is NaN where either side does not vary, and for 2 pairs, which are a line; for 3 pairs the interval is.
    """
    pairs = whole_pairs(x, y)
    if len(pairs) <= FEWEST or (np.ptp(pairs, axis=0) == 0).any():
        return Correlation(np.nan, np.nan, np.nan, np.nan, len(pairs))
    result = stats.pearsonr(pairs[:, 0], pairs[:, 1])
    # Fisher's transformation has a standard error of 1 / sqrt(n - 3).
    low, high = result.confidence_interval(level) if len(pairs) > 3 else (np.nan, np.nan)
    return Correlation(float(result.statistic), float(low), float(high), float(result.pvalue), len(pairs))


def whole_pairs(x: ArrayLike, y: ArrayLike) -> Values:
    """Return the pairs without NaN, (n, 2)."""
    pairs = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    return pairs[np.isfinite(pairs).all(1)]


def draw_clusters(clusters: int, draws: int, seed: int) -> NDArray[np.int64]:
    """Draw with replacement as many clusters as there are; return how often each was drawn, int64 (draws, clusters)."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), draws)


def percentile_interval(drawn: Values) -> tuple[Values, Values, NDArray[np.int64]]:
    """Return the ends of the interval of figures (draws, ...), and how many draws of each were left out as NaN."""
    undefined = np.isnan(drawn).sum(0)
    low, high = np.full((2, *drawn.shape[1:]), np.nan)
    defined = undefined < len(drawn)
    if defined.any():
        low[defined], high[defined] = np.nanquantile(drawn[:, defined], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high, undefined


def clustered_bootstrap(
    values: NDArray[np.generic],
    clusters: ArrayLike,
    statistic: Callable[[NDArray[np.generic]], float],
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Bootstrap a statistic over rows that come in clusters (patients), drawn whole with replacement.

    Args:
        values: (N, ...), a row per scan.
        clusters: (N,), the patient of each.
        statistic: Function of stacked rows (n, ...); may be NaN.
        draws: Resamples.
        seed: Of the resampling.
    """
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    value = float(statistic(values)) if len(values) else np.nan
    if len(names) < FEWEST:
        return Interval(value, np.nan, np.nan, len(values), len(names))
    rows, counts = np.arange(len(values)), draw_clusters(len(names), draws, seed)
    figures = np.array([statistic(values[np.repeat(rows, count[cluster])]) for count in counts], float)
    low, high, undefined = percentile_interval(figures[:, None])
    return Interval(value, float(low[0]), float(high[0]), len(values), len(names), int(undefined[0]))


def fit_gamma(tpr: ArrayLike, fpr: ArrayLike) -> float:
    """Fit gamma of TPR = FPR^gamma by least squares in linear space (paper EM, Figure 4); NaN without any point.

    Args:
        tpr: True positive rates in [0, 1].
        fpr: False positive rates in [0, 1]; points with a NaN are left out.
    """
    points = whole_pairs(tpr, fpr)
    if not len(points):
        return np.nan

    def residual(gamma: float) -> float:
        return float(((points[:, 0] - points[:, 1] ** gamma) ** 2).sum())

    # The sum of squares may have several minima, so the lowest of a fine grid is refined.
    grid = np.geomspace(1e-4, STEEPEST_GAMMA, 400)
    best = int(np.argmin([residual(gamma) for gamma in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(optimize.minimize_scalar(residual, bounds=around, method="bounded", options={"xatol": 1e-9}).x)


def mann_whitney(a: ArrayLike, b: ArrayLike) -> RankTest:
    """Test whether a tends to be larger than b, two-sided, NaN left out; all NaN where either sample is empty."""
    first, second = (values[np.isfinite(values)] for values in (np.asarray(a, float), np.asarray(b, float)))
    if not len(first) or not len(second):
        return RankTest(np.nan, np.nan, np.nan)
    u, p = stats.mannwhitneyu(first, second, alternative="two-sided")
    return RankTest(float(u), float(p), float(u / (len(first) * len(second))))


def paired_comparison(a: ArrayLike, b: ArrayLike, patients: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Paired:
    """Compare two methods on the same scans: mean of a - b with its interval by patient, and Wilcoxon's test.

    Args:
        a: (N,), one value per scan; a pair with a NaN is left out and counted.
        b: (N,), of the same scans.
        patients: (N,), the patient of each scan.
        draws: Resamples of the interval.
        seed: Of the resampling.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    defined = np.isfinite(difference)
    difference = difference[defined]
    interval = clustered_bootstrap(difference, np.asarray(patients)[defined], mean, draws, seed)
    p = np.nan
    if len(difference):
        p = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
    return Paired(interval.value, interval.low, interval.high, p, len(difference), int((~defined).sum()))


def mean(values: NDArray[np.generic]) -> float:
    """Return the mean of rows, a statistic for `clustered_bootstrap`."""
    return float(values.astype(float).mean())


def per_site_table(run: Run, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Return every overlap figure over all scans and for each site, with the interval bootstrapped by patient.

    Args:
        run: A run with masks.
        draws: Resamples.
        seed: Of the resampling.

    Returns:
        Columns site ("all" or a site), finding, figure (dice_mean: over the scans that have the finding; dice_pooled,
        iou_pooled, relative_volume, tpr, fpr: of one table over all scans), value, low, high, scans (behind the
        figure), patients (theirs). The values are those of metrics.json.

    Raises:
        ValueError: The run has no masks.
    """
    return overlap_table(run.scans.assign(patient=run.patients), run.findings, draws, seed)


def overlap_table(scans: pd.DataFrame, findings: Sequence[str], draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Return the table of `per_site_table` from rows of scans.csv with a column `patient`: who is drawn whole."""
    rows: list[dict[str, object]] = []
    for site in ["all", *sorted(scans["site"].unique())]:
        at_site = scans if site == "all" else scans[scans["site"] == site]
        for finding in findings:
            rows += [{"site": site, "finding": finding, **row} for row in _site_figures(at_site, finding, draws, seed)]
    return pd.DataFrame(rows)


def _site_figures(scans: pd.DataFrame, finding: str, draws: int, seed: int) -> Iterator[dict[str, object]]:
    tables = tables_of(scans, finding)
    dice, patients = overlap.dice(tables), scans["patient"].to_numpy()
    positive = np.isfinite(dice)
    sums = np.column_stack([dice[positive], np.ones(positive.sum())])
    yield from _bootstrapped(sums, patients[positive], {"dice_mean": _mean_of_sums}, draws, seed)
    labelled = tables.sum((1, 2)) > 0
    yield from _bootstrapped(tables[labelled], patients[labelled], overlap.POOLED, draws, seed)


def _mean_of_sums(sums: Values) -> Values:
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def _bootstrapped(
    addends: Values, patients: ArrayLike, figures: Mapping[str, Callable[..., Values]], draws: int, seed: int
) -> Iterator[dict[str, object]]:
    """Yield rows of figures of sums over scans: the intervals of `clustered_bootstrap`, all draws in one product."""
    names, cluster = np.unique(np.asarray(patients, str), return_inverse=True)
    sums = np.zeros((len(names), *addends.shape[1:]), addends.dtype)
    np.add.at(sums, cluster, addends)
    enough = len(names) >= FEWEST
    resampled = np.tensordot(draw_clusters(len(names), draws, seed), sums, 1) if enough else sums[:0]
    for name, figure in figures.items():
        low, high, _ = percentile_interval(figure(resampled)[:, None])
        interval = {"value": float(figure(sums.sum(0))), "low": low[0], "high": high[0]}
        yield {"figure": name, **interval, "scans": len(addends), "patients": len(names)}
