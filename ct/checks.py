"""The gate: what a scan's values and geometry must be to pass, what is repaired, and what is refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ct.scan import OBLIQUE_TOLERANCE, Affine
from ct.volume_file import row_blocks, to_numbers
from ct.wrapped_hu import MODULUS, LowParts, at_border, find_low_parts

AIR_HU = -1024
MAX_HU = int(np.iinfo(np.int16).max)
# Measured on the chests at hand (whole, cropped, one lung): -1023..-500 HU holds 25 % of the voxels or more, -200..200
# HU 24 % or more, and 0.07 % or less lie above 1000 HU.
AIR_RANGE_HU, LEAST_AIR = (AIR_HU + 1, -500), 0.01
SOFT_RANGE_HU, LEAST_SOFT = (-200, 200), 0.05
DENSE_HU, MOST_DENSE = 1000, 0.05
UNEVEN_SHARE = 0.05
# What a voxel (z, y, x) of a chest CT can measure, and a field of view in plane. Metres, centimetres and micrometres
# that were taken for mm fall outside; only where there are few pixels can a narrow field be a crop.
LEAST_VOXEL_MM, MOST_VOXEL_MM = 0.1, (30.0, 15.0, 15.0)
FIELD_MM, CROP_PIXELS = (80.0, 1500.0), 64
# How far, in voxels, those of a cropped mask may lie off the scan's: headers round, but half a voxel is another raster.
COINCIDENCE = 0.1

# Air stored without a sign at 16 bits.
WRAPPED_16 = 65536
WRAPPED_AIR_HU = (WRAPPED_16 - 3072, WRAPPED_16 - 824)

_LOWEST_BIN, _HIGHEST_BIN = int(np.iinfo(np.int16).min), int(np.iinfo(np.uint16).max)


class _Census:
    """Counts of voxels per whole HU, and what was seen on the way; values beyond 16 bits count as the last ones."""

    def __init__(self) -> None:
        self.counts = np.zeros(_HIGHEST_BIN - _LOWEST_BIN + 1, dtype=np.int64)
        self.low, self.high = np.inf, -np.inf
        self.not_finite = 0
        self.fractions = False

    def add(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Count numbers of HU and return them rounded, as far as 16 bits with or without a sign go."""
        hu = numbers
        if numbers.dtype.kind == "f":  # otherwise they came from 16 bits (see `to_numbers`)
            whole = np.rint(numbers)
            self.fractions |= not np.array_equal(whole, numbers)
            hu = np.clip(whole, _LOWEST_BIN, _HIGHEST_BIN).astype(np.int32)
        self.counts += np.bincount(hu.ravel() - _LOWEST_BIN, minlength=len(self.counts))
        return hu

    def move(self, hu: npt.NDArray[np.int32], by: int) -> None:
        """Count voxels that were counted at some HU at others."""
        np.subtract.at(self.counts, hu - _LOWEST_BIN, 1)
        np.add.at(self.counts, hu + by - _LOWEST_BIN, 1)

    def between(self, low: int, high: int) -> int:
        """Count voxels from low to high HU, both included."""
        return int(self.counts[low - _LOWEST_BIN : high - _LOWEST_BIN + 1].sum())

    def present(self, low: int = _LOWEST_BIN) -> npt.NDArray[np.int64]:
        """HU values that occur, from low on."""
        return np.flatnonzero(self.counts[low - _LOWEST_BIN :]) + low


