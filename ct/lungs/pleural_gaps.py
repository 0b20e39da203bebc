"""Gaps between a lung and the ribs in a lone slice: consolidation at the pleura, which no air marks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.mask_shapes import convex_hull, open_by_ball

BoolArray = npt.NDArray[np.bool_]

# A lung of less area in the slice is a crescent around a dome, whose hull holds liver.
LEAST_LUNG_MM2 = 3000.0
# How much deeper under the skin than the lung's own outer border a gap may open.
DEEPER_MM = 5.0
NARROWEST_MM = 2.0
WIDEST_MM = 18.0


def pleural_gaps(lungs: Iterable[BoolArray], body: BoolArray, pixel_mm: float) -> BoolArray:
    """Find what the convex hull of a lung adds at its outer side.

    The wall of the chest has about the same thickness everywhere, and the hull of a lung spans consolidation at the
    pleura at that depth. It also spans the hollow of heart and dome, but deeper under the skin.

    Args:
        lungs: bool (Y, X) for each lung.
        body: bool (Y, X), the body with its lungs; a body that the image cuts ends there.
        pixel_mm: Size of the pixels.

    Returns:
        bool (Y, X), without the lungs.
    """
    depth_mm = ndimage.distance_transform_edt(np.pad(body, 1))[1:-1, 1:-1] * pixel_mm
    gaps = np.zeros_like(body)
    for lung in lungs:
        if np.count_nonzero(lung) * pixel_mm**2 < LEAST_LUNG_MM2:
            continue
        hull = convex_hull(lung)
        rim = hull & ~ndimage.binary_erosion(hull)
        wall_mm = np.percentile(depth_mm[rim & ndimage.binary_dilation(lung, iterations=2)], 50)
        parts, count = ndimage.label(open_by_ball(hull & ~lung, NARROWEST_MM, (pixel_mm, pixel_mm)))
        for label in range(1, count + 1):
            gap = parts == label
            opening = depth_mm[ndimage.binary_dilation(gap) & rim]
            half_mm = ndimage.distance_transform_edt(np.pad(gap, 1)).max() * pixel_mm
            if opening.size and np.percentile(opening, 75) <= wall_mm + DEEPER_MM and half_mm <= WIDEST_MM:
                gaps |= gap
    return gaps & ~np.any(list(lungs), axis=0)
