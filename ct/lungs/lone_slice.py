"""Lungs of a slice that stands alone: of any orientation, field of view and contrast, with nothing above or below."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.lungs.edge_level import SMALLEST_PART_MM2, Level, border_of, find_levels
from ct.lungs.pleural_gaps import pleural_gaps
from ct.mask_shapes import close_by_disk, convex_hull, open_by_ball

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

# Noise below this scale is averaged away; the border is sought on the wider one.
NOISE_MM, BORDER_MM = 1.0, 2.0
SMALLEST_SHARE = 0.02
# Air in the table has little of the body around it; the gap under the patient lies outside the body's convex hull.
BODY_REACH_MM = 4.0
BODY_SHARE = 0.4
HULL_SHARE = 0.7
# An image with less than this share outside the body is cropped to the lungs, and shows no hull.
LEAST_OUTSIDE = 0.03
# Fat has a faint border, against that of the largest part.
BORDER_SHARE = 0.7
# No lung is nearer to the skin than nine tenths of the border of the part that is certain, but for this.
WALL_SLACK_MM = 5.0
LEAST_HAZE_MM = 2.0
CLOSING_MM = 10.0
# Tissue in which a ball of this radius fits is heart, liver or chest wall.
THICK_MM = 12.0
# Radii at which lungs that touch are parted, tried in this order, and the share of the larger one that makes a lung.
NECKS_MM = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
SECOND_LUNG_SHARE = 0.25


def lungs_of_slice(hu: npt.NDArray[np.int16], pixel_mm: float) -> BoolArray:
    """Find the lungs in one slice, in any in-plane orientation, also where its grey values are not exactly HU.

    The lungs are the dark parts with the sharpest border inside the body, with the hazy parts at their outer side.
    What is thin between two walls of theirs belongs to them, and a gap at the ribs; what is thick (a dome of the
    diaphragm, the heart, but also a large consolidation) does not.

    Args:
        hu: int16 (Y, X).
        pixel_mm: Size of the square pixels, at least roughly.

    Returns:
        bool (Y, X), all False where no lung was found.
    """
    smooth = ndimage.gaussian_filter(ndimage.median_filter(hu, 3).astype(np.float32), NOISE_MM / pixel_mm)
    sharpness = ndimage.gaussian_gradient_magnitude(smooth, BORDER_MM / pixel_mm)
    certain = np.zeros(hu.shape, dtype=np.bool_)
    levels = find_levels(smooth, sharpness, pixel_mm)
    if levels is None:
        return certain
    low, sharpest = levels
    for part in _lung_parts(low, smooth, sharpness, pixel_mm):
        certain |= part
    if not certain.any():
        return certain
    thick = open_by_ball(smooth > sharpest.value, THICK_MM, (pixel_mm, pixel_mm))
    radius_px = CLOSING_MM / pixel_mm
    # Each lung by itself: closing both at once would bridge the mediastinum.
    each = [
        lung | close_by_disk(lung, (radius_px, radius_px)) & ~thick
        for lung in _with_haze(_parted(certain, pixel_mm), sharpest, pixel_mm)
    ]
    found: BoolArray = np.any([*each, pleural_gaps(each, sharpest.body, pixel_mm)], axis=0)
    return found


def _lung_parts(level: Level, smooth: FloatArray, sharpness: FloatArray, pixel_mm: float) -> Iterator[BoolArray]:
    """Yield the dark parts that may be lung, the largest first: in the body, with a sharp border, not gas."""
    body = _largest(level.thick)
    around = ndimage.binary_dilation(body, iterations=max(1, round(BODY_REACH_MM / pixel_mm)))
    hull = convex_hull(body) if (~level.body).mean() > LEAST_OUTSIDE else np.ones_like(body)
    parts, count = ndimage.label(level.dark)
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:] * pixel_mm**2
    sharpest, gas = 0.0, -np.inf
    for index in np.argsort(areas)[::-1]:
        if areas[index] < max(SMALLEST_PART_MM2, SMALLEST_SHARE * areas.max()):
            return
        part = parts == index + 1
        border = border_of(part)
        if not border.any() or around[border].mean() < BODY_SHARE or hull[part].mean() < HULL_SHARE:
            continue
        inside = ndimage.binary_erosion(part)
        values = smooth[inside if inside.any() else part]
        sharp = float(sharpness[border].mean())
        # Gas is darker than nine tenths of the largest part; a lung has vessels.
        if sharp < BORDER_SHARE * sharpest or np.percentile(values, 75) < gas:
            continue
        if not sharpest:
            sharpest, gas = sharp, float(np.percentile(values, 10))
        yield part


def _parted(lungs: BoolArray, pixel_mm: float) -> list[BoolArray]:
    """Cut lungs that touch in two or more, at the narrowest neck that does it."""
    for neck_mm in NECKS_MM:
        cores, count = ndimage.label(open_by_ball(lungs, neck_mm, (pixel_mm, pixel_mm)))
        sizes = np.bincount(cores.ravel(), minlength=count + 1)
        sizes[0] = 0
        large = np.flatnonzero((sizes >= SECOND_LUNG_SHARE * sizes.max()) & (sizes > 0))
        if len(large) > 1:
            owner = _nearest([cores == label for label in large])
            return [lungs & (owner == number) for number in range(len(large))]
    return [lungs]


def _with_haze(each: list[BoolArray], level: Level, pixel_mm: float) -> list[BoolArray]:
    """Add to each lung what is dark at the sharpest level too, but not fat between the lungs or outside the ribs."""
    certain: BoolArray = np.any(each, axis=0)
    between = convex_hull(certain) & ~np.any([convex_hull(lung) for lung in each], axis=0)
    depth_mm = ndimage.distance_transform_edt(np.pad(level.body, 1))[1:-1, 1:-1] * pixel_mm
    wall_mm = np.percentile(depth_mm[border_of(certain)], 10) - WALL_SLACK_MM
    hazy = open_by_ball(level.dark & ~between & (depth_mm >= wall_mm) | certain, LEAST_HAZE_MM, (pixel_mm, pixel_mm))
    parts, _ = ndimage.label(hazy | certain)
    owner = _nearest(each)
    return [np.isin(parts, np.unique(parts[certain])) & (owner == number) for number in range(len(each))]


def _nearest(masks: list[BoolArray]) -> npt.NDArray[np.intp]:
    """Return for every pixel the number of the nearest mask."""
    number = np.full(masks[0].shape, -1)
    for index, mask in enumerate(masks):
        number[mask] = index
    nearest = ndimage.distance_transform_edt(number < 0, return_distances=False, return_indices=True)
    owner: npt.NDArray[np.intp] = number[tuple(nearest)]
    return owner


def _largest(mask: BoolArray) -> BoolArray:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.bincount(parts.ravel(), minlength=count + 1)[1:].argmax() if count else mask
