import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from run_harness import write_run
from scipy import stats
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from evaluation.run_data import read_run
from evaluation.statistics import (
    clustered_bootstrap,
    fit_gamma,
    mann_whitney,
    paired_comparison,
    pearson_interval,
    per_site_table,
)
from metrics.overlap import POOLED, Figure, Table, table_of_counts


def mean(values: NDArray[Any]) -> float:
    return float(values.mean())


NAN = float("nan")


# -- correlation -------------------------------------------------------------------------------------------------------


def test_pearson_has_fishers_interval() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=17)
    y = x + rng.normal(size=17)
    result = pearson_interval([*x, NAN, 3.0], [*y, 1.0, NAN], 0.9)
    r = np.corrcoef(x, y)[0, 1]
    half = stats.norm.ppf(0.95) / np.sqrt(17 - 3)
    t = r * np.sqrt(15 / (1 - r**2))
    expected = (r, np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half), 2 * stats.t.sf(abs(t), 15), 17)
    assert result == pytest.approx(expected)
    assert result.low < result.r < result.high


@pytest.mark.parametrize(("x", "y"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1], [2]), ([NAN], [NAN])])
def test_pearson_of_what_does_not_vary_is_nan(x: list[float], y: list[float]) -> None:
    result = pearson_interval(x, y)
    assert np.isnan(result[:4]).all()
    assert result.n == np.isfinite(x).sum()


# -- bootstrap ---------------------------------------------------------------------------------------------------------


def test_bootstrap_over_single_scans_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=40)
    result = clustered_bootstrap(values, np.arange(40), mean, draws=4000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert (result.n, result.clusters, result.undefined) == (40, 40, 0)
    assert result.value == pytest.approx(values.mean())
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=0.03)


def test_scans_of_a_patient_are_drawn_together() -> None:
    # Ten equal scans per patient say no more than one: the interval is that of the patients' means.
    means = np.random.default_rng(3).normal(size=12)
    values, patients = np.repeat(means, 10), np.repeat([f"p{k}" for k in range(12)], 10)
    shuffled = np.random.default_rng(4).permutation(120)
    result = clustered_bootstrap(values[shuffled], patients[shuffled], mean)
    one_each = clustered_bootstrap(means, np.array([f"p{k}" for k in range(12)]), mean)
    assert (result.low, result.high) == pytest.approx((one_each.low, one_each.high))
    assert (result.n, result.clusters) == (120, 12)
    as_if_independent = clustered_bootstrap(values, np.arange(120), mean)
    assert result.high - result.low > 2.5 * (as_if_independent.high - as_if_independent.low)


def test_patients_with_more_scans_weigh_more() -> None:
    # Two patients, 1 and 3 scans: a draw is (1, 1), (2, 0) or (0, 2), with means 3/4, 0 and 1.
    values, patients = np.array([0.0, 1, 1, 1]), ["a", "b", "b", "b"]
    seen: set[float] = set()

    def observed(rows: NDArray[Any]) -> float:
        seen.add(mean(rows))
        return mean(rows)

    clustered_bootstrap(values, patients, observed)
    assert seen == {0.0, 0.75, 1.0}


def test_draws_without_the_finding_are_left_out_and_counted() -> None:
    # tp, fn per scan; in about a quarter of the draws nobody has the finding.
    counts, patients = np.array([[4, 4], [0, 0]]), ["a", "b"]

    def sensitivity(rows: np.ndarray) -> float:
        tp, fn = rows.sum(0)
        return tp / (tp + fn) if tp + fn else NAN

    result = clustered_bootstrap(counts, patients, sensitivity, draws=1000)
    assert (result.value, result.low, result.high) == (0.5, 0.5, 0.5)
    assert 200 < result.undefined < 300


def test_one_patient_or_none_has_no_interval() -> None:
    single = clustered_bootstrap(np.array([1.0, 3.0]), ["p", "p"], mean)
    assert (single.value, single.n, single.clusters) == (2, 2, 1)
    assert np.isnan([single.low, single.high]).all()
    empty = clustered_bootstrap(np.empty(0), [], mean)
    assert np.isnan([empty.value, empty.low, empty.high]).all()
    assert (empty.n, empty.clusters) == (0, 0)


# -- curves and tests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.05, 0.3, 1.0, 4.0])
def test_gamma_of_a_curve_is_found_again(gamma: float) -> None:
    fpr = np.linspace(0.001, 0.6, 9)
    assert fit_gamma([*fpr**gamma, NAN, 0.5], [*fpr, 0.2, NAN]) == pytest.approx(gamma, rel=1e-5)


def test_gamma_is_least_squares_in_linear_space() -> None:
    rng = np.random.default_rng(5)
    fpr = rng.uniform(0.001, 0.1, 12)
    tpr = np.clip(fpr**0.2 + rng.normal(scale=0.1, size=12), 0, 1)
    grid = np.linspace(0.01, 1, 20_000)
    squares = ((tpr - fpr ** grid[:, None]) ** 2).sum(1)
    assert fit_gamma(tpr, fpr) == pytest.approx(grid[squares.argmin()], abs=1e-4)
    assert np.isnan(fit_gamma([], []))


