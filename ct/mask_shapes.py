"""Shapes of masks: box, opening by a ball, closing by a disk, convex hull, parts at corners."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

BoolArray = npt.NDArray[np.bool_]


def box_of(mask: BoolArray) -> tuple[slice, ...]:
    """Find the smallest box that holds a mask.

    Args:
        mask: bool array.

    Returns:
        A slice along each axis, empty where the mask is.
    """
    box = []
    for _ in range(mask.ndim):
        there = np.flatnonzero(mask.any(tuple(range(1, mask.ndim))))
        box.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, 0))
        mask = np.logical_or.reduce(mask, 0)
    return tuple(box)


def open_by_ball(mask: BoolArray, radius_mm: float, spacing_mm: tuple[float, ...]) -> BoolArray:
    """Keep what a ball covers that stays inside the mask; the ends of the array do not stop the ball.

    Args:
        mask: bool array.
        radius_mm: Radius of the ball.
        spacing_mm: Voxel size along each axis.

    Returns:
        bool array, part of `mask`.
    """
    opened = np.zeros_like(mask)
    # Only the box around the mask, with its nearest neighbours, matters.
    box = tuple(slice(max(ends.start - 1, 0), ends.stop + 1) for ends in box_of(mask))
    inside = mask[box]
    # Distances do the same as a ball-shaped structuring element, at a cost that does not grow with its size.
    centres = inside if inside.all() else _distance(inside, spacing_mm) > radius_mm
    if centres.any():
        opened[box] = _distance(~centres, spacing_mm) <= radius_mm
    return opened


def close_by_disk(plane: BoolArray, radius_px: tuple[float, float]) -> BoolArray:
    """Close gaps narrower than twice the radius and fill holes.

    Args:
        plane: bool (Y, X).
        radius_px: Radius along y and x in pixels.

    Returns:
        bool (Y, X); no pixel is added outside the bounding box of the True pixels.
    """
    closed = np.zeros_like(plane)
    if not plane.any():
        return closed
    box = box_of(plane)
    pad = [(int(radius) + 2, int(radius) + 2) for radius in radius_px]
    padded = np.pad(plane[box], pad)
    scale = (1 / radius_px[0], 1 / radius_px[1])
    grown = _distance(~padded, scale) <= 1
    shrunk = ndimage.binary_fill_holes((_distance(grown, scale) > 1) | padded)
    closed[box] = shrunk[pad[0][0] : -pad[0][1], pad[1][0] : -pad[1][1]]
    return closed


def convex_hull(plane: BoolArray) -> BoolArray:
    """Fill the convex hull of the pixels' centres.

    Args:
        plane: bool (Y, X).

    Returns:
        bool (Y, X); the plane itself where its pixels lie on one line.
    """
    try:
        edges = ConvexHull(np.argwhere(plane)).equations
    except (QhullError, ValueError):
        return plane.copy()
    y, x = np.ogrid[: plane.shape[0], : plane.shape[1]]
    inside: BoolArray = np.all([a * y + b * x + c <= 1e-6 for a, b, c in edges], axis=0)
    return inside


def _distance(mask: BoolArray, spacing: tuple[float, ...]) -> npt.NDArray[Any]:
    return ndimage.distance_transform_edt(mask, sampling=spacing)


def parts_at_corners(plane: BoolArray) -> BoolArray:
    """Keep the connected parts that reach a corner of the plane.

    Args:
        plane: bool (Y, X).

    Returns:
        bool (Y, X), part of `plane`.
    """
    parts, _ = ndimage.label(plane)
    corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    return np.isin(parts, corners[corners > 0])
