"""The gate: what a scan's values and geometry must be to pass, what is repaired, and what is refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ct.scan import OBLIQUE_TOLERANCE, Affine

AIR_HU = -1024
# Any chest CT holds air below this; values that never go there are grey values or another modality.
SOME_AIR_HU = -500
UNEVEN_SHARE = 0.05


def check_hu(values: npt.NDArray[Any], where: str) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
    """Check that values are Hounsfield units and make them int16.

    Args:
        values: Real numbers of any shape.
        where: The file, for the error.

    Returns:
        int16 HU of the same shape, not below -1024, and a sentence for each repair.

    Raises:
        ValueError: NaN or infinite values, or values that cannot be HU of a chest.
    """
    floating = np.issubdtype(values.dtype, np.floating)
    if floating and not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise ValueError(f"{where}: {count} voxels are NaN or infinite; expected finite HU; export the scan again")
    low, high = float(values.min()), float(values.max())
    if low > SOME_AIR_HU:
        raise ValueError(
            f"{where}: values run from {low:g} to {high:g}, without any air; expected HU with air near -1000; "
            f"export the scan in Hounsfield units"
        )
    repairs = []
    if floating:
        rounded = np.rint(values)
        if not np.array_equal(rounded, values):
            repairs.append("fractions of a HU were rounded")
        values = rounded
    if low < AIR_HU:
        count = int((values < AIR_HU).sum())
        repairs.append(f"{count} voxels below {AIR_HU} HU (lowest {low:g}; padding) were set to {AIR_HU}")
    if high > np.iinfo(np.int16).max:
        repairs.append(f"values up to {high:g} HU were cut to {np.iinfo(np.int16).max}")
    return np.clip(values, AIR_HU, np.iinfo(np.int16).max).astype(np.int16), tuple(repairs)


def check_stack(positions_mm: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], where: str) -> None:
    """Check that slices form an even, upright stack: no duplicate, no gap, no tilt, no sideways shift.

    Args:
        positions_mm: (N, 3) positions of the slices, N >= 2, sorted along the normal.
        normal: (3,) unit normal of the slices.
        where: The series, for the error.

    Raises:
        ValueError: The stack is not even and upright.
    """
    along = positions_mm @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    if steps.min() <= 1e-3:
        at = float(along[int(steps.argmin())])
        raise ValueError(f"{where}: two slices lie at the same place ({at:.2f} mm along the stack); expected one there")
    if np.abs(steps - usual).max() > UNEVEN_SHARE * usual:
        worst = int(np.abs(steps - usual).argmax())
        raise ValueError(
            f"{where}: the slices are {steps[worst]:.2f} mm apart near {along[worst]:.2f} mm but {usual:.2f} mm "
            f"elsewhere; expected even steps; a slice is missing or two series are mixed"
        )
    direction = positions_mm[-1] - positions_mm[0]
    tilt = float(np.linalg.norm(np.cross(direction / np.linalg.norm(direction), normal)))
    if tilt > OBLIQUE_TOLERANCE:
        raise ValueError(
            f"{where}: the slices are stacked {np.degrees(np.arcsin(min(tilt, 1.0))):.2f} degrees off their normal "
            f"(tilted gantry); expected an upright stack; resample the series first"
        )
    line = positions_mm[0] + np.outer(np.linspace(0, 1, len(positions_mm)), direction)
    sideways = float(np.linalg.norm(np.cross(positions_mm - line, normal), axis=1).max())
    if sideways > UNEVEN_SHARE * usual:
        raise ValueError(f"{where}: slices are shifted sideways by up to {sideways:.2f} mm; expected a straight stack")


def check_same_grid(
    shape: tuple[int, ...], affine: Affine, scan_shape: tuple[int, ...], scan_affine: Affine, where: str
) -> None:
    """Check that a mask lies on its scan's canonical grid, each corner within half a voxel.

    Args:
        shape: (Z, Y, X) of the mask.
        affine: (4, 4) of the mask's canonical (x, y, z).
        scan_shape: (Z, Y, X) of the scan.
        scan_affine: (4, 4) of the scan's canonical (x, y, z).
        where: The mask's file, for the error.

    Raises:
        ValueError: Other shape, or a corner more than half a voxel away.
    """
    if shape != scan_shape:
        raise ValueError(
            f"{where}: the mask has (z, y, x) = {shape} voxels; expected the scan's {scan_shape}; "
            f"draw it on this scan's grid"
        )
    ends = [(0, count - 1) for count in reversed(shape)]
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=np.float64).T
    seen = np.linalg.solve(scan_affine, affine @ corners)
    shift = float(np.abs(seen - corners).max())
    if shift > 0.5:
        raise ValueError(
            f"{where}: the mask lies up to {shift:.2f} voxels away from the scan; expected the scan's own grid (within "
            f"half a voxel); draw it on this scan's grid"
        )
