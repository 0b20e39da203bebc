"""Inside and outside of the lungs' hull in a slice of grey values, whatever its HU, orientation and crop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.mask_shapes import convex_hull, parts_at_corners

BoolArray = npt.NDArray[np.bool_]
GreyArray = npt.NDArray[np.uint8]

# Pixels of the longer side at which regions are looked for; larger images are thinned.
SIDE = 256
# Share of that side by which dark regions are shrunk, so that gaps as thin as that between patient and table vanish.
SHRINK_SHARE = 1 / 128
# Least area of a dark region as a share of the image, and of the largest one; of all together as a share of the image.
LEAST_SHARE, LEAST_OF_LARGEST, LEAST_TOGETHER = 0.002, 0.1, 0.01
# What is no darker than air by more than this share of the distance to soft tissue (15 HU) is taken for gas, unless it
# is nearly as large as a lung.
GAS_SHARE, LARGE_OF_LARGEST = 0.015, 0.3
# Least share of the image that tells the grey of the air around the body.
LEAST_AIR_SHARE = 0.02


def split_by_hull(image: GreyArray) -> tuple[GreyArray, GreyArray]:
    """Return the greys inside and outside the convex hull of the lungs, without padding.

    Lungs are what is dark, surrounded by what is bright, and no gas; the air around the body reaches a corner of the
    image. Inside their hull a chest has much the same tissues, whether the image shows the whole body or was cut to the
    lungs: that is why it is judged by itself.

    Args:
        image: uint8 (Y, X), smoothed.

    Returns:
        Greys (N,) inside and (M,) outside. Inside is empty where no lungs are found.
    """
    step = max(1, round(max(image.shape) / SIDE))
    grey = np.ascontiguousarray(image[::step, ::step])
    inside = _hull(grey)
    return grey[inside], grey[~inside & ~_padding(grey)]


def _hull(grey: GreyArray) -> BoolArray:
    """Return (Y, X) the convex hull of the lungs, a little widened; empty where there are none."""
    radius = max(1, round(max(grey.shape) * SHRINK_SHARE))
    lungs = _lungs(grey, radius)
    if np.count_nonzero(lungs) < LEAST_TOGETHER * grey.size:
        return np.zeros_like(lungs)
    return np.asarray(ndimage.binary_dilation(convex_hull(lungs), iterations=radius), dtype=bool)


def _lungs(grey: GreyArray, radius: int) -> BoolArray:
    """Return (Y, X) the cores of the lungs: dark regions that reach no corner and are no gas."""
    dark = grey <= otsu_threshold(np.bincount(grey.ravel(), minlength=256))
    regions, count = ndimage.label(ndimage.binary_erosion(dark, iterations=radius, border_value=1))
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    at_corners = set(regions[[0, 0, -1, -1], [0, -1, 0, -1]].tolist())
    inner = [n for n in range(1, count + 1) if n not in at_corners and areas[n] >= LEAST_SHARE * grey.size]
    largest = max((areas[n] for n in inner), default=0)
    air = grey[np.isin(regions, [*at_corners - {0}]) & (grey > 0)]
    if len(air) > LEAST_AIR_SHARE * grey.size:
        most = float(np.median(air)) + GAS_SHARE * (float(np.median(grey[~dark])) - float(np.median(air)))
        inner = [n for n in inner if areas[n] >= LARGE_OF_LARGEST * largest or np.median(grey[regions == n]) >= most]
    largest = max((areas[n] for n in inner), default=0)
    return np.isin(regions, [n for n in inner if areas[n] >= LEAST_OF_LARGEST * largest])


def _padding(grey: GreyArray) -> BoolArray:
    """Return (Y, X) the pixels of grey 0 that hang together with a corner: outside the field of view."""
    return parts_at_corners(grey == 0)


def otsu_threshold(counts: npt.NDArray[np.int64]) -> int:
    """Return the grey value that best parts a histogram into dark and bright (Otsu 1979): the last dark one.

    Args:
        counts: (256,) pixels of each grey value, of at least two values.
    """
    share = counts / counts.sum()
    dark = share.cumsum()
    mean = (share * np.arange(len(share))).cumsum()
    # Between-class variance; where one class is empty there is none.
    parts = (dark > 0) & (dark < 1)
    variance = np.where(parts, (mean[-1] * dark - mean) ** 2, 0) / np.where(parts, dark * (1 - dark), 1)
    return int(variance.argmax())
