"""Wrapped HU: metal inside the body that was wrapped around at 12 bits to below air, told from noise and padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

MODULUS = 4096
# From air, noise of air or a dark streak to the densest tissue beside it.
MOST_JUMP_HU = 1300
# A region whose rim is already this deep is neither noise nor fades into air.
DEEP_HU = -1800
# Along nearly all of its rim, a wrapped region is closer to its surroundings when the modulus is added.
WRAPPED_JUMP_HU, LEAST_RIM = MODULUS // 2, 0.95
# Where adding the modulus leaves at most this jump at the rim, even a region of a single value was not blanked.
CLOSED_RIM_HU = 500


@dataclass(frozen=True, eq=False)
class LowParts:
    """Pixels below air inside a slice that cannot be air, since the pixels around them are much denser.

    Attributes:
        wrapped: int64 (N,), flat indices of the pixels that were wrapped around.
        values: int32 (N,), their HU as stored.
        closed: Whether adding the modulus removes the jump at every rim.
        doubtful: HU of the pixels that are neither air nor clearly wrapped around.
    """

    wrapped: npt.NDArray[np.int64]
    values: npt.NDArray[np.int32]
    closed: bool
    doubtful: npt.NDArray[np.int32]


def may_hold_more_than_air(block: npt.NDArray[np.int32], air_hu: int) -> bool:
    """Return, after a fast check of some rows, whether `find_low_parts` has to examine their slice.

    Args:
        block: int32 (rows, columns), HU as stored, some of them below air.
        air_hu: Lowest HU of a CT.
    """
    low = block < air_hu
    inner = _between_runs(low)
    if not inner.any():
        return False
    height, width = block.shape
    at, flat = np.flatnonzero(inner), block.ravel()
    hu = flat[at]
    if (hu < DEEP_HU).any():
        return True
    # Few voxels are low, so their neighbours are looked up instead of taking all differences.
    row, column = np.divmod(at, width)
    neighbours = ((-1, column > 0), (1, column < width - 1), (-width, row > 0), (width, row < height - 1))
    return any((flat[at[exists] + step] - hu[exists] > MOST_JUMP_HU).any() for step, exists in neighbours)


def _between_runs(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask without the runs that begin at the left or right edge of a row, where padding lies."""
    rest = ~mask
    columns = np.arange(mask.shape[1])
    first = np.where(mask.all(axis=1), mask.shape[1], rest.argmax(axis=1))
    last = mask.shape[1] - 1 - rest[:, ::-1].argmax(axis=1)
    return mask & (columns > first[:, None]) & (columns < last[:, None])


def touching_border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return those parts of a mask (rows, columns) that touch an edge of the image."""
    if not _between_runs(mask).any():
        return mask
    parts, _ = ndimage.label(mask)
    return _outer(parts)


def find_low_parts(plane: npt.NDArray[np.int32], air_hu: int) -> LowParts | None:
    """Find the pixels of a slice that were wrapped around.

    Padding touches the border of the image. Inside, noise of air and dark streaks lie among air or fade into tissue;
    but at the rim of metal that was wrapped around, HU jump by most of the modulus.

    Args:
        plane: int32 (Y, X), HU as stored.
        air_hu: Lowest HU of a CT.

    Returns:
        The parts, or None where every pixel below air may be noise or padding.
    """
    low = plane < air_hu
    # A field of view of any shape may be padded with one value: regions that touch this padding lie at its border.
    padding = plane[0, 0] if (plane[:3, :3] == plane[0, 0]).all() else air_hu
    parts, _ = ndimage.label((plane <= air_hu) | (plane == padding))
    parts[_outer(parts) | ~low] = 0
    index, jump = _rims(plane, parts > 0, low)
    part, level = parts.ravel()[index], plane.ravel()[index]
    wrapped: list[npt.NDArray[np.intp]] = []
    doubtful: list[npt.NDArray[np.intp]] = []
    closed = True
    for number in np.unique(part[(jump > MOST_JUMP_HU) | (level < DEEP_HU)]):
        rim = jump[part == number]
        if np.median(rim) <= MOST_JUMP_HU and np.median(level[part == number]) >= DEEP_HU:
            continue
        certain = (rim > WRAPPED_JUMP_HU).mean() >= LEAST_RIM
        (wrapped if certain else doubtful).append(np.flatnonzero(parts == number))
        closed &= bool(np.median(np.abs(MODULUS - rim)) <= CLOSED_RIM_HU)
    if not wrapped and not doubtful:
        return None
    indices, others = (np.concatenate([np.empty(0, np.int64), *group]) for group in (wrapped, doubtful))
    return LowParts(indices, plane.ravel()[indices], closed, plane.ravel()[others])


def _outer(parts: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Return the mask of the labelled parts that touch an edge."""
    at_edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, at_edge[at_edge > 0])


def _rims(
    plane: npt.NDArray[np.int32], inside: npt.NDArray[np.bool_], low: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the flat index of each inner pixel beside one that is not low, and how much higher its neighbour is."""
    places = np.arange(plane.size).reshape(plane.shape)
    indices, jumps = [], []
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        for inner, outer in ((first, second), (second, first)):
            rim = inside[inner] & ~low[outer]
            indices.append(places[inner][rim])
            jumps.append(plane[outer][rim] - plane[inner][rim])
    return np.concatenate(indices), np.concatenate(jumps)
