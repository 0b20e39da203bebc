"""Vessels inside the lungs: dense tubes, told by the curvature of the HU around them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.mask_shapes import box_of
from ct.resample import AxisMap, Transform, coarser_grid

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

# Tubes are sought on voxels of this size.
WORK_MM = 1.5
# Blurs (standard deviations in mm) for radii of about 1 to 8 mm, and how much denser than the aerated lung around it
# a blurred vessel is at least: a thin one fills a part of its voxels only, a wide one is full of blood.
LEAST_CONTRAST_HU = {1.5: 80.0, 2.5: 200.0, 4.5: 300.0}
# A blur narrower than this share of a voxel would see no curvature across it.
LEAST_BLUR = 0.6
# Aerated lung around a voxel is averaged over a box of this side, wider than the widest vessel.
AROUND_MM = 24.0
# A voxel of the scan that belongs to a vessel is this much denser than the aerated lung around it.
LEAST_ABOVE_HU = 80.0
# Curvature across both short axes of a tube, times the squared blur, as a share of its contrast: 1 for a thin line,
# less for a wide tube, 0 for what is even.
LEAST_CURVATURE = 0.25
# Curvature along the tube as a share of that across: 0 for a line, 1 for a ball.
MOST_ALONG = 0.3
# Slope, times the blur, as a share of the contrast: 0 on the axis of a tube. The surface of a ball bends like a tube,
# but is steep.
MOST_SLOPE = 0.5
# A voxel belongs to a vessel from this share of the contrast of the vessel's core.
CORE_SHARE = 0.5
NO_VESSEL = np.iinfo(np.int16).max


def vessel_mask(
    hu: npt.NDArray[np.int16],
    lung: BoolArray,
    spacing_mm: tuple[float, float, float],
    opacity: BoolArray | None = None,
) -> BoolArray:
    """Find the vessels inside the lungs.

    The HU are averaged to voxels of 1.5 mm. There a vessel is denser than the aerated lung around it, and its HU fall
    to two sides and not along the third (two of the three eigenvalues of the Hessian are strongly negative, as in
    Frangi et al., MICCAI 1998), at one of three blurs. On the scan's own voxels, those near such a place are a vessel
    from half the contrast between the aerated lung and the core. Walls of airways that are as dense belong to it, too.

    Args:
        hu: int16 (Z, Y, X), canonical.
        lung: bool (Z, Y, X).
        spacing_mm: Voxel size (z, y, x).
        opacity: bool (Z, Y, X), opacities; no vessel is told inside of them. Without it, only their shape sets them
            apart: round and broad ones are no vessels, strands in them are.

    Returns:
        bool (Z, Y, X), part of `lung`.
    """
    vessels = np.zeros(lung.shape, dtype=np.bool_)
    box = box_of(lung)
    if not lung.any():
        return vessels
    grid = coarser_grid(lung[box].shape, spacing_mm, (WORK_MM,) * 3)
    limits = _limits(grid.apply_hu(hu[box]), grid.apply_mask(lung[box]) > 0, grid.spacing_mm)
    for target, plane, inside, limit in zip(vessels[box], hu[box], lung[box], _planes(grid, limits), strict=True):
        np.logical_and(plane > limit, inside, out=target)
    if opacity is not None:
        vessels &= ~opacity
    return vessels


def _planes(grid: Transform, values: npt.NDArray[np.int16]) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the slices (Y, X) of the scan of a map (Z', Y', X') on the grid: each voxel's is that of its coarse one."""
    z, y, x = (_coarse(axis) for axis in (grid.z, grid.y, grid.x))
    for row in z:
        yield values[row].take(y, axis=0).take(x, axis=1)


def _coarse(axis: AxisMap) -> npt.NDArray[np.intp]:
    centre = (np.arange(axis.source_count) + 0.5) * axis.source_mm / axis.spacing_mm
    return np.minimum(centre.astype(np.intp), axis.count - 1)


def _limits(
    hu: npt.NDArray[np.int16], lung: BoolArray, spacing_mm: tuple[float, float, float]
) -> npt.NDArray[np.int16]:
    """Return for every voxel the HU above which it is a vessel, `NO_VESSEL` away from tubes: int16 (Z, Y, X)."""
    aerated = _aerated(hu, lung, spacing_mm)
    # The outermost voxels hold some chest wall or mediastinum; elsewhere there is no edge at the border of the lungs.
    inner = ndimage.binary_erosion(lung, border_value=1)
    above = np.where(inner, hu - aerated, 0).astype(np.float32)
    core = np.zeros_like(above)
    for blur_mm, contrast_hu in LEAST_CONTRAST_HU.items():
        tubes = _tubes(above, inner, blur_mm, contrast_hu, spacing_mm)
        # The wider the tube, the farther from its axis its surface may be.
        near = [2 * max(1, round(blur_mm / mm)) + 1 for mm in spacing_mm]
        np.maximum(core, ndimage.maximum_filter(np.where(tubes, above, 0), near), out=core)
    limits = np.rint(aerated + np.maximum(CORE_SHARE * core, LEAST_ABOVE_HU))
    return np.where(core > LEAST_ABOVE_HU, limits, NO_VESSEL).astype(np.int16)


