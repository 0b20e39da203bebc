"""Lung masks by classical image processing, for scans that come without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.resample import AxisMap, Transform

BoolArray = npt.NDArray[np.bool_]

# Half way between aerated lung (-850) and soft tissue (40): where partial volume puts the border of the lungs.
AIR_BELOW_HU = -400
# Finer pixels than this make the work slow and the mask no better.
WORK_MM = 1.6
CLOSING_MM = 14.0
# Air at a side of the image is outside the body where it is thinner than this or fills a corner, else a lung that the
# field of view cuts.
OUTSIDE_BELOW_HU = -925
# A second lung, against the larger one; gas in stomach and bowel is smaller.
SECOND_LUNG_SHARE = 0.15
SMALLEST_PART_MM2 = 150.0
# Width that a lone slice of unknown spacing is taken to show.
ASSUMED_WIDTH_MM = 340.0


def classical_lungs(hu: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float] | None) -> BoolArray:
    """Find the lungs: air inside the body, closed so that vessels and consolidation at the pleura belong to them.

    The air of the main airways may be included; a lobe that is consolidated as a whole is missed.

    Args:
        hu: int16 (Z, Y, X) in canonical orientation.
        spacing_mm: Voxel size (z, y, x), or None for slice images: each slice is then taken by itself, at an assumed
            scale.

    Returns:
        bool (Z, Y, X), all False where no lung was found.
    """
    if spacing_mm is None:
        pixel_mm = ASSUMED_WIDTH_MM / max(hu.shape[1:])
        return np.stack([lungs_of_slice(plane, pixel_mm) for plane in hu])
    work = _work_grid(hu.shape, spacing_mm)
    coarse = work.apply_hu(hu)
    air = _inner_air(coarse)
    lungs = _largest_two(air)
    if not lungs.any():
        return np.zeros(hu.shape, dtype=np.bool_)
    middle = _midline(lungs)
    radius = CLOSING_MM / work.y.spacing_mm, CLOSING_MM / work.x.spacing_mm
    for plane in lungs:
        # Each side by itself: closing both at once would bridge the mediastinum where the lungs nearly touch.
        sides = [plane[:, :middle], plane[:, middle:]]
        plane[:] = np.concatenate([_close(side, radius) for side in sides], axis=1)
    return work.restore(lungs.astype(np.float32)) > 0.5


def lungs_of_slice(hu: npt.NDArray[np.int16], pixel_mm: float) -> BoolArray:
    """Find the lungs in one slice, in any in-plane orientation.

    Args:
        hu: int16 (Y, X).
        pixel_mm: Size of the square pixels, at least roughly.

    Returns:
        bool (Y, X).
    """
    parts, count = ndimage.label(_inner_air(hu[None])[0])
    lungs = np.zeros(hu.shape, dtype=np.bool_)
    areas = np.bincount(parts.ravel(), minlength=count + 1) * pixel_mm**2
    for part in range(1, count + 1):
        if areas[part] >= max(SMALLEST_PART_MM2, 0.02 * areas[1:].max()):
            lungs |= _close(parts == part, (CLOSING_MM / pixel_mm, CLOSING_MM / pixel_mm))
    return lungs


def _work_grid(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Transform:
    z = AxisMap(shape[0], spacing_mm[0], shape[0], spacing_mm[0])
    y, x = (_work_axis(shape[axis], spacing_mm[axis]) for axis in (1, 2))
    return Transform(z, y, x)


def _work_axis(count: int, mm: float) -> AxisMap:
    coarse = min(count, max(1, round(count * mm / WORK_MM)))
    return AxisMap(count, mm, coarse, count * mm / coarse)


def _inner_air(hu: npt.NDArray[np.int16]) -> BoolArray:
    """Mark air without the air around the body, slice by slice."""
    smooth = ndimage.median_filter(hu, size=(1, 3, 3))
    air = smooth < AIR_BELOW_HU
    for plane, values in zip(air, smooth, strict=True):
        parts, _ = ndimage.label(plane)
        border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        border = border[border > 0]
        corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
        medians = np.array([np.median(values[parts == part]) for part in border])
        plane[np.isin(parts, border[(medians < OUTSIDE_BELOW_HU) | np.isin(border, corners)])] = False
    return air


def _largest_two(air: BoolArray) -> BoolArray:
    parts, count = ndimage.label(air)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    order = np.argsort(sizes)[::-1][:2]
    kept = [part for part in order if sizes[part] > 0 and sizes[part] >= SECOND_LUNG_SHARE * sizes[order[0]]]
    return np.isin(parts, kept)


def _midline(lungs: BoolArray) -> int:
    """Return the column between the lungs: the emptiest of the middle third of what they span."""
    profile = ndimage.uniform_filter1d(lungs.sum(axis=(0, 1)).astype(np.float64), 3)
    columns = np.flatnonzero(profile)
    low, high = int(columns[0]), int(columns[-1]) + 1
    start = low + (high - low) // 3
    stop = max(start + 1, high - (high - low) // 3)
    return start + int(np.argmin(profile[start:stop]))


def _close(plane: BoolArray, radius_px: tuple[float, float]) -> BoolArray:
    """Close gaps narrower than twice the radius and fill holes, within the box around what is there."""
    closed = np.zeros_like(plane)
    if not plane.any():
        return closed
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    pad = [(int(radius) + 2, int(radius) + 2) for radius in radius_px]
    padded = np.pad(plane[box], pad)
    # Distances do the same as a disk-shaped structuring element, at a cost that does not grow with its size.
    scale = (1 / radius_px[0], 1 / radius_px[1])
    grown = _distance(~padded, scale) <= 1
    shrunk = ndimage.binary_fill_holes((_distance(grown, scale) > 1) | padded)
    closed[box] = shrunk[pad[0][0] : -pad[0][1], pad[1][0] : -pad[1][1]]
    return closed


def _distance(mask: BoolArray, scale: tuple[float, float]) -> npt.NDArray[Any]:
    return ndimage.distance_transform_edt(mask, sampling=scale)
