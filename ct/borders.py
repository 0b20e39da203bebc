"""Nearest border of every pixel in a label map: the class across it, and the distance to it."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

FARTHEST_HALF_MM = 255


def nearest_border(groups: NDArray[np.int8], spacing_mm: tuple[float, float]) -> NDArray[np.uint8]:
    """Find the nearest border of every pixel of a slice.

    Args:
        groups: int8 (H, W), -1 where unlabelled; such pixels belong to no class and have no border.
        spacing_mm: Pixel size (y, x).

    Returns:
        uint8 (2, H, W): [0] the class across the nearest border, or the pixel's own class where the slice shows no
        other; [1] distance from the pixel's centre to the border (half a pixel before the nearest pixel of that class)
        in half mm, at most 255.
    """
    present = [int(group) for group in np.unique(groups) if group >= 0]
    neighbour = groups.clip(min=0).astype(np.uint8)
    nearest = np.full(groups.shape, np.inf)
    for group in present:
        # The distance of a group's own pixels to itself is 0 and must not count.
        distance = distance_transform_edt(groups != group, sampling=spacing_mm)
        closer = (distance < nearest) & (groups != group)
        nearest[closer], neighbour[closer] = distance[closer], group
    half_pixel = sum(spacing_mm) / 4
    with np.errstate(invalid="ignore"):
        half_mm = np.where(np.isfinite(nearest), np.rint((nearest - half_pixel) * 2), FARTHEST_HALF_MM)
    half_mm[groups < 0] = FARTHEST_HALF_MM
    neighbour[groups < 0] = 0
    return np.stack([neighbour, half_mm.clip(0, FARTHEST_HALF_MM).astype(np.uint8)])