def check_hu(
    values: npt.NDArray[Any],
    where: str,
    scaling: tuple[float, float] = (1.0, 0.0),
    grey_hu: tuple[float, float] | None = None,
) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
    """Check that values are Hounsfield units of a chest and make them int16.

    Works on a few rows at a time, so that beside the result next to nothing is held in memory; slices in which values
    below -1024 lie elsewhere than at the border are looked at again, one after the other.

    Args:
        values: (Z, Y, X) real numbers.
        where: The file, for the error.
        scaling: Slope and intercept that turn them into what the file means.
        grey_hu: The declared HU of values 0 and 255, if the file does not hold HU.

    Returns:
        int16 HU (Z, Y, X), not below -1024, and a sentence for each repair.

    Raises:
        ValueError: NaN or infinite values, one value everywhere, or values that cannot be HU of a chest.
    """
    if grey_hu is not None:
        check_greys(grey_hu, where)
    hu = np.empty(values.shape, dtype=np.int16)
    census = _Census()
    odd = []
    for index in range(len(values)):
        is_odd = False
        for source, target in row_blocks(values[index : index + 1], hu[index : index + 1]):
            numbers = to_numbers(source, *scaling)
            bad = numbers.size - int(np.isfinite(numbers).sum()) if numbers.dtype.kind == "f" else 0
            census.not_finite += bad
            if bad:
                continue
            low, high = float(numbers.min()), float(numbers.max())
            census.low, census.high = min(census.low, low), max(census.high, high)
            if grey_hu is not None:
                numbers = grey_hu[0] + numbers * ((grey_hu[1] - grey_hu[0]) / 255)
            whole = census.add(numbers)
            is_odd |= high > MAX_HU or (low < AIR_HU and not at_border(whole < AIR_HU))
            np.clip(whole, AIR_HU, MAX_HU, out=target, casting="unsafe")
        odd += [index] if is_odd else []
    _check_numbers(census, where, grey_hu)
    unwrapped = _unwrap(values, hu, odd, census, where, scaling) if grey_hu is None else ()
    _check_chest(census, where, grey_hu)
    return hu, unwrapped + _repairs(census, grey_hu, bool(odd))


def _unwrap(
    values: npt.NDArray[Any],
    hu: npt.NDArray[np.int16],
    odd: list[int],
    census: _Census,
    where: str,
    scaling: tuple[float, float],
) -> tuple[str, ...]:
    """Undo in odd slices what was wrapped around, where that is exact, in `hu` and in the census; say what was done."""
    # No HU lie that high: all of them are air that was stored without a sign, or none.
    is_air = census.between(MAX_HU + 1, _HIGHEST_BIN) == census.between(*WRAPPED_AIR_HU) > 0
    metal: list[LowParts] = []
    count = 0
    for index in odd:
        numbers = to_numbers(values[index], *scaling)
        plane = np.clip(np.rint(numbers), _LOWEST_BIN, _HIGHEST_BIN).astype(np.int32)
        if is_air:
            high = plane[plane > MAX_HU]
            hu[index][plane > MAX_HU] = np.maximum(high - WRAPPED_16, AIR_HU)
            plane[plane > MAX_HU] -= WRAPPED_16
            census.move(high, -WRAPPED_16)
            count += high.size
        parts = find_low_parts(plane, AIR_HU)
        if parts is not None:
            hu[index].reshape(-1)[parts.wrapped] = parts.values + MODULUS
            metal.append(parts)
    repairs = (
        [f"{count} voxels above {MAX_HU} HU had been wrapped around at 16 bits and are air again"] if count else []
    )
    return (*repairs, *([_raise_metal(metal, census, where)] if metal else []))


def _raise_metal(metal: list[LowParts], census: _Census, where: str) -> str:
    """Check that metal was wrapped around at 12 bits, and nothing else, and count it where it belongs; say so."""
    wrapped, doubtful = (np.concatenate([getattr(parts, name) for parts in metal]) for name in ("values", "doubtful"))
    # At 12 bits nothing that kept its value reaches the lowest that was wrapped; and metal has more than one value.
    exact = (
        doubtful.size == 0
        and census.present()[-1] < wrapped.min() + MODULUS
        and (wrapped.min() < wrapped.max() or all(parts.closed for parts in metal))
    )
    if not exact:
        inside = np.concatenate([wrapped, doubtful])
        raise ValueError(
            f"{where}: {inside.size} voxels inside the body lie below {AIR_HU} HU (lowest {inside.min()}) amid much "
            f"denser ones; expected padding at the border of the image only; metal or bone was wrapped around, or a "
            f"part was blanked; export the scan again, with 16 bits and unchanged"
        )
    low, high = int(wrapped.min()), int(wrapped.max())
    census.move(wrapped, MODULUS)
    return (
        f"{wrapped.size} voxels inside the body from {low} to {high} HU had been wrapped around at 12 bits and are "
        f"{low + MODULUS} to {high + MODULUS} HU again"
    )


def check_greys(grey_hu: tuple[float, float], where: str) -> None:
    """Check that a declared mapping of greys rises.

    Args:
        grey_hu: The declared HU of grey 0 and grey 255.
        where: The file, for the error.

    Raises:
        ValueError: The first is not below the second.
    """
    low, high = grey_hu
    if not low < high:
        raise ValueError(f"{where}: grey 0 = {low} HU and grey 255 = {high} HU; expected the first lower")