def test_mann_whitney_is_the_area_under_the_roc() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.7, size=14).round(1), rng.normal(size=11).round(1)
    result = mann_whitney([*a, NAN], b)
    assert result.auc == pytest.approx(roc_auc_score([1] * 14 + [0] * 11, [*a, *b]))
    wins = (a[:, None] > b).sum() + 0.5 * (a[:, None] == b).sum()
    assert result.u == wins
    assert 0 < result.p < 0.5
    # Complete separation of 3 and 3: 2 of the 20 arrangements are as extreme.
    assert mann_whitney([4, 5, 6], [1, 2, 3]) == pytest.approx((9, 0.1, 1))
    assert np.isnan(mann_whitney([], b)).all()


def test_paired_comparison_by_hand() -> None:
    a = np.array([0.5, 0.6, 0.7, 0.8, 0.9, NAN, 0.4])
    b = np.array([0.4, 0.4, 0.4, 0.4, 0.4, 0.4, NAN])
    patients = ["a", "b", "c", "d", "e", "f", "g"]
    result = paired_comparison(a, b, patients)
    assert result.mean_difference == pytest.approx(0.3)
    assert (result.n, result.left_out) == (5, 2)
    # All five differences are positive: both tails of 2^-5.
    assert result.wilcoxon_p == pytest.approx(2 / 32)
    assert 0.1 < result.low < 0.3 < result.high < 0.5
    swapped = paired_comparison(b, a, patients)
    assert (swapped.mean_difference, swapped.wilcoxon_p) == pytest.approx((-0.3, 2 / 32))


def test_methods_that_do_not_differ_have_p_1() -> None:
    result = paired_comparison([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], ["a", "b", "b"])
    assert result == (0, 0, 0, 1, 3, 0)


def test_nothing_in_common_is_nan_and_counted() -> None:
    result = paired_comparison([NAN, 1.0], [1.0, NAN], ["a", "b"])
    assert np.isnan(result[:4]).all()
    assert (result.n, result.left_out) == (0, 2)


# -- the table of a run ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def table(folder: Path) -> pd.DataFrame:
    return per_site_table(read_run(folder)).set_index(["site", "finding", "figure"]).sort_index()


def test_values_agree_with_scikit_learn(folder: Path, table: pd.DataFrame) -> None:
    run = read_run(folder)
    for site, scans in (("all", "abcd"), ("A", "a"), ("B", "bcd")):
        for finding in run.findings:
            pairs = [run.pair(scan, finding) for scan in scans]
            labelled = [
                (truth[truth >= 0], prediction[truth >= 0]) for truth, prediction in pairs if (truth >= 0).any()
            ]
            truth, prediction = (np.concatenate(part) for part in zip(*labelled, strict=True))
            values = table["value"].loc[site, finding]
            assert values["dice_mean"] == pytest.approx(np.mean([f1_score(*pair) for pair in labelled]))
            assert values["dice_pooled"] == pytest.approx(f1_score(truth, prediction))
            assert values["iou_pooled"] == pytest.approx(jaccard_score(truth, prediction))
            assert values["relative_volume"] == pytest.approx(prediction.sum() / truth.sum())
            assert values["tpr"] == pytest.approx(prediction[truth == 1].mean())
            assert values["fpr"] == pytest.approx(prediction[truth == 0].mean())


def test_n_counts_the_scans_and_patients_behind_each_figure(table: pd.DataFrame) -> None:
    n = {key: tuple(row) for key, row in table[["scans", "patients"]].iterrows()}
    assert n["all", "infection", "dice_mean"] == (4, 3)
    # Scan d has no mask of consolidation.
    assert n["all", "consolidation", "dice_mean"] == n["all", "consolidation", "tpr"] == (3, 2)
    assert n["B", "infection", "iou_pooled"] == (3, 2)
    assert n["A", "threshold", "fpr"] == (1, 1)


def pooled(figure: Callable[[Table], Figure], counts: NDArray[Any]) -> float:
    return float(figure(table_of_counts(counts.sum(0))))


def test_intervals_are_those_of_the_bootstrap_by_patient(folder: Path, table: pd.DataFrame) -> None:
    run = read_run(folder)
    counts = run.scans[[f"infection_{name}" for name in ("tp", "fp", "fn", "tn")]].to_numpy()
    for name, figure in POOLED.items():
        result = clustered_bootstrap(counts, run.patients, partial(pooled, figure))
        row = table.xs(("all", "infection", name))
        assert (row["value"], row["low"], row["high"]) == pytest.approx(result[:3])
        assert row["low"] < row["value"] < row["high"]
    result = clustered_bootstrap(run.scans["infection_dice"].to_numpy(), run.patients, mean)
    row = table.xs(("all", "infection", "dice_mean"))
    assert (row["value"], row["low"], row["high"]) == pytest.approx(result[:3])
    assert table.loc["A", ["low", "high"]].isna().to_numpy().all()  # one patient


def test_a_finding_that_no_scan_has_is_nan(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    scans = pd.read_csv(folder / "scans.csv")
    scans[["infection_tp", "infection_fn"]] = 0
    scans.assign(infection_dice=np.nan).to_csv(tmp_path / "run" / "scans.csv", index=False)
    table = per_site_table(read_run(tmp_path / "run")).set_index(["site", "finding", "figure"]).sort_index()
    rows = table.loc[("all", "infection"), :]
    assert rows.drop("fpr")[["value", "low", "high"]].isna().to_numpy().all()
    assert (rows.loc["dice_mean", "scans"], rows.loc["tpr", "scans"]) == (0, 4)
    assert 0 < rows["low"]["fpr"] < rows["value"]["fpr"]
