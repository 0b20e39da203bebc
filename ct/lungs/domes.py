"""Space under the domes of the diaphragm: liver, stomach, spleen, bowel and fat that the lungs surround."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ct.lungs.sides import LEFT, RIGHT
from ct.mask_shapes import convex_hull, open_by_ball

BoolArray = npt.NDArray[np.bool_]

# A dome is flatter than a ball of this radius; a consolidation that lies on it is not.
DOME_BALL_MM = 45.0


def under_domes(sides: npt.NDArray[np.int8], spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Mark what lies under the diaphragm between the recesses of a lung.

    The recesses of the pleura reach far down behind and beside a dome, so what lies under it has lung behind and
    beside it in the same slice, and none below. A consolidation at the base has none below it either; but it bulges
    out of the smooth surface of the dome, or it reaches the ribs behind or beside it. Where it hides the lung behind a
    part of the dome, the convex hull of the other parts has that one too.

    Args:
        sides: int8 (Z, Y, X) in canonical orientation, the aerated lungs, 1 = right, 2 = left; voxels of a few mm.
        spacing_mm: Voxel size (z, y, x).

    Returns:
        bool (Z, Y, X), none of it above aerated lung.
    """
    domes = np.zeros(sides.shape, dtype=np.bool_)
    for side in (RIGHT, LEFT):
        lung = sides == side
        smooth = open_by_ball(nothing_below(lung), DOME_BALL_MM, spacing_mm)
        outwards = slice(None, None, 1 if side == RIGHT else -1)
        beside = np.logical_or.accumulate(lung[:, :, outwards], axis=2)[:, :, outwards]
        behind = np.logical_or.accumulate(lung[:, ::-1], axis=1)[:, ::-1]
        between = smooth & beside & behind
        for z in np.flatnonzero(between.any(axis=(1, 2))):
            domes[z] |= convex_hull(between[z]) & smooth[z]
    return domes


def nothing_below(lung: BoolArray) -> BoolArray:
    """Mark the voxels that are no lung and have none between them and the scan's lowest slice.

    Args:
        lung: bool (Z, Y, X) in canonical orientation.

    Returns:
        bool (Z, Y, X).
    """
    return ~np.logical_or.accumulate(lung, axis=0)
