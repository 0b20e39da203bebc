"""Densitometry: histograms of HU by region, and the density measures of one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Density = dict[str, float | None]
Histogram = npt.NDArray[np.int64]

LOWEST_HU, HIGHEST_HU = -1024, 3071
BINS = HIGHEST_HU - LOWEST_HU + 1
HU = np.arange(LOWEST_HU, HIGHEST_HU + 1)  # of each bin
# First HU of each band; it ends before the next one's. These are the limits of Lung CT Analyzer for 3D Slicer (Bumm et
# al., Diagnostics 12:1501, 2022), where the densest band is called "vessels".
BANDS = {"emphysema": LOWEST_HU, "inflated": -950, "infiltrated": -750, "collapsed": -400, "dense": 0}
# Low attenuation areas: emphysema in inspiration lies below (Gevenois et al., Am J Respir Crit Care Med 154:187, 1996).
LAA_BELOW_HU = -950
# High attenuation areas, both limits included (Lederer et al., Am J Respir Crit Care Med 180:407, 2009; Podolanczuk et
# al., Eur Respir J 48:1442, 2016).
HAA_HU = (-600, -250)
PERCENTILE = 15
AIR_HU = -1000  # a voxel of no mass
# The names of `density_of`, in order.
MEASURES = (
    *(f"{band}_percent" for band in BANDS),
    "haa_percent",
    "laa_950_percent",
    f"percentile_{PERCENTILE}_hu",
    "mean_hu",
    "sd_hu",
    "skewness",
    "kurtosis",
    "mass_g",
)


def histograms(
    hu: npt.NDArray[np.int16], regions: Iterable[npt.NDArray[np.signedinteger]], count: int
) -> npt.NDArray[np.int64]:
    """Count the voxels of every HU in every region, slice by slice: nothing of a scan's size is made.

    Args:
        hu: int16 (Z, Y, X). What lies beyond -1024 .. 3071 HU counts as the nearer of the two.
        regions: Z slices, integer (Y, X): the region of each voxel, 0 .. count - 1; below 0 where it is in none. An
            array (Z, Y, X) is such slices, too.
        count: Number of regions.

    Returns:
        int64 (count, BINS); column k is -1024 + k HU. Histograms of regions that share no voxel may be added.
    """
    table = np.zeros(count * BINS, dtype=np.int64)
    for plane, region in zip(hu, regions, strict=True):
        voxels = np.flatnonzero(region >= 0)  # `take` is faster than a mask as an index
        column = np.clip(plane.take(voxels), LOWEST_HU, HIGHEST_HU).astype(np.intp) - LOWEST_HU
        table += np.bincount(region.take(voxels).astype(np.intp) * BINS + column, minlength=count * BINS)
    return table.reshape(count, BINS)


def density_of(histogram: Histogram, voxel_ml: float | None) -> Density:
    """Measure the density of a region by its histogram.

    Args:
        histogram: int64 (BINS,), a row of `histograms`.
        voxel_ml: Volume of a voxel; None where the spacing is unknown.

    Returns:
        The `MEASURES` by name; all are None for an empty region.

        `emphysema_percent` (HU < -950), `inflated_percent` (-950 <= HU < -750), `infiltrated_percent` (-750 <= HU <
        -400), `collapsed_percent` (-400 <= HU < 0) and `dense_percent` (0 <= HU; vessels and denser) are shares of the
        region's volume, and sum to 100. So are `haa_percent` (-600 <= HU <= -250) and `laa_950_percent` (HU < -950: the
        emphysema band under the name that is cited). `percentile_15_hu` is the smallest HU at or below which 15 % of
        the voxels lie or more (Perc15, PD15). `mean_hu` and `sd_hu` (of the population, not of a sample) are moments
        of the HU, as are `skewness` and `kurtosis` (the excess: 0 for a normal distribution); these two are None where
        all voxels have one HU. `mass_g` is the sum of max(HU + 1000, 0) / 1000 g/ml over the voxels' volumes, None
        without `voxel_ml`.
    """
    total = int(histogram.sum())
    if not total:
        return dict.fromkeys(MEASURES)
    shares = [_percent(histogram, total, *limits) for limits in _limits()]
    # 15 * total / 100 voxels in whole numbers: no rounding decides.
    percentile = np.searchsorted(100 * histogram.cumsum(), PERCENTILE * total)
    grams_per_ml = np.maximum(HU - AIR_HU, 0) / 1000
    mass = None if voxel_ml is None else float(histogram @ grams_per_ml) * voxel_ml
    values = (*shares, float(HU[percentile]), *_moments(histogram, total), mass)
    return dict(zip(MEASURES, values, strict=True))


def _limits() -> list[tuple[int, int]]:
    """Return the first HU and the HU after the last of every share, in the order of `MEASURES`."""
    firsts = [*BANDS.values(), HIGHEST_HU + 1]
    return [*pairwise(firsts), (HAA_HU[0], HAA_HU[1] + 1), (LOWEST_HU, LAA_BELOW_HU)]


def _percent(histogram: Histogram, total: int, first: int, after: int) -> float:
    return 100 * int(histogram[first - LOWEST_HU : after - LOWEST_HU].sum()) / total


def _moments(histogram: Histogram, total: int) -> tuple[float, float, float | None, float | None]:
    """Return mean, standard deviation, skewness and excess kurtosis of a histogram that is not empty."""
    mean = int(histogram @ HU) / total
    if np.count_nonzero(histogram) == 1:
        return mean, 0.0, None, None
    away = HU - mean
    second, third, fourth = (float(histogram @ away**power) / total for power in (2, 3, 4))
    return mean, second**0.5, third / second**1.5, fourth / second**2 - 3
