"""Right and left lung, also where they touch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.mask_shapes import box_of, convex_hull

BoolArray = npt.NDArray[np.bool_]
RIGHT, LEFT = 1, 2

# How far the cut between touching lungs may lie from the middle of the scan, slice by slice.
CUT_RANGE_MM = 40.0
# Two lungs have a valley in their profile: a column between them with less than this share of the lower peak.
VALLEY_SHARE = 0.5
# Size of the voxels on which sides are found slice by slice: lungs that are less than this apart count as touching.
COARSE_MM = 1.5
# A part that lies to this share on one side of the cut belongs to that side as a whole (a lung may cross the middle).
ONE_SIDED = 0.85


def left_right(lung: BoolArray, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.int8]:
    """Tell the right lung from the left one.

    Lungs that touch at the front or the back are cut in every slice at the narrowest column near the middle. A mask
    of one lung only gets one label: the side of heart and hilum is the hollow one.

    Args:
        lung: bool (Z, Y, X), canonical: x runs from the patient's right to the left.
        spacing_mm: Voxel size (z, y, x).

    Returns:
        int8 (Z, Y, X): 0 outside, 1 = right lung, 2 = left lung (lungmask's labels).
    """
    sides = np.zeros(lung.shape, dtype=np.int8)
    if not lung.any():
        return sides
    profile = ndimage.uniform_filter1d(lung.sum(axis=1, dtype=np.float32), 3, axis=1, mode="constant")
    middle = _middle(profile.sum(axis=0))
    if middle is None:
        sides[lung] = RIGHT if _is_hollow_on_the_left(lung) else LEFT
        return sides
    cuts = _cuts(profile, middle, max(1, round(CUT_RANGE_MM / spacing_mm[2])))
    # Slice by slice: arrays of all voxels of the lungs would take more memory than the scan.
    box = box_of(lung)
    parts, count = ndimage.label(lung[box])
    cuts, columns = cuts[box[0]], np.arange(lung.shape[2])[box[2]]
    voxels, beyond = np.zeros(count + 1), np.zeros(count + 1)
    for plane, cut in zip(parts, cuts, strict=True):
        voxels += np.bincount(plane.ravel(), minlength=count + 1)
        beyond += np.bincount(plane[:, columns >= cut].ravel(), minlength=count + 1)
    share = beyond / np.maximum(voxels, 1)
    for plane, cut, inside, side in zip(parts, cuts, lung[box], sides[box], strict=True):
        of_part = share[plane]
        left = np.where(of_part >= ONE_SIDED, True, np.where(of_part <= 1 - ONE_SIDED, False, columns >= cut))
        side[inside] = np.where(left, LEFT, RIGHT)[inside]
    return sides


def sides_of_slices(lung: BoolArray, spacing_mm: tuple[float, float, float]) -> Iterator[npt.NDArray[np.int8]]:
    """Tell right from left as `left_right` does, on voxels of 1.5 mm or more: quick for a whole scan.

    Args:
        lung: bool (Z, Y, X), canonical.
        spacing_mm: Voxel size (z, y, x).

    Yields:
        int8 (Y, X) for each slice: 0 far from any lung, 1 or 2 in the right or left lung and in what is near it.
    """
    steps = [max(1, round(COARSE_MM / mm)) for mm in spacing_mm]
    coarse = lung
    for axis, step in enumerate(steps):
        coarse = _any_of(coarse, axis, step)
    z_mm, y_mm, x_mm = (step * mm for step, mm in zip(steps, spacing_mm, strict=True))
    sides = left_right(coarse, (z_mm, y_mm, x_mm))
    for z in range(len(lung)):
        plane = sides[z // steps[0]].repeat(steps[1], axis=0).repeat(steps[2], axis=1)
        yield plane[: lung.shape[1], : lung.shape[2]]


def _any_of(lung: BoolArray, axis: int, step: int) -> BoolArray:
    """Mark where any of `step` neighbours along an axis is lung; the last group may be smaller."""
    along = np.moveaxis(lung, axis, 0)
    coarse = along[::step].copy()
    for start in range(1, step):
        part = along[start::step]
        coarse[: len(part)] |= part
    return np.moveaxis(coarse, 0, axis)


def _middle(profile: npt.NDArray[np.float32]) -> int | None:
    """Return the emptiest column of the middle half of what the lungs span, None where it is no valley."""
    columns = np.flatnonzero(profile)
    low, high = int(columns[0]), int(columns[-1]) + 1
    start, stop = low + (high - low) // 4, high - (high - low) // 4
    if stop <= start:
        return None
    emptiest = np.flatnonzero(profile[start:stop] == profile[start:stop].min())
    middle = start + int(emptiest[len(emptiest) // 2])
    peaks = profile[:middle].max(initial=0), profile[middle:].max(initial=0)
    return middle if profile[middle] < VALLEY_SHARE * min(peaks) else None


def _cuts(profile: npt.NDArray[np.float32], middle: int, reach: int) -> npt.NDArray[np.intp]:
    """Return for every slice the first column of the left side: the narrowest near the middle, smooth along z."""
    low, high = max(middle - reach, 0), min(middle + reach + 1, profile.shape[1])
    # Where a slice has no lung near the middle, any column would do: the one nearest to the middle is taken.
    far = np.abs(np.arange(low, high) - middle) * 1e-3
    cuts = low + np.argmin(profile[:, low:high] + far, axis=1)
    return ndimage.median_filter(cuts, 5, mode="nearest")


def _is_hollow_on_the_left(lung: BoolArray) -> bool:
    """Return whether the hollow of a single lung, which its convex hull adds, lies more on the patient's left of it."""
    columns = np.arange(lung.shape[2])
    excess = 0
    for plane in lung[lung.any(axis=(1, 2))]:
        hollow = (convex_hull(plane) & ~plane).sum(axis=0)
        left = columns > (plane.sum(axis=0) * columns).sum() / plane.sum()
        excess += int(hollow[left].sum()) - int(hollow[~left].sum())
    return excess > 0
