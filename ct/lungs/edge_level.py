"""Grey level at which the dark parts of a slice have the sharpest border: that of the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.mask_shapes import open_by_ball, parts_at_corners

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

# Half way between aerated lung and soft tissue is -400 HU; slices whose contrast was changed have it elsewhere.
LEVELS_HU = range(-900, -149, 50)
# The lowest level that is nearly as sharp as the sharpest leaves out fat, and hazy lung too.
NEARLY = 0.93
# Gown, sheet and the shell of a table, which a ball of this radius does not fit into, do not keep air in the body.
WALL_MM = 2.6
SMALLEST_PART_MM2 = 150.0
# Less than this share of the image is a trachea.
LEAST_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Level:
    """A grey level and what it parts.

    Attributes:
        value: The level, in the units of the slice.
        dark: bool (Y, X), darker and not outside the body.
        thick: bool (Y, X), brighter, without what is thin.
        body: bool (Y, X), all that is not outside.
    """

    value: float
    dark: BoolArray
    thick: BoolArray
    body: BoolArray


def find_levels(smooth: FloatArray, sharpness: FloatArray, pixel_mm: float) -> tuple[Level, Level] | None:
    """Find the level at which dark parts inside the body have the sharpest border, and the lowest that comes near it.

    A level too high takes in fat, whose border is faint; one too low ends inside the lung. HU need not be exact for
    that, as long as the border lies between -900 and -150 of what is declared: it holds for slices whose contrast was
    stretched or equalised.

    Args:
        smooth: float32 (Y, X), HU or what is declared as such, without noise.
        sharpness: float32 (Y, X), the size of its gradient.
        pixel_mm: Size of the pixels.

    Returns:
        The low and the sharpest level, which may be the same; None where no level parts anything.
    """
    found = []
    for value in LEVELS_HU:
        tissue = smooth > value
        thick = open_by_ball(tissue, WALL_MM, (pixel_mm, pixel_mm))
        body = ~parts_at_corners(~thick)  # a lung that is cut by a side of the image stays in the body
        level = Level(value, ~tissue & body, thick, body)
        large = _large_parts(level.dark, pixel_mm)
        border = border_of(large)
        if large.mean() >= LEAST_SHARE and border.any():
            found.append((float(sharpness[border].mean()), level))
    if not found:
        return None
    sharpest, best = max(found, key=lambda pair: pair[0])
    return next(level for sharp, level in found if sharp >= NEARLY * sharpest), best


def border_of(mask: BoolArray) -> BoolArray:
    """Mark the outer border of a mask, without its holes and without what lies at the image's sides.

    Args:
        mask: bool (Y, X).

    Returns:
        bool (Y, X).
    """
    filled = ndimage.binary_fill_holes(mask)
    border: BoolArray = filled & ~ndimage.binary_erosion(filled)
    border[[0, -1]] = border[:, [0, -1]] = False
    return border


def _large_parts(dark: BoolArray, pixel_mm: float) -> BoolArray:
    parts, count = ndimage.label(dark)
    large = np.bincount(parts.ravel(), minlength=count + 1) * pixel_mm**2 > SMALLEST_PART_MM2
    large[0] = False
    return large[parts]
