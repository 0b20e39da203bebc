"""Gate for voxel values: what passes as Hounsfield units of a chest, what is repaired, what is refused and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ct.files.volume_file import row_blocks, to_numbers
from ct.grey_window import GreyWindow, check_greys, describe_windows
from ct.refusal import Refusal, Sentence, Word
from ct.wrapped_hu import MODULUS, LowParts, find_low_parts, may_hold_more_than_air

AIR_HU = -1024
MAX_HU = int(np.iinfo(np.int16).max)
# Measured on the chests at hand (whole, cropped, one lung): -1023..-500 HU holds 25 % of the voxels or more, -200..200
# HU 24 % or more, and 0.07 % or less lie above 1000 HU.
AIR_RANGE_HU, LEAST_AIR = (AIR_HU + 1, -500), 0.01
SOFT_RANGE_HU, LEAST_SOFT = (-200, 200), 0.05
DENSE_HU, MOST_DENSE = 1000, 0.05
# Air stored without a sign at 16 bits.
WRAPPED_16 = 65536
WRAPPED_AIR_HU = (WRAPPED_16 - 3072, WRAPPED_16 - 824)
SHIFTED = Sentence("; HU + 1024, which this looks like, are declared as -1024 and -769")

_LOWEST_BIN, _HIGHEST_BIN = int(np.iinfo(np.int16).min), int(np.iinfo(np.uint16).max)


class _Census:
    """Voxel counts per whole HU, with the range of the values; values beyond 16 bits count at the ends of the table."""

    def __init__(self) -> None:
        self.counts = np.zeros(_HIGHEST_BIN - _LOWEST_BIN + 1, dtype=np.int64)
        self.low, self.high = np.inf, -np.inf
        self.not_finite = 0
        self.fractions = False

    def add(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Count HU and return them rounded, cut to the range of 16 bits with or without a sign."""
        hu = numbers
        if numbers.dtype.kind == "f":  # otherwise they came from 16 bits (see `to_numbers`)
            rounded = np.rint(numbers)
            self.fractions |= not np.array_equal(rounded, numbers)
            hu = np.clip(rounded, _LOWEST_BIN, _HIGHEST_BIN).astype(np.int32)
        self.counts += np.bincount(hu.ravel() - _LOWEST_BIN, minlength=len(self.counts))
        return hu

    def move(self, hu: npt.NDArray[np.int32], by: int) -> None:
        """Move the counts of voxels from some HU to others."""
        np.subtract.at(self.counts, hu - _LOWEST_BIN, 1)
        np.add.at(self.counts, hu + by - _LOWEST_BIN, 1)

    def between(self, low: int, high: int) -> int:
        """Count voxels from low to high HU, both included."""
        return int(self.counts[low - _LOWEST_BIN : high - _LOWEST_BIN + 1].sum())

    def present(self, low: int = _LOWEST_BIN) -> npt.NDArray[np.int64]:
        """Return the HU that occur, from low on."""
        return np.flatnonzero(self.counts[low - _LOWEST_BIN :]) + low


def check_hu(
    values: npt.NDArray[Any],
    where: str,
    scaling: tuple[float, float] = (1.0, 0.0),
    greys: GreyWindow | None = None,
) -> tuple[npt.NDArray[np.int16], tuple[Sentence, ...]]:
    """Check that values are Hounsfield units of a chest and make them int16.

    Works on a few rows at a time, so that little memory is needed beside the result. Slices in which values below -1024
    may be more than padding and noise are examined again, one after the other.

    Args:
        values: (Z, Y, X) real numbers.
        where: The file, for the error.
        scaling: Slope and intercept that turn them into what the file means.
        greys: The window of its grey values, if the file does not hold HU.

    Returns:
        int16 HU (Z, Y, X), not below -1024, and a sentence for each repair.

    Raises:
        ValueError: NaN or infinite values, one value everywhere, or values that cannot be HU of a chest.
    """
    if greys is not None:
        check_greys((greys.low_hu, greys.high_hu), where)
    hu = np.empty(values.shape, dtype=np.int16)
    census = _Census()
    suspects = []
    for index in range(len(values)):
        suspect = False
        for source, target in row_blocks(values[index : index + 1], hu[index : index + 1]):
            numbers = to_numbers(source, *scaling)
            not_finite = numbers.size - int(np.isfinite(numbers).sum()) if numbers.dtype.kind == "f" else 0
            census.not_finite += not_finite
            if not_finite:
                continue
            low, high = float(numbers.min()), float(numbers.max())
            census.low, census.high = min(census.low, low), max(census.high, high)
            if greys is not None:
                numbers = greys.low_hu + numbers * ((greys.high_hu - greys.low_hu) / 255)
            rounded = census.add(numbers)
            suspect |= high > MAX_HU or (low < AIR_HU and may_hold_more_than_air(rounded, AIR_HU))
            np.clip(rounded, AIR_HU, MAX_HU, out=target, casting="unsafe")
        suspects += [index] if suspect else []
    _check_numbers(census, where, greys)
    unwrapped = _unwrap(values, hu, suspects, census, where, scaling) if greys is None else ()
    _check_chest(census, where, greys)
    return hu, unwrapped + _repairs(census, greys)


