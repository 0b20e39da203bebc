"""Space inside the rib cage, also where consolidated lung looks like the chest wall beside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.mask_shapes import convex_hull, open_by_ball

BoolArray = npt.NDArray[np.bool_]

BONE_ABOVE_HU = 120
BODY_ABOVE_HU = -400
# Smaller specks are noise or calcifications, which must not stop the ball inside the lungs.
SMALLEST_BONE_ML = 3.0
# A ball of this radius does not pass between two ribs, and yet reaches the gutter beside the spine.
BALL_MM = 30.0


def find_bones(hu: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Mark bones; contrast medium looks the same.

    Args:
        hu: int16 (Z, Y, X), voxels of a few mm.
        spacing_mm: Voxel size (z, y, x).

    Returns:
        bool (Z, Y, X).
    """
    parts, count = ndimage.label(hu > BONE_ABOVE_HU, np.ones((3, 3, 3)))
    volumes_ml = np.bincount(parts.ravel(), minlength=count + 1) * np.prod(spacing_mm) / 1000
    bones: BoolArray = (volumes_ml >= SMALLEST_BONE_ML)[parts] & (parts > 0)
    return bones


def find_body(hu: npt.NDArray[np.int16]) -> BoolArray:
    """Mark the body, with the air inside it.

    Args:
        hu: int16 (Z, Y, X).

    Returns:
        bool (Z, Y, X).
    """
    tissue = hu > BODY_ABOVE_HU
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=2)) for plane in tissue])


def inside_ribs(soft: BoolArray, lung: BoolArray, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Find the space inside the rib cage around the lungs.

    A ball is rolled inside the body: it is stopped by ribs, spine and skin. In front, where cartilage lets it through,
    the convex hull of the lungs and of the back half of that space is the limit.

    Args:
        soft: bool (Z, Y, X) in canonical orientation, the body without its bones.
        lung: bool (Z, Y, X), the aerated lung; slices without any get nothing.
        spacing_mm: Voxel size (z, y, x).

    Returns:
        bool (Z, Y, X), with the lung, mediastinum and abdomen inside it.
    """
    reached = lung | open_by_ball(soft, BALL_MM, spacing_mm)
    rows = np.flatnonzero(lung.any(axis=(0, 2)))
    middle = (rows[0] + rows[-1]) // 2 if rows.size else 0
    cage = np.zeros_like(lung)
    for z in np.flatnonzero(lung.any(axis=(1, 2))):
        parts, _ = ndimage.label(reached[z])
        around = np.isin(parts, np.unique(parts[lung[z]]))
        outline = lung[z].copy()
        outline[middle:] |= around[middle:]
        cage[z] = around & convex_hull(outline)
    return cage
