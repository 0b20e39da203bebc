"""Windows of 8-bit slices of the chest, estimated from their tissues: the HU for which grey 0 and grey 255 stand.

Publishers of slice images rarely say how they turned HU into grey values, and some did it image by image. What they
cannot change is what a chest is made of: air, aerated lung, fat and muscle, whose HU differ little between patients.
The histogram of a slice, inside the hull of the lungs and outside of it, is explained as a mixture of these tissues
seen through a window; the window that explains it best, with shares of tissues as a chest has them, is the estimate.

A window turns HU into grey values in equal steps. Where the contrast was enhanced place by place (CLAHE), no window
does, and the estimate is less certain than it says: docs/data.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtr

from ct.grey_regions import otsu_threshold, split_by_hull
from ct.grey_window import GREYS, JUDGED_HU, GreyWindow
from ct.refusal import Refusal

Array = npt.NDArray[np.float64]
FloatTable = npt.NDArray[np.float32]


class Tissue(NamedTuple):
    """A tissue of the chest.

    Attributes:
        mean_hu: Its mean HU.
        spread_hu: How far these spread, within patients and between them.
        inside: Its share of the hull of the lungs, about.
        outside: Its share of the rest of a slice.
    """

    mean_hu: float
    spread_hu: float
    inside: float
    outside: float


# Modes in six real volumes: lung -855 to -958 HU, fat -81 to -111, muscle 37 to 46; the rest as textbooks give it.
TISSUES = (
    Tissue(-1000, 12, 0.02, 0.30),  # air
    Tissue(-935, 20, 0.10, 0.01),  # inflated lung
    Tissue(-885, 25, 0.30, 0.01),  # lung
    Tissue(-835, 25, 0.10, 0.01),  # lung less aerated
    Tissue(-760, 60, 0.05, 0.02),  # dense lung
    Tissue(-620, 80, 0.04, 0.02),  # ground glass
    Tissue(-450, 100, 0.04, 0.02),  # denser ground glass
    Tissue(-250, 100, 0.04, 0.02),  # consolidation, vessels and borders
    Tissue(-103, 18, 0.06, 0.25),  # fat
    Tissue(40, 20, 0.22, 0.30),  # muscle and blood
    # Bone. Blood with contrast medium has no place of its own: with one, muscle of plain scans is taken for it.
    Tissue(350, 200, 0.05, 0.05),
)
# Noise of a smoothed image, in greys: what is measured counts as the nearest of these.
NOISES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# Weight of the usual shares against those of the image, and of both regions in the verdict.
PRIOR_WEIGHTS, REGION_WEIGHTS = (0.6, 0.4), (0.7, 0.3)
# Windows that are tried: HU of grey 0 and of grey 255, first in large steps and then around the best in small ones.
LOWS_HU, HIGHS_HU = np.arange(-1500.0, -839.0, 30.0), np.arange(60.0, 1561.0, 50.0)
FINE_STEPS, FINE_LOW_HU, FINE_HIGH_HU = np.arange(-5.0, 6.0), 6.0, 10.0
# Nothing is darker than air, but for noise and ringing: so many of the pixels inside may be darker than so many HU,
# less so many standard deviations of the noise, which is as much as it darkens that share of them; and what each HU
# beyond costs (nats a pixel).
DARKEST_SHARE, DARKEST_HU, DARKEST_NOISE, BELOW_AIR_COST = 0.002, -1050.0, 2.9, 0.01
# Share of pixels that no tissue explains: writing on the image, rings of sharpening.
UNEXPLAINED = 1e-4
EM_STEPS = 10
# Columns of the histogram: two grey values each, since finer ones say no more; and one at either end for what is cut
# off by the window, which smoothing and JPEG spread over some grey values.
EDGES = np.arange(8, GREYS - 7, 2) - 0.5
COLUMN_OF_GREY = np.searchsorted(EDGES, np.arange(GREYS))
COLUMNS = len(EDGES) + 1
LEAST_GREYS = 16
LEAST_OUTSIDE = 0.05
# Neighbouring pixels say the same: so many independent ones count of an image. And however clear an image is, its
# patient's tissues differ from other patients' by so much.
INDEPENDENT, BETWEEN_PATIENTS_HU = 100.0, 30.0
MOST_SLICES = 24
# Of the estimates: raised when they change, so that scans are prepared again.
ESTIMATE_VERSION = 2


class _Slice(NamedTuple):
    """What an estimate knows of a slice.

    Attributes:
        inside: (C,) shares of pixels in the columns of the histogram, inside the hull of the lungs; None without lungs.
        outside: The same of the rest; None where there is hardly any.
        noise: Standard deviation of the smoothed image's noise in greys, one of `NOISES`.
        darkest: Grey below which `DARKEST_SHARE` of the pixels inside are; NaN without lungs.
    """

    inside: FloatTable | None
    outside: FloatTable | None
    noise: float
    darkest: float


def estimate_window(image: npt.NDArray[np.uint8]) -> GreyWindow:
    """Estimate the window of a slice of the chest.

    Args:
        image: uint8 (Y, X); any orientation, cropped to the lungs or not.

    Returns:
        The most probable window of those from -1530 to 1610 HU, and how sure it is.

    Raises:
        ValueError: The image has fewer than `LEAST_GREYS` grey values.
    """
    return _estimate([_look_at(image)])


def estimate_common_window(images: Sequence[npt.NDArray[np.uint8]]) -> GreyWindow:
    """Estimate the window that all slices of a volume share.

    Slices in which lungs are found decide, where there are any; blank ones, as at the ends of some volumes, do not.

    Args:
        images: uint8 (Y, X) each, see `evenly_spread`.

    Raises:
        ValueError: All of them have fewer than `LEAST_GREYS` grey values.
    """
    telling = [image for image in images if _count_greys(image) >= LEAST_GREYS]
    slices = [_look_at(image) for image in telling or images[:1]]
    return _estimate([each for each in slices if each.inside is not None] or slices)


def evenly_spread(slices: int) -> list[int]:
    """Return the numbers of the slices of a volume by which its window is estimated, `MOST_SLICES` at most."""
    return sorted(set(np.linspace(0, slices - 1, MOST_SLICES).round().astype(int).tolist()))


def _count_greys(image: npt.NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(np.bincount(image.ravel(), minlength=GREYS)))


def _look_at(image: npt.NDArray[np.uint8]) -> _Slice:
    present = _count_greys(image)
    if present < LEAST_GREYS:
        raise Refusal(
            "the image has {present} grey values; expected {least} at least, as a slice of the chest has in which HU "
            "can be told by its tissues; a mask or a blank image has fewer: remove it, or declare grey_low_hu and "
            "grey_high_hu",
            present=present,
            least=LEAST_GREYS,
        )
    smooth = ndimage.median_filter(image, 3)
    inside, outside = split_by_hull(smooth)
    least = LEAST_OUTSIDE * (len(inside) + len(outside))
    noise = min(NOISES, key=lambda level: abs(np.log(level / max(measure_noise(smooth), NOISES[0]))))
    darkest = float(np.quantile(inside, DARKEST_SHARE)) if len(inside) else np.nan
    return _Slice(_shares(inside), _shares(outside) if len(outside) > least else None, noise, darkest)


def measure_noise(image: npt.NDArray[np.uint8]) -> float:
    """Return the standard deviation of the noise in soft tissue, in greys, from pixels two apart.

    Args:
        image: uint8 (Y, X).
    """
    bright = (image > otsu_threshold(np.bincount(image.ravel(), minlength=GREYS))) & (image < EDGES[-1])
    values = image.astype(np.int16)
    pairs = [
        np.abs(values[2:] - values[:-2])[bright[2:] & bright[:-2]],
        np.abs(values[:, 2:] - values[:, :-2])[bright[:, 2:] & bright[:, :-2]],
    ]
    steps = np.concatenate(pairs)
    # Of normal noise, half of the steps are below 0.6745 of their standard deviation, which is sqrt(2) that of a pixel;
    # whole numbers are spread over the step to the next one.
    return float((np.median(steps) + 0.25) / (0.6745 * np.sqrt(2))) if steps.size else NOISES[0]


def _shares(greys: npt.NDArray[np.uint8]) -> FloatTable | None:
    if not len(greys):
        return None
    counts = np.bincount(COLUMN_OF_GREY[greys], minlength=COLUMNS)
    return (counts / counts.sum()).astype(np.float32)


def _estimate(slices: Sequence[_Slice]) -> GreyWindow:
    lows, highs = _pairs(LOWS_HU, HIGHS_HU)
    coarse = np.mean([_log_posterior(each, lows, highs, _coarse_table(each.noise)) for each in slices], axis=0)
    best = int(coarse.argmax())
    near_lows, near_highs = _pairs(lows[best] + FINE_LOW_HU * FINE_STEPS, highs[best] + FINE_HIGH_HU * FINE_STEPS)
    tables = {noise: tissue_table(near_lows, near_highs, noise) for noise in {each.noise for each in slices}}
    near = np.mean([_log_posterior(each, near_lows, near_highs, tables[each.noise]) for each in slices], axis=0)
    low, high = float(near_lows[near.argmax()]), float(near_highs[near.argmax()])
    return GreyWindow(low, high, _error_hu(coarse, lows, highs, low, high))


def _pairs(lows: Array, highs: Array) -> tuple[Array, Array]:
    """Return every pair of a low and a high, (N,) each."""
    return np.repeat(lows, len(highs)), np.tile(highs, len(lows))


@cache
def _coarse_table(noise: float) -> FloatTable:
    return tissue_table(*_pairs(LOWS_HU, HIGHS_HU), noise)


def tissue_table(lows: Array, highs: Array, noise: float) -> FloatTable:
    """Return how each tissue's pixels spread over the columns of a histogram, through each window.

    Args:
        lows: (N,) HU of grey 0.
        highs: (N,) HU of grey 255.
        noise: Standard deviation of the image's noise in greys.

    Returns:
        float32 (N, K, C), which sums to 1 over the columns; what lies beyond the window is in the first or the last.
    """
    mean_hu, spread_hu = (np.array(values)[:, None] for values in list(zip(*TISSUES, strict=True))[:2])
    slope = ((highs - lows) / (GREYS - 1))[:, None, None]
    edges_hu = lows[:, None, None] + slope * EDGES
    below = np.empty((len(lows), len(TISSUES), COLUMNS + 1), dtype=np.float32)
    below[..., 0], below[..., -1] = 0, 1
    below[..., 1:-1] = ndtr((edges_hu - mean_hu) / np.hypot(spread_hu, slope * noise))
    return np.diff(below, axis=-1)


def _log_posterior(look: _Slice, lows: Array, highs: Array, table: FloatTable) -> Array:
    """Return (N,) how probable each window is, nats a pixel up to a constant."""
    step_hu = (highs - lows) / (GREYS - 1)
    below_hu = DARKEST_HU - (lows + step_hu * (look.darkest + DARKEST_NOISE * look.noise))
    total = -BELOW_AIR_COST * np.fmax(below_hu, 0)  # 0 for NaN
    regions = zip((look.inside, look.outside), _usual_shares(), PRIOR_WEIGHTS, REGION_WEIGHTS, strict=True)
    for shares, usual, prior_weight, weight in regions:
        if shares is not None:
            total += weight * fit_mixture(shares, table, usual, prior_weight)[0]
    return total


@cache
def _usual_shares() -> tuple[FloatTable, FloatTable]:
    inside, outside = (np.array(values, dtype=np.float32) for values in list(zip(*TISSUES, strict=True))[2:])
    return inside / inside.sum(), outside / outside.sum()


def fit_mixture(
    shares: FloatTable, table: FloatTable, usual: FloatTable, prior_weight: float
) -> tuple[Array, FloatTable]:
    """Explain a histogram as a mixture of tissues, by expectation maximisation under a Dirichlet prior.

    Args:
        shares: (C,) of pixels in each column, sum 1.
        table: (N, K, C), see `tissue_table`.
        usual: (K,) usual shares of the tissues, sum 1.
        prior_weight: What the prior counts, in images.

    Returns:
        (N,) mean log likelihood of a pixel plus prior_weight times the sum of usual log(share / usual), and the shares
        of the tissues, (N, K).
    """
    floor = np.float32(UNEXPLAINED / COLUMNS)
    weights = np.repeat(usual[None], len(table), axis=0)
    for _ in range(EM_STEPS):
        ratio = shares / (np.matmul(weights[:, None], table)[:, 0] + floor)
        weights = weights * np.matmul(table, ratio[..., None])[..., 0] + np.float32(prior_weight) * usual
        weights /= weights.sum(axis=1, keepdims=True)
    mixture = np.matmul(weights[:, None], table)[:, 0] + floor
    prior = (usual * np.log(weights / usual)).sum(axis=1)
    return ((shares * np.log(mixture)).sum(axis=1) + prior_weight * prior).astype(np.float64), weights


def _error_hu(log_posterior: Array, lows: Array, highs: Array, low: float, high: float) -> float:
    """Return the standard deviation of what the estimate makes of `JUDGED_HU`, over all windows; the larger one."""
    weight = np.exp(INDEPENDENT * (log_posterior - log_posterior.max()))
    weight /= weight.sum()
    errors = []
    for hu in JUDGED_HU:
        grey = (hu - low) / (high - low)
        variance = (weight * (lows + grey * (highs - lows) - hu) ** 2).sum()
        errors.append(np.sqrt(BETWEEN_PATIENTS_HU**2 + variance))
    return float(max(errors))
