"""Checks of geometry: sizes of voxels, stacks of slices, and places of masks in their scans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ct.refusal import Refusal, Sentence, Word
from ct.scan import OBLIQUE_TOLERANCE, Affine

UNEVEN_SHARE = 0.05
# Possible sizes of voxels (z, y, x) of a chest CT, and of its field of view in plane. Metres, centimetres and
# micrometres that were taken for mm fall outside; a narrow field can only be a crop where there are few pixels.
LEAST_VOXEL_MM, MOST_VOXEL_MM = 0.1, (30.0, 15.0, 15.0)
FIELD_MM, CROP_PIXELS = (80.0, 1500.0), 64
# How many voxels a cropped mask may lie off the scan's grid: headers round, but half a voxel is another grid.
COINCIDENCE = 0.1


def check_voxels(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], where: str) -> None:
    """Check that voxels and field of view have sizes of a chest CT in mm.

    Args:
        shape: (Z, Y, X).
        spacing_mm: (z, y, x).
        where: The file, for the error.

    Raises:
        ValueError: A size that no chest CT has; usually a length in another unit.
    """
    if min(spacing_mm) < LEAST_VOXEL_MM or any(s > m for s, m in zip(spacing_mm, MOST_VOXEL_MM, strict=True)):
        raise Refusal(
            "{where}: voxels (z, y, x) measure {sizes} mm; expected at least {least:g} and at most {most} mm; are they "
            "in another unit?",
            where=where,
            sizes=_by(spacing_mm),
            least=LEAST_VOXEL_MM,
            most=_by(MOST_VOXEL_MM),
        )
    fields = [count * size for count, size in zip(shape[1:], spacing_mm[1:], strict=True)]
    narrow = min(fields) < FIELD_MM[0] and min(shape[1:]) >= CROP_PIXELS
    if narrow or max(fields) > FIELD_MM[1]:
        raise Refusal(
            "{where}: the slices of {shape} pixels measure {fields} mm; expected {least:g} to {most:g} mm; is the "
            "voxel size in another unit?",
            where=where,
            shape=_by(shape[1:]),
            fields=_by([round(size, 1) for size in fields]),
            least=FIELD_MM[0],
            most=FIELD_MM[1],
        )


def _by(sizes: Sequence[float]) -> Sentence:
    """Return sizes as in 1 x 2 x 3."""
    return Sentence.joined(" x ", [Sentence("{size:g}", size=size) for size in sizes])


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
        raise Refusal(
            "{where}: two slices lie at the same place ({at:.2f} mm along the stack); expected one there",
            where=where,
            at=at,
        )
    if np.abs(steps - usual).max() > UNEVEN_SHARE * usual:
        worst = int(np.abs(steps - usual).argmax())
        raise Refusal(
            "{where}: the slices are {step:.2f} mm apart near {along:.2f} mm but {usual:.2f} mm elsewhere; "
            "expected even steps; a slice is missing or two series are mixed",
            where=where,
            step=steps[worst],
            along=along[worst],
            usual=usual,
        )
    direction = positions_mm[-1] - positions_mm[0]
    tilt = float(np.linalg.norm(np.cross(direction / np.linalg.norm(direction), normal)))
    if tilt > OBLIQUE_TOLERANCE:
        raise Refusal(
            "{where}: the slices are stacked {degrees:.2f} degrees off their normal (tilted gantry); "
            "expected an upright stack; resample the series first",
            where=where,
            degrees=np.degrees(np.arcsin(min(tilt, 1.0))),
        )
    line = positions_mm[0] + np.outer(np.linspace(0, 1, len(positions_mm)), direction)
    sideways = float(np.linalg.norm(np.cross(positions_mm - line, normal), axis=1).max())
    if sideways > UNEVEN_SHARE * usual:
        raise Refusal(
            "{where}: slices are shifted sideways by up to {sideways:.2f} mm; expected a straight stack",
            where=where,
            sideways=sideways,
        )


def place_mask(
    shape: tuple[int, ...], affine: Affine, scan_shape: tuple[int, ...], scan_affine: Affine, where: str
) -> tuple[int, int, int]:
    """Find where a mask lies in its scan: on its canonical grid, or on a part of it where voxels coincide.

    Args:
        shape: (Z, Y, X) of the mask.
        affine: (4, 4) of the mask's canonical (x, y, z).
        scan_shape: (Z, Y, X) of the scan.
        scan_affine: (4, 4) of the scan's canonical (x, y, z).
        where: The mask's file, for the error.

    Returns:
        The scan's voxel (z, y, x) on which the mask's first lies; (0, 0, 0) for a mask of the scan's shape.

    Raises:
        ValueError: A mask of the scan's shape with a corner more than half a voxel away; one of another shape with a
            corner more than `COINCIDENCE` off the scan's voxels, or outside of the scan.
    """
    ends = [(0, count - 1) for count in reversed(shape)]
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=np.float64).T
    in_scan = np.linalg.solve(scan_affine, affine @ corners)
    cropped = shape != scan_shape
    offset = np.rint(in_scan[:3, 0]) if cropped else np.zeros(3)
    shift = float(np.abs(in_scan[:3] - corners[:3] - offset[:, None]).max())
    advice = Word("draw it on this scan's grid, or export it with the scan as reference for its extent and spacing")
    # Written this way round, NaN is refused as well.
    if not cropped and not shift <= 0.5:
        raise Refusal(
            "{where}: the mask lies up to {shift:.2f} voxels away from the scan; expected the scan's own "
            "grid (within half a voxel); {advice}",
            where=where,
            shift=shift,
            advice=advice,
        )
    if cropped and not shift <= COINCIDENCE:
        raise Refusal(
            "{where}: the mask has (z, y, x) = {shape} voxels; expected the scan's {scan_shape}, or a part "
            "of them voxel for voxel, but they lie up to {shift:.2f} voxels off the scan's; {advice}",
            where=where,
            shape=shape,
            scan_shape=scan_shape,
            shift=shift,
            advice=advice,
        )
    first = (int(offset[2]), int(offset[1]), int(offset[0]))
    beyond = max(max(-at, at + count - whole) for at, count, whole in zip(first, shape, scan_shape, strict=True))
    if beyond > 0:
        raise Refusal(
            "{where}: the mask has (z, y, x) = {shape} voxels; expected the scan's {scan_shape}, or a part "
            "of them, but it sticks out of the scan by {beyond} voxels; {advice}",
            where=where,
            shape=shape,
            scan_shape=scan_shape,
            beyond=beyond,
            advice=advice,
        )
    return first