def _unwrap(
    values: npt.NDArray[Any],
    hu: npt.NDArray[np.int16],
    suspects: list[int],
    census: _Census,
    where: str,
    scaling: tuple[float, float],
) -> tuple[Sentence, ...]:
    """Undo exact wraparounds in suspect slices, in `hu` and in the census; return a sentence for each kind."""
    # No HU lie that high: either all of these values are air that was stored without a sign, or none is.
    is_air = census.between(MAX_HU + 1, _HIGHEST_BIN) == census.between(*WRAPPED_AIR_HU) > 0
    metal: list[LowParts] = []
    count = 0
    for index in suspects:
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
    repairs = []
    if count:
        text = "{count} voxels above {most} HU had been wrapped around at 16 bits and are air again"
        repairs.append(Sentence(text, count=count, most=MAX_HU))
    return (*repairs, *([_raise_metal(metal, census, where)] if metal else []))


def _raise_metal(metal: list[LowParts], census: _Census, where: str) -> Sentence:
    """Check that only metal was wrapped around, at 12 bits, and correct the census; return a sentence about it."""
    wrapped, doubtful = (np.concatenate([getattr(parts, name) for parts in metal]) for name in ("values", "doubtful"))
    # At 12 bits nothing that kept its value reaches the lowest that was wrapped; and metal has more than one value.
    exact = (
        doubtful.size == 0
        and census.present()[-1] < wrapped.min() + MODULUS
        and (wrapped.min() < wrapped.max() or all(parts.closed for parts in metal))
    )
    if not exact:
        _check_chest(census, where, None)  # gives the better reason where the values are no HU at all
        below_air = np.concatenate([wrapped, doubtful])
        raise Refusal(
            "{where}: {count} voxels inside the body lie below {air} HU (lowest {lowest}) amid much denser ones; "
            "expected padding at the border of the image only; metal or bone was wrapped around, or a part was "
            "blanked; export the scan again, with 16 bits and unchanged",
            where=where,
            count=below_air.size,
            air=AIR_HU,
            lowest=below_air.min(),
        )
    low, high = int(wrapped.min()), int(wrapped.max())
    census.move(wrapped, MODULUS)
    return Sentence(
        "{count} voxels inside the body from {low} to {high} HU had been wrapped around at 12 bits and are {bottom} to "
        "{top} HU again",
        count=wrapped.size,
        low=low,
        high=high,
        bottom=low + MODULUS,
        top=high + MODULUS,
    )


def _check_numbers(census: _Census, where: str, greys: GreyWindow | None) -> None:
    if census.not_finite:
        text = "{where}: {count} voxels are NaN or infinite; expected finite HU; export the scan again"
        raise Refusal(text, where=where, count=census.not_finite)
    if census.low == census.high:
        raise Refusal(
            "{where}: all voxels are {low:g}; expected an image; export the scan again", where=where, low=census.low
        )
    if greys is not None and census.low < 0:
        raise Refusal(
            "{where}: values go down to {low:g} although grey_low_hu and grey_high_hu declare greys from 0 "
            "on; leave both blank if the file holds HU",
            where=where,
            low=census.low,
        )


def _check_chest(census: _Census, where: str, greys: GreyWindow | None) -> None:
    """Refuse values without the air and soft tissue of a chest, or with more dense voxels than bone and metal make."""
    total = max(1, census.between(AIR_HU + 1, _HIGHEST_BIN))
    air = census.between(*AIR_RANGE_HU)
    lowest = int(census.present()[0])
    if AIR_RANGE_HU[0] <= lowest <= AIR_RANGE_HU[1]:
        # A single value at the bottom may be a border of padding around anything.
        air -= census.between(lowest, lowest)
    if air < LEAST_AIR * total:
        raise Refusal("{where}: {values}", where=where, values=_without_air(census, lowest, greys))
    dense = census.between(DENSE_HU + 1, _HIGHEST_BIN) / total
    if dense > MOST_DENSE:
        raise Refusal(
            "{where}: {dense:.0%} of the voxels lie above {above} HU; expected at most {most:.0%} (bone and metal in a "
            "chest); the scan shows no chest, or values were wrapped around or are no HU: export it again",
            where=where,
            dense=dense,
            above=DENSE_HU,
            most=MOST_DENSE,
        )
    soft = census.between(*SOFT_RANGE_HU) / total
    if soft < LEAST_SOFT:
        raise Refusal(
            "{where}: {soft:.1%} of the voxels lie between {low} and {high} HU; expected at least {least:.0%} of soft "
            "tissue; the values are no HU or the scan shows no chest",
            where=where,
            soft=soft,
            low=SOFT_RANGE_HU[0],
            high=SOFT_RANGE_HU[1],
            least=LEAST_SOFT,
        )