def _check_numbers(census: _Census, where: str, grey_hu: tuple[float, float] | None) -> None:
    if census.not_finite:
        raise ValueError(
            f"{where}: {census.not_finite} voxels are NaN or infinite; expected finite HU; export the scan again"
        )
    if census.low == census.high:
        raise ValueError(f"{where}: all voxels are {census.low:g}; expected an image; export the scan again")
    if grey_hu is not None and census.low < 0:
        raise ValueError(
            f"{where}: values go down to {census.low:g} although grey_low_hu and grey_high_hu declare greys from 0 on; "
            f"leave both blank if the file holds HU"
        )


def _check_chest(census: _Census, where: str, grey_hu: tuple[float, float] | None) -> None:
    """Refuse values without the air and soft tissue of a chest, or with more dense voxels than bone and metal make."""
    inside = max(1, census.between(AIR_HU + 1, _HIGHEST_BIN))
    air = census.between(*AIR_RANGE_HU)
    lowest = int(census.present()[0])
    if AIR_RANGE_HU[0] <= lowest <= AIR_RANGE_HU[1]:
        # A single value at the bottom may be a border of padding around anything.
        air -= census.between(lowest, lowest)
    if air < LEAST_AIR * inside:
        raise ValueError(f"{where}: {_without_air(census, lowest, grey_hu)}")
    dense = census.between(DENSE_HU + 1, _HIGHEST_BIN) / inside
    if dense > MOST_DENSE:
        raise ValueError(
            f"{where}: {dense:.0%} of the voxels lie above {DENSE_HU} HU; expected at most {MOST_DENSE:.0%} (bone and "
            f"metal in a chest); the scan shows no chest, or values were wrapped around or are no HU: export it again"
        )
    soft = census.between(*SOFT_RANGE_HU) / inside
    if soft < LEAST_SOFT:
        raise ValueError(
            f"{where}: {soft:.1%} of the voxels lie between {SOFT_RANGE_HU[0]} and {SOFT_RANGE_HU[1]} HU; expected at "
            f"least {LEAST_SOFT:.0%} of soft tissue; the values are no HU or the scan shows no chest"
        )


def _without_air(census: _Census, lowest: int, grey_hu: tuple[float, float] | None) -> str:
    """Say what values without air look like."""
    total = int(census.counts.sum())
    for modulus in (4096, 65536):
        wrapped = census.between(modulus + AIR_HU, modulus - 1) / total
        if wrapped >= LEAST_AIR and census.between(2000, modulus + AIR_HU - 1) < LEAST_AIR * total:
            return (
                f"{wrapped:.0%} of the voxels lie between {modulus + AIR_HU} and {modulus - 1} and hardly any near "
                f"-1000; expected HU; negative HU were wrapped around (modulo {modulus}); export the scan again as "
                f"signed numbers"
            )
    rest = census.present(AIR_RANGE_HU[1])
    low, high = (f"{census.low:g}", f"{census.high:g}") if grey_hu is None else (lowest, census.present()[-1])
    found = f"values run from {low} to {high}"
    if census.low < AIR_RANGE_HU[1] and len(rest):
        found = f"but for padding (down to {low}), values run from {rest[0]} to {high}"
    if grey_hu is not None:
        greys = f"grey 0 = {grey_hu[0]:g} HU and grey 255 = {grey_hu[1]:g} HU"
        advice = f"with {greys} as declared; correct grey_low_hu and grey_high_hu"
    elif census.low < 0:
        advice = "export the scan in Hounsfield units"
    else:
        advice = (
            "export the scan in Hounsfield units, or, for a volume file, declare grey_low_hu and grey_high_hu "
            "(the HU of values 0 and 255) in cohort.csv"
        )
        advice += "; HU + 1024, which this looks like, are declared as -1024 and -769" if _is_shifted(census) else ""
    return f"{found}, without any air; expected HU with air near -1000; {advice}"


def _is_shifted(census: _Census) -> bool:
    """Tell whether the values would be those of a chest if 1024 were taken off."""
    inside = census.between(1, _HIGHEST_BIN)
    air = census.between(AIR_RANGE_HU[0] - AIR_HU, AIR_RANGE_HU[1] - AIR_HU)
    soft = census.between(SOFT_RANGE_HU[0] - AIR_HU, SOFT_RANGE_HU[1] - AIR_HU)
    dense = census.between(DENSE_HU - AIR_HU, _HIGHEST_BIN)
    return air >= LEAST_AIR * inside and soft >= LEAST_SOFT * inside and dense <= MOST_DENSE * inside


