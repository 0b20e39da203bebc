"""Lung masks by classical image processing, for scans that come without one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.lungs.airways import find_airways
from ct.lungs.dense import dense_lung
from ct.lungs.domes import nothing_below, under_domes
from ct.lungs.lone_slice import lungs_of_slice
from ct.lungs.sides import LEFT, RIGHT, left_right
from ct.mask_shapes import close_by_disk
from ct.resample import Transform, coarser_grid

BoolArray = npt.NDArray[np.bool_]

# Half way between aerated lung (-850) and soft tissue (40), where partial volume puts the border of the lungs.
AIR_BELOW_HU = -400
# Finer voxels than these (z, y, x) make the work slow and the mask no better.
WORK_MM = (2.0, 1.6, 1.6)
# Voxels on which consolidated lung is sought; ribs must still be seen.
COARSE_MM = (4.0, 4.0, 4.0)
# Noise of single pixels matters below this size.
FINE_PIXEL_MM = 2.4
CLOSING_MM = 14.0
# Wider gaps towards the mediastinum are great vessels and the aortic arch.
MEDIAL_CLOSING_MM = 10.0
AIRWAY_WALL_MM = 2.0
# Air at a side of the image is outside the body where this share of it is thinner than this or it fills a corner, else
# a lung that the field of view cuts.
OUTSIDE_BELOW_HU = -925
OUTSIDE_PERCENTILE = 75
# Nine tenths of gas are below this; a lung, even an emphysematous one, has vessels.
GAS_BELOW_HU = -910
# A second lung, against the larger one; gas in stomach and bowel is smaller.
SECOND_LUNG_SHARE = 0.15
# Finer pixels of a lone slice make the work slow and the mask no better.
SLICE_WORK_MM = 1.3
# Width that a lone slice of unknown spacing is taken to show.
ASSUMED_WIDTH_MM = 340.0
# Of the masks: raised when they change, so that scans are prepared again.
LUNGS_VERSION = 1


def classical_lungs(hu: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float] | None) -> BoolArray:
    """Find the lungs: air inside the body without the main airways, and the consolidated parts beside it.

    In a volume, gaps up to 28 mm in the air are closed, up to 20 mm towards the mediastinum, so vessels and small
    consolidations belong to the lungs; `dense_lung` finds larger ones, and domes of the diaphragm stay outside. A lung
    without any air is missed, and fluid at the pleura may be taken for lung.

    Args:
        hu: int16 (Z, Y, X) in canonical orientation.
        spacing_mm: Voxel size (z, y, x), or None for slice images: each slice is then taken by itself, at an assumed
            scale.

    Returns:
        bool (Z, Y, X), all False where no lung was found.
    """
    if spacing_mm is None:
        pixel_mm = ASSUMED_WIDTH_MM / max(hu.shape[1:])
        work = coarser_grid(hu.shape, (1.0, pixel_mm, pixel_mm), (1.0, SLICE_WORK_MM, SLICE_WORK_MM))
        planes = [lungs_of_slice(plane, work.spacing_mm[1]) for plane in work.apply_hu(hu)]
        return _restore(work, np.stack(planes))
    work = coarser_grid(hu.shape, spacing_mm, WORK_MM)
    return _restore(work, _lungs_on_grid(work.apply_hu(hu), work.spacing_mm))


def _lungs_on_grid(hu: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> BoolArray:
    lungs, gas, airways = _parts_of_air(hu, spacing_mm)
    if not lungs.any():
        return lungs
    sides, domes = _with_dense_lung(hu, left_right(lungs, spacing_mm), gas | airways, spacing_mm)
    domes &= nothing_below(lungs)
    domes &= sides == 0
    for z, plane in enumerate(sides):
        # Each side by itself: closing both at once would bridge the mediastinum where the lungs nearly touch.
        lungs[z] = (_closed(plane == RIGHT, 1, spacing_mm) | _closed(plane == LEFT, -1, spacing_mm)) & ~domes[z]
        if airways[z].any():
            lungs[z] &= ndimage.distance_transform_edt(~airways[z], sampling=spacing_mm[1:]) > AIRWAY_WALL_MM
    return lungs


def _closed(lung: BoolArray, outwards: int, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Close gaps in a slice of one lung, wide ones only where lung lies between them and the mediastinum."""
    wide, narrow = (
        close_by_disk(lung, (mm / spacing_mm[1], mm / spacing_mm[2])) for mm in (CLOSING_MM, MEDIAL_CLOSING_MM)
    )
    inner = np.logical_or.accumulate(lung[:, ::-outwards], axis=1)[:, ::-outwards]
    return narrow | wide & inner


