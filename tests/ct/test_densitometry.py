"""Density measures against the voxels themselves and against closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ct.densitometry import BANDS, BINS, HIGHEST_HU, LOWEST_HU, MEASURES, Density, density_of, histograms


def measured(hu: NDArray[np.int16], voxel_ml: float | None = 0.001) -> Density:
    """Measure the voxels of an array."""
    planes = hu.reshape(1, 1, -1)
    return density_of(histograms(planes, np.zeros(planes.shape, np.int8), 1)[0], voxel_ml)


def lung_like(seed: int, count: int = 5001) -> NDArray[np.int16]:
    """Return HU of aerated lung, holes, opacity and vessels, with both limits of every interval."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(mean, sd, count) for mean, sd in ((-860, 40), (-970, 15), (-500, 150), (20, 60))]
    limits = [limit + by for limit in (-950, -750, -600, -400, -250, 0) for by in (-1, 0, 1)]
    hu: NDArray[np.int16] = np.clip(np.concatenate([*parts, limits]), LOWEST_HU, HIGHEST_HU).astype(np.int16)
    return hu


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_the_voxels(seed: int) -> None:
    hu = lung_like(seed)
    expected = {
        "emphysema_percent": 100 * np.mean(hu < -950),
        "inflated_percent": 100 * np.mean((hu >= -950) & (hu < -750)),
        "infiltrated_percent": 100 * np.mean((hu >= -750) & (hu < -400)),
        "collapsed_percent": 100 * np.mean((hu >= -400) & (hu < 0)),
        "dense_percent": 100 * np.mean(hu >= 0),
        "haa_percent": 100 * np.mean((hu >= -600) & (hu <= -250)),
        "laa_950_percent": 100 * np.mean(hu < -950),
        "percentile_15_hu": np.percentile(hu, 15, method="inverted_cdf"),
        "mean_hu": hu.mean(),
        "sd_hu": hu.std(),
        "skewness": stats.skew(hu.astype(float)),
        "kurtosis": stats.kurtosis(hu.astype(float)),
        "mass_g": np.maximum(hu.astype(float) + 1000, 0).sum() / 1000 * 0.3,
    }
    assert measured(hu, 0.3) == pytest.approx(expected, rel=1e-9)
    assert tuple(measured(hu)) == MEASURES


@pytest.mark.parametrize("count", [1, 3, 7, 19, 20, 100, 101])
def test_the_percentile_is_the_first_hu_that_has_enough_voxels_at_or_below(count: int) -> None:
    hu = np.random.default_rng(count).integers(-1000, 0, count).astype(np.int16)
    enough = [value for value in np.sort(hu) if np.count_nonzero(hu <= value) * 100 >= 15 * count]
    assert measured(hu)["percentile_15_hu"] == enough[0]


def test_a_normal_distribution_has_its_closed_form() -> None:
    mean, sd, count = -850.0, 40.0, 400_000
    quantiles = stats.norm.ppf((np.arange(count) + 0.5) / count, mean, sd)
    density = measured(np.rint(quantiles).astype(np.int16))
    assert density["mean_hu"] == pytest.approx(mean, abs=0.01)
    assert density["sd_hu"] == pytest.approx(np.sqrt(sd**2 + 1 / 12), rel=1e-3)  # rounding adds a twelfth
    assert density["skewness"] == pytest.approx(0, abs=1e-3)
    assert density["kurtosis"] == pytest.approx(0, abs=0.01)
    assert density["percentile_15_hu"] == pytest.approx(mean - 1.0364 * sd, abs=1)
    assert density["laa_950_percent"] == pytest.approx(100 * stats.norm.cdf(-950.5, mean, sd), rel=0.01)


def test_a_mixture_of_two_values_has_its_closed_form() -> None:
    hu = np.repeat(np.array([-900, 40], np.int16), [700, 300])
    density = measured(hu, 2.0)
    assert (density["inflated_percent"], density["dense_percent"]) == (70, 30)
    assert density["mean_hu"] == pytest.approx(0.7 * -900 + 0.3 * 40)
    assert density["sd_hu"] == pytest.approx(940 * np.sqrt(0.21))
    assert density["skewness"] == pytest.approx(0.4 / np.sqrt(0.21))  # (1 - 2 p) / sqrt(p (1 - p)) of Bernoulli
    assert density["kurtosis"] == pytest.approx((1 - 6 * 0.21) / 0.21)
    assert density["mass_g"] == pytest.approx(2 * (700 * 0.1 + 300 * 1.04))


@pytest.mark.parametrize("hu", [np.arange(-1024, 3072, dtype=np.int16), lung_like(5), np.array([-950, -750, -400, 0])])
def test_bands_sum_to_the_whole(hu: NDArray[np.int16]) -> None:
    density = measured(hu.astype(np.int16))
    assert sum(density[f"{band}_percent"] or 0 for band in BANDS) == pytest.approx(100, abs=1e-12)


def test_what_is_undefined_is_none_and_nothing_is_nan() -> None:
    empty = density_of(np.zeros(BINS, np.int64), 0.1)
    assert set(empty.values()) == {None}
    even = measured(np.full(9, -871, np.int16), None)
    assert (even["mean_hu"], even["sd_hu"], even["percentile_15_hu"]) == (-871, 0, -871)
    assert (even["skewness"], even["kurtosis"], even["mass_g"]) == (None, None, None)
    assert measured(np.full(9, -1010, np.int16))["mass_g"] == 0


def test_a_region_of_a_thousand_million_voxels_keeps_its_digits() -> None:
    histogram = np.zeros(BINS, np.int64)
    histogram[[100, 101]] = 10**9
    density = density_of(histogram, 1e-3)
    assert density["sd_hu"] == pytest.approx(0.5, rel=1e-12)
    assert density["kurtosis"] == pytest.approx(-2, rel=1e-12)
    assert density["percentile_15_hu"] == LOWEST_HU + 100


def test_histograms_count_each_region_and_leave_the_rest_out() -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-2000, 4000, (5, 7, 9)).astype(np.int16)
    regions = rng.integers(-1, 4, hu.shape).astype(np.int8)
    table = histograms(hu, regions, 4)
    assert table.shape == (4, BINS)
    assert table.dtype == np.int64
    for number, row in enumerate(table):
        values, counts = np.unique(np.clip(hu[regions == number], LOWEST_HU, HIGHEST_HU), return_counts=True)
        np.testing.assert_array_equal(np.flatnonzero(row) + LOWEST_HU, values)
        np.testing.assert_array_equal(row[row > 0], counts)