def _repairs(census: _Census, grey_hu: tuple[float, float] | None, inside: bool) -> tuple[str, ...]:
    repairs = []
    present = census.present()
    if grey_hu is not None:
        repairs.append(f"values were turned into HU as declared: 0 is {grey_hu[0]:g} HU and 255 is {grey_hu[1]:g} HU")
    elif census.fractions:
        repairs.append("fractions of a HU were rounded")
    if present[0] < AIR_HU:
        kind = "padding, or noise in air" if inside else "padding"
        bottom = census.low if present[0] == _LOWEST_BIN else present[0]
        lowest = f"{bottom:g}; {kind}" if grey_hu is None else f"{present[0]}"
        count = census.between(_LOWEST_BIN, AIR_HU - 1)
        repairs.append(f"{count} voxels below {AIR_HU} HU (lowest {lowest}) were set to {AIR_HU}")
    if present[-1] > MAX_HU:
        count = census.between(MAX_HU + 1, _HIGHEST_BIN)
        highest = census.high if grey_hu is None else present[-1]
        repairs.append(f"{count} voxels above {MAX_HU} HU (up to {highest:g}) were cut to {MAX_HU}")
    return tuple(repairs)


def check_voxels(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], where: str) -> None:
    """Check that voxels and field of view have the size of a chest CT's, in mm.

    Args:
        shape: (Z, Y, X).
        spacing_mm: (z, y, x).
        where: The file, for the error.

    Raises:
        ValueError: A size that no chest CT has; usually a length in another unit.
    """
    shown = " x ".join(f"{size:g}" for size in spacing_mm)
    if min(spacing_mm) < LEAST_VOXEL_MM or any(s > m for s, m in zip(spacing_mm, MOST_VOXEL_MM, strict=True)):
        raise ValueError(
            f"{where}: voxels (z, y, x) measure {shown} mm; expected at least {LEAST_VOXEL_MM:g} and at most "
            f"{MOST_VOXEL_MM[0]:g} x {MOST_VOXEL_MM[1]:g} x {MOST_VOXEL_MM[2]:g} mm; are they in another unit?"
        )
    fields = [count * size for count, size in zip(shape[1:], spacing_mm[1:], strict=True)]
    narrow = min(fields) < FIELD_MM[0] and min(shape[1:]) >= CROP_PIXELS
    if narrow or max(fields) > FIELD_MM[1]:
        raise ValueError(
            f"{where}: the slices of {shape[1]} x {shape[2]} pixels measure {fields[0]:.1f} x {fields[1]:.1f} mm; "
            f"expected {FIELD_MM[0]:g} to {FIELD_MM[1]:g} mm; is the voxel size in another unit?"
        )


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
    seen = np.linalg.solve(scan_affine, affine @ corners)
    cropped = shape != scan_shape
    offset = np.rint(seen[:3, 0]) if cropped else np.zeros(3)
    shift = float(np.abs(seen[:3] - corners[:3] - offset[:, None]).max())
    advice = "draw it on this scan's grid, or export it with the scan as reference for its extent and spacing"
    # Written this way round, NaN is refused as well.
    if not cropped and not shift <= 0.5:
        raise ValueError(
            f"{where}: the mask lies up to {shift:.2f} voxels away from the scan; expected the scan's own grid (within "
            f"half a voxel); {advice}"
        )
    if cropped and not shift <= COINCIDENCE:
        raise ValueError(
            f"{where}: the mask has (z, y, x) = {shape} voxels; expected the scan's {scan_shape}, or a part of them "
            f"voxel for voxel, but they lie up to {shift:.2f} voxels off the scan's; {advice}"
        )
    first = (int(offset[2]), int(offset[1]), int(offset[0]))
    beyond = max(max(-at, at + count - whole) for at, count, whole in zip(first, shape, scan_shape, strict=True))
    if beyond > 0:
        raise ValueError(
            f"{where}: the mask has (z, y, x) = {shape} voxels; expected the scan's {scan_shape}, or a part of them, "
            f"but it sticks out of the scan by {beyond} voxels; {advice}"
        )
    return first
