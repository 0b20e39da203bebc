"""Consolidated lung, found by its place in the rib cage, since no air distinguishes it from the tissue around it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.lungs.domes import under_domes
from ct.lungs.rib_cage import find_body, find_bones, inside_ribs
from ct.lungs.sides import LEFT, RIGHT
from ct.mask_shapes import open_by_ball

BoolArray = npt.NDArray[np.bool_]

# Less height, coarser pixels or less bone in a slice show no rib cage.
LEAST_HEIGHT_MM = 60.0
COARSEST_PIXEL_MM = 7.0
LEAST_BONE_MM2 = 1000.0
# Tissue lighter than fat holds air.
AERATED_BELOW_HU = -150
# At the edge of a consolidation, where the average is that with a rib.
EDGE_BELOW_HU = -40
THIN_MM = 5.0
THIN_GAP_MM = 10.0
# Soft tissue between lung and ribs is lung where no ball of this radius fits; where one does, it may be heart or liver.
GAP_BALL_MM = 26.0
# A wide piece of tissue that lies to this share where the lung should be is a consolidated lobe.
LOBE_SHARE = 0.8
LOBE_BALL_MM = 22.0
TOUCHING_SHARE = 0.25
SMOOTH_BORDER_MM = 12.0
BORDER_REACH_MM = (30.0, 15.0)
BORDER_PERCENTILE = 40
EVERY_NEIGHBOUR = np.ones((3, 3, 3))
IN_PLANE = np.ones((1, 3, 3))


def dense_lung(
    hu: npt.NDArray[np.int16],
    sides: npt.NDArray[np.int8],
    other_air: BoolArray,
    spacing_mm: tuple[float, float, float],
    domes: BoolArray | None = None,
) -> npt.NDArray[np.int8]:
    """Find the parts of the lungs that hold little or no air.

    The place of a lung is what lies inside the ribs and outside the mediastinal border of its aerated part
    (interpolated where it is not seen), but not under a dome of the diaphragm. In there, three things are lung: what is
    lighter than fat, soft tissue too thin for heart or liver, and thick tissue that does not reach beyond that place.

    Args:
        hu: int16 (Z, Y, X) in canonical orientation, voxels of about 4 mm or more.
        sides: int8 (Z, Y, X), the aerated lungs, 1 = right, 2 = left.
        other_air: bool (Z, Y, X), air that is not in the lungs.
        spacing_mm: Voxel size (z, y, x).
        domes: bool (Z, Y, X), `under_domes` of these sides; computed where it is not given.

    Returns:
        int8 (Z, Y, X) as `sides`, only the voxels to add; none where no rib cage can be seen: in less than 60 mm of
        height, with pixels of more than 7 mm, or with less than 10 cm2 of bone in a slice.
    """
    added = np.zeros_like(sides)
    if len(hu) * spacing_mm[0] < LEAST_HEIGHT_MM or max(spacing_mm[1:]) > COARSEST_PIXEL_MM:
        return added
    aerated = sides > 0
    bones = find_bones(hu, spacing_mm)
    if bones.mean() * bones[0].size * spacing_mm[1] * spacing_mm[2] < LEAST_BONE_MM2:
        return added
    body = find_body(hu)
    soft = body & ~bones
    cage = inside_ribs(soft, aerated, spacing_mm) & ~ndimage.binary_dilation(other_air, IN_PLANE)
    # Where ribs are too faint to stop the ball, no lung lies closer to the skin than where it is seen.
    depth = ndimage.distance_transform_edt(body, sampling=spacing_mm)
    cage &= depth >= depth[aerated].min()
    domes = under_domes(sides, spacing_mm) if domes is None else domes
    cage &= ~domes
    size = (3 if spacing_mm[0] < COARSEST_PIXEL_MM else 1, 3, 3)
    # Neither a rib nor the air around the body may enter the average beside it.
    average = ndimage.uniform_filter(np.where(soft, hu, 0).astype(np.float32), size)
    light = cage & ~aerated & (average < AERATED_BELOW_HU)
    middle = _middle(sides)
    columns = np.arange(hu.shape[2])
    for side, half in ((RIGHT, columns < middle), (LEFT, columns >= middle)):
        lung = (sides == side) | _thick(light & half, THIN_MM, spacing_mm)
        outside = np.abs(columns - middle) >= _border(lung, middle, spacing_mm)[..., None]
        place = cage & half & outside & lung.any(axis=(1, 2))[:, None, None]
        tissue = soft & ~aerated & ~lung
        gaps = place & tissue & ~_wide(tissue, place, domes, spacing_mm)
        dense = (lung | _thick(gaps, THIN_GAP_MM, spacing_mm)) & ~aerated
        dense |= ndimage.binary_dilation(dense, IN_PLANE) & place & ~aerated & (hu < EDGE_BELOW_HU)
        added[_touching(dense, aerated)] = side
    return added


def _thick(mask: BoolArray, radius_mm: float, spacing_mm: tuple[float, float, float]) -> BoolArray:
    # One voxel at least: partial volume makes a rim of that width around everything.
    return open_by_ball(mask, max(radius_mm, 1.01 * spacing_mm[1]), spacing_mm)


def _wide(tissue: BoolArray, place: BoolArray, domes: BoolArray, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Mark tissue in which the ball fits, except pieces that lie within the place of the lung."""
    wide = open_by_ball(tissue, GAP_BALL_MM, spacing_mm)
    # A consolidation that lies on a dome is a piece of its own only without the liver.
    pieces = open_by_ball(wide & ~domes, LOBE_BALL_MM, spacing_mm)
    return wide & (_share_of_parts(pieces, place) < LOBE_SHARE)


