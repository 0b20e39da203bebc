"""Trachea and main bronchi: air between the lungs that belongs to neither."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]

# Cross-section of a trachea, and of the main bronchi where they part.
TRACHEA_MM2 = (50.0, 700.0)
LARGEST_MM2 = 1000.0
# How far from the middle of the lungs it may begin.
OFF_CENTRE_MM = 35.0


def find_airways(air: BoolArray, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Follow the trachea down from the highest slice that shows it, until the bronchi enter the lungs.

    Args:
        air: bool (Z, Y, X), air inside the body, in canonical orientation.
        spacing_mm: Voxel size (z, y, x).

    Returns:
        bool (Z, Y, X), part of `air`; all False where no trachea is seen.
    """
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    airway = np.zeros_like(air)
    columns = np.flatnonzero(air.any(axis=(0, 1)))
    if not columns.size:
        return airway
    middle = (columns[0] + columns[-1]) / 2
    above = np.zeros_like(air[0])
    for z in range(len(air) - 1, -1, -1):
        parts, count = ndimage.label(air[z])
        areas = np.bincount(parts.ravel(), minlength=count + 1) * pixel_mm2
        if above.any():
            touched = np.unique(parts[ndimage.binary_dilation(above)])
            chosen = [part for part in touched if part and areas[part] <= LARGEST_MM2]
        else:
            chosen = [
                part for part in range(1, count + 1) if _is_trachea(parts == part, areas[part], middle, spacing_mm)
            ]
        above = np.isin(parts, chosen)
        airway[z] = above
        if not above.any() and airway.any():
            break
    return airway


def _is_trachea(part: BoolArray, area_mm2: float, middle: float, spacing_mm: tuple[float, float, float]) -> bool:
    """Return whether a piece of air in a slice has the size, place and roundness of a trachea."""
    if not TRACHEA_MM2[0] <= area_mm2 <= TRACHEA_MM2[1]:
        return False
    rows, columns = np.nonzero(part)
    height, width = np.ptp(rows) * spacing_mm[1] + spacing_mm[1], np.ptp(columns) * spacing_mm[2] + spacing_mm[2]
    is_round = area_mm2 > 0.5 * height * width and max(height, width) <= 2.5 * min(height, width)
    return bool(is_round and abs(columns.mean() - middle) * spacing_mm[2] <= OFF_CENTRE_MM)