def _aerated(hu: npt.NDArray[np.int16], lung: BoolArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Return the mean HU of the lung around every voxel without what is denser than its mean: float32 (Z, Y, X).

    Every second voxel along an axis is enough for means over so wide a box, unless voxels are long.
    """
    steps = [2 if 6 * mm <= AROUND_MM else 1 for mm in spacing_mm]
    sides = [max(3, round(AROUND_MM / mm / step)) for mm, step in zip(spacing_mm, steps, strict=True)]
    few = tuple(slice(None, None, step) for step in steps)
    hu_few, lung_few = hu[few], lung[few]
    mean = _mean(hu_few, lung_few & (hu_few <= _mean(hu_few, lung_few, sides)), sides)
    for axis, (count, step) in enumerate(zip(hu.shape, steps, strict=True)):
        mean = mean.repeat(step, axis).take(range(count), axis)
    return mean


def _mean(hu: npt.NDArray[np.int16], mask: BoolArray, sides: list[int]) -> FloatArray:
    share = ndimage.uniform_filter(mask.astype(np.float32), sides, mode="constant")
    total = ndimage.uniform_filter(np.where(mask, hu, 0).astype(np.float32), sides, mode="constant")
    overall = np.float32(hu[mask].mean()) if mask.any() else np.float32(0)
    return np.where(share > 1e-3, total / np.maximum(share, 1e-3), overall)


def _tubes(
    above: FloatArray, lung: BoolArray, blur_mm: float, contrast_hu: float, spacing_mm: tuple[float, float, float]
) -> BoolArray:
    """Mark the dense voxels where HU fall to two sides of a line: bool (Z, Y, X)."""
    blurs = [max(blur_mm / mm, LEAST_BLUR) for mm in spacing_mm]
    smooth = ndimage.gaussian_filter(above, blurs, truncate=3.0)
    tubes = np.zeros(lung.shape, dtype=np.bool_)
    dense = np.flatnonzero(lung & (smooth > contrast_hu))
    slope, hessian = _derivatives(smooth, dense, blurs)
    across, along = _eigenvalues(hessian)
    contrast = smooth.take(dense)
    is_line = (across < -LEAST_CURVATURE * contrast) & (along > MOST_ALONG * across)
    tubes.flat[dense] = is_line & (slope < MOST_SLOPE * contrast)
    return tubes


def _derivatives(
    smooth: FloatArray, voxels: npt.NDArray[np.intp], blurs: list[float]
) -> tuple[FloatArray, list[FloatArray]]:
    """Return slope and second differences (zz, yy, xx, zy, zx, yx) at flat indices, per blur, (N,) each."""
    padded = np.pad(smooth, 1, mode="edge")
    index = np.unravel_index(voxels, smooth.shape)
    centre = np.ravel_multi_index(tuple(axis + 1 for axis in index), padded.shape)
    steps = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)

    def at(offset: int) -> FloatArray:
        return padded.take(centre + offset)

    middle, after, before = at(0), [at(step) for step in steps], [at(-step) for step in steps]
    slopes = [blur / 2 * (high - low) for blur, high, low in zip(blurs, after, before, strict=True)]
    second = [blur**2 * (high - 2 * middle + low) for blur, high, low in zip(blurs, after, before, strict=True)]
    for i, j in combinations(range(3), 2):
        along, against = steps[i] + steps[j], steps[i] - steps[j]
        second.append(blurs[i] * blurs[j] / 4 * (at(along) - at(against) - at(-against) + at(-along)))
    return np.sqrt(sum(np.square(slope) for slope in slopes)), second


def _eigenvalues(hessian: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return the two higher eigenvalues of symmetric 3 x 3 matrices, the highest last (Smith, CACM 4:168, 1961)."""
    zz, yy, xx, zy, zx, yx = hessian
    mean = (zz + yy + xx) / 3
    a, b, c = zz - mean, yy - mean, xx - mean
    spread = np.sqrt((a**2 + b**2 + c**2 + 2 * (zy**2 + zx**2 + yx**2)) / 6)
    determinant = a * (b * c - yx**2) - zy * (zy * c - yx * zx) + zx * (zy * yx - b * zx)
    angle = np.arccos(np.clip(determinant / np.maximum(2 * spread**3, 1e-12), -1, 1)) / 3
    high = mean + 2 * spread * np.cos(angle)
    low = mean + 2 * spread * np.cos(angle + np.float32(2 * np.pi / 3))
    return 3 * mean - high - low, high