def _touching(dense: BoolArray, aerated: BoolArray) -> BoolArray:
    """Keep the pieces with enough of their surface at aerated lung: bowel under the diaphragm has little there."""
    surface = dense & ~ndimage.binary_erosion(dense)
    share = _share_of_parts(dense, ndimage.binary_dilation(aerated, EVERY_NEIGHBOUR), surface)
    return dense & (share >= TOUCHING_SHARE)


def _share_of_parts(mask: BoolArray, inside: BoolArray, counted: BoolArray | None = None) -> npt.NDArray[np.float64]:
    """Return for every voxel of a mask the share of its connected part's (counted) voxels that lie inside another."""
    parts, count = ndimage.label(mask)
    counted = mask if counted is None else counted
    total = np.bincount(parts[counted], minlength=count + 1)
    share: npt.NDArray[np.float64] = np.bincount(parts[counted & inside], minlength=count + 1) / np.maximum(total, 1)
    return share[parts]


def _middle(sides: npt.NDArray[np.int8]) -> float:
    """Return the border between columns that parts right and left best; the image's edge where one lung is missing."""
    right, left = ((sides == side).sum(axis=(0, 1)) for side in (RIGHT, LEFT))
    wrong = np.concatenate([[right.sum()], right.sum() - np.cumsum(right) + np.cumsum(left)])
    best = np.flatnonzero(wrong == wrong.min())
    return float(best[len(best) // 2]) - 0.5


def _border(lung: BoolArray, middle: float, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Return (Z, Y) columns between the middle and the lung, guessed where a row shows none or too many."""
    distance = np.abs(np.arange(lung.shape[2]) - middle)
    nearest = np.where(lung, distance, np.inf).min(axis=2)
    seen = np.isfinite(nearest)
    values, weights = np.zeros(seen.shape), np.zeros(seen.shape)
    # The wider kernel decides only where the narrow one finds nothing.
    for scale, weight in ((1, 1.0), (4, 1e-6)):
        sigma = [scale * SMOOTH_BORDER_MM / step for step in spacing_mm[:2]]
        values += weight * ndimage.gaussian_filter(np.where(seen, nearest, 0.0), sigma, mode="constant")
        weights += weight * ndimage.gaussian_filter(seen.astype(np.float64), sigma, mode="constant")
    guessed = np.divide(values, weights, out=np.full(seen.shape, np.inf), where=weights > 1e-12)
    border = np.where(seen, nearest, guessed)
    # Consolidation at the mediastinum pushes the border out in some rows; most of their neighbours show where it is.
    around = [1 + 2 * round(reach / step) for reach, step in zip(BORDER_REACH_MM, spacing_mm[:2], strict=True)]
    return np.minimum(border, ndimage.percentile_filter(border, BORDER_PERCENTILE, around))