def _without_air(census: _Census, lowest: int, greys: GreyWindow | None) -> Sentence:
    """Describe values without air, and what to do about them."""
    total = int(census.counts.sum())
    for modulus in (4096, 65536):
        wrapped = census.between(modulus + AIR_HU, modulus - 1) / total
        if wrapped >= LEAST_AIR and census.between(2000, modulus + AIR_HU - 1) < LEAST_AIR * total:
            return Sentence(
                "{share:.0%} of the voxels lie between {low} and {high} and hardly any near -1000; expected HU; "
                "negative HU were wrapped around (modulo {modulus}); export the scan again as signed numbers",
                share=wrapped,
                low=modulus + AIR_HU,
                high=modulus - 1,
                modulus=modulus,
            )
    rest = census.present(AIR_RANGE_HU[1])
    low, high = (census.low, census.high) if greys is None else (lowest, census.present()[-1])
    extent = Sentence("values run from {low:g} to {high:g}", low=low, high=high)
    if census.low < AIR_RANGE_HU[1] and len(rest):
        text = "but for padding (down to {low:g}), values run from {first} to {high:g}"
        extent = Sentence(text, low=low, first=rest[0], high=high)
    advice = Sentence("export the scan in Hounsfield units")
    if greys is not None:
        text = "with grey 0 = {low:g} HU and grey 255 = {high:g} HU as {source}; {correct} grey_low_hu and grey_high_hu"
        source = Word("estimated" if greys.estimated else "declared")
        correct = Word("declare" if greys.estimated else "correct")
        advice = Sentence(text, low=greys.low_hu, high=greys.high_hu, source=source, correct=correct)
    elif census.low >= 0:
        advice = Sentence(
            "{advice}, or, for a volume file, declare grey_low_hu and grey_high_hu (the HU of values 0 and 255) in "
            "cohort.csv{shifted}",
            advice=advice,
            shifted=SHIFTED if _is_shifted(census) else Sentence(""),
        )
    text = "{extent}, without any air; expected HU with air near -1000; {advice}"
    return Sentence(text, extent=extent, advice=advice)


def _is_shifted(census: _Census) -> bool:
    """Tell whether the values would be those of a chest if 1024 were subtracted."""
    total = census.between(1, _HIGHEST_BIN)
    air = census.between(AIR_RANGE_HU[0] - AIR_HU, AIR_RANGE_HU[1] - AIR_HU)
    soft = census.between(SOFT_RANGE_HU[0] - AIR_HU, SOFT_RANGE_HU[1] - AIR_HU)
    dense = census.between(DENSE_HU - AIR_HU, _HIGHEST_BIN)
    return air >= LEAST_AIR * total and soft >= LEAST_SOFT * total and dense <= MOST_DENSE * total


def _repairs(census: _Census, greys: GreyWindow | None) -> tuple[Sentence, ...]:
    repairs = []
    present = census.present()
    if greys is not None and greys.estimated:
        repairs.append(describe_windows([greys]))
    elif greys is not None:
        text = "values were turned into HU as declared: 0 is {low:g} HU and 255 is {high:g} HU"
        repairs.append(Sentence(text, low=greys.low_hu, high=greys.high_hu))
    elif census.fractions:
        repairs.append(Sentence("fractions of a HU were rounded"))
    if present[0] < AIR_HU:
        kind = Word("" if greys is not None else "; padding or noise")
        bottom = census.low if present[0] == _LOWEST_BIN and greys is None else present[0]
        count = census.between(_LOWEST_BIN, AIR_HU - 1)
        text = "{count} voxels below {air} HU (lowest {lowest:g}{kind}) were set to {air}"
        repairs.append(Sentence(text, count=count, air=AIR_HU, lowest=bottom, kind=kind))
    if present[-1] > MAX_HU:
        count = census.between(MAX_HU + 1, _HIGHEST_BIN)
        highest = census.high if greys is None else present[-1]
        text = "{count} voxels above {most} HU (up to {highest:g}) were cut to {most}"
        repairs.append(Sentence(text, count=count, most=MAX_HU, highest=highest))
    return tuple(repairs)