def _parts_of_air(
    hu: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float]
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return the aerated lungs, gas elsewhere in the body, and the airways."""
    smooth = _smooth(hu, spacing_mm[1])
    air = _inner_air(smooth)
    airways = find_airways(air, spacing_mm)
    air &= ~airways
    return *_lungs_and_gas(air, smooth), airways


def _with_dense_lung(
    hu: npt.NDArray[np.int16], sides: npt.NDArray[np.int8], other_air: BoolArray, spacing_mm: tuple[float, float, float]
) -> tuple[npt.NDArray[np.int8], BoolArray]:
    """Return the sides with their dense parts, and the domes of the diaphragm with a rim of one coarse voxel."""
    coarse = coarser_grid(hu.shape, spacing_mm, COARSE_MM)
    coarse_sides = np.zeros(coarse.shape, dtype=np.int8)
    for side in (RIGHT, LEFT):
        coarse_sides[_shrink(coarse, sides == side)] = side
    domes = under_domes(coarse_sides, coarse.spacing_mm)
    air = _shrink(coarse, other_air)
    dense = dense_lung(coarse.apply_hu(hu), coarse_sides, air, coarse.spacing_mm, domes)
    for side in (RIGHT, LEFT):
        sides[_restore(coarse, dense == side) & (sides == 0)] = side
    return sides, _restore(coarse, ndimage.binary_dilation(domes))


def _shrink(transform: Transform, mask: BoolArray) -> BoolArray:
    """Resample a mask to a coarser grid: True where half of the voxel is."""
    return transform.apply_hu((mask * np.int16(1000)).astype(np.int16)) >= 500


def _restore(transform: Transform, mask: BoolArray) -> BoolArray:
    """Bring a mask back to the finer grid, slice by slice: in float a whole scan would not fit twice."""
    along_z, along_y, along_x = transform.z.inverse(), transform.y.inverse(), transform.x.inverse()
    out = np.zeros((along_z.shape[0], along_y.shape[0], along_x.shape[0]), dtype=np.bool_)
    for z, (start, stop) in enumerate(zip(along_z.indptr[:-1], along_z.indptr[1:], strict=True)):
        plane = sum(along_z.data[i] * mask[along_z.indices[i]].astype(np.float32) for i in range(start, stop))
        out[z] = (along_x @ (along_y @ plane).T).T > 0.5
    return out


def _smooth(hu: npt.NDArray[np.int16], pixel_mm: float) -> npt.NDArray[np.int16]:
    # Pixels of several mm are averages already, and a filter over them would open the chest wall.
    return ndimage.median_filter(hu, size=(1, 3, 3)) if pixel_mm < FINE_PIXEL_MM else hu


def _inner_air(smooth: npt.NDArray[np.int16]) -> BoolArray:
    """Mark air without the air around the body, slice by slice."""
    air = smooth < AIR_BELOW_HU
    for plane, values in zip(air, smooth, strict=True):
        parts, _ = ndimage.label(plane)
        border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        border = border[border > 0]
        corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
        upper = np.array([np.percentile(values[parts == part], OUTSIDE_PERCENTILE) for part in border])
        plane[np.isin(parts, border[(upper < OUTSIDE_BELOW_HU) | np.isin(border, corners)])] = False
    return air


def _lungs_and_gas(air: BoolArray, smooth: npt.NDArray[np.int16]) -> tuple[BoolArray, BoolArray]:
    """Pick the largest one or two pieces of air that are not pure gas; return them, and the gas."""
    parts, count = ndimage.label(air)
    boxes = ndimage.find_objects(parts)
    sizes = np.bincount(parts[air], minlength=count + 1)[1:]
    kept: list[int] = []
    gas: list[int] = []
    for index in np.argsort(sizes)[::-1]:
        if len(kept) == 2 or (kept and sizes[index] < SECOND_LUNG_SHARE * sizes[kept[0] - 1]):
            break
        part = parts[boxes[index]] == index + 1
        # The border is a mixture with the wall, so only the inside tells gas from lung.
        inside = ndimage.binary_erosion(part, np.ones((1, 3, 3)))
        dense = np.percentile(smooth[boxes[index]][inside], 90) if inside.any() else 0
        (gas if dense < GAS_BELOW_HU else kept).append(int(index) + 1)
    is_lung, is_gas = np.isin(np.arange(count + 1), kept), np.isin(np.arange(count + 1), gas)
    return is_lung[parts], is_gas[parts]
