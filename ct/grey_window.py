"""Windows of grey values: the HU for which grey 0 and grey 255 stand, declared by a user or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ct.refusal import Refusal, Sentence

GREYS = 256
# What a user declares of grey values: the HU of grey 0 and 255, or that both are to be estimated image by image.
AUTO: Literal["auto"] = "auto"
GreyLimit = float | Literal["auto"]
Greys = tuple[float, float] | Literal["auto"]
# Error above which an estimate is unusual, and how far windows of one scan may lie from their median at `JUDGED_HU`.
# Nine of ten slices of real chests are told to within 60 HU (docs/data.md).
MOST_ERROR_HU = 75.0
# HU at which windows are compared: early opacities, and soft tissue.
JUDGED_HU = (-600.0, 0.0)


@dataclass(frozen=True)
class GreyWindow:
    """The HU for which the grey values of an image stand; they rise in equal steps.

    Attributes:
        low_hu: HU of grey 0.
        high_hu: HU of grey 255.
        error_hu: Standard deviation of an estimate, the larger one of those at `JUDGED_HU`; None if it was declared.
    """

    low_hu: float
    high_hu: float
    error_hu: float | None = None

    @property
    def estimated(self) -> bool:
        """Whether the window was estimated, not declared."""
        return self.error_hu is not None

    def hu_of_greys(self) -> npt.NDArray[np.int16]:
        """Return the HU of every grey value, rounded: int16 (256,)."""
        return np.rint(np.linspace(self.low_hu, self.high_hu, GREYS)).astype(np.int16)


def check_greys(grey_hu: Greys, where: str) -> None:
    """Check that a declared mapping of greys rises.

    Args:
        grey_hu: The declared HU of grey 0 and grey 255, or `AUTO`.
        where: The file, for the error.

    Raises:
        ValueError: The first is not below the second.
    """
    if grey_hu == AUTO:
        return
    low, high = grey_hu
    if not low < high:
        raise Refusal(
            "{where}: grey 0 = {low} HU and grey 255 = {high} HU; expected the first lower",
            where=where,
            low=low,
            high=high,
        )


def describe_windows(windows: Sequence[GreyWindow]) -> Sentence:
    """Say what estimated windows are, and how sure.

    Args:
        windows: One for each slice, at least one, all estimated.
    """
    lows, highs, errors = _numbers(windows)
    if len(set(windows)) == 1:
        return Sentence(
            "HU are an estimate: grey 0 = {low:.0f} HU and grey 255 = {high:.0f} HU by the tissues of the image, with "
            "an error of about {error:.0f} HU",
            low=lows[0],
            high=highs[0],
            error=errors[0],
        )
    return Sentence(
        "HU are an estimate for each of {count} slices by its own tissues: grey 0 = {low:.0f} to {low_most:.0f} HU and "
        "grey 255 = {high:.0f} to {high_most:.0f} HU, with errors of about {error:.0f} to {error_most:.0f} HU",
        count=len(windows),
        low=lows.min(),
        low_most=lows.max(),
        high=highs.min(),
        high_most=highs.max(),
        error=errors.min(),
        error_most=errors.max(),
    )


def unusual_windows(windows: Sequence[GreyWindow]) -> tuple[Sentence, ...]:
    """Say what is unusual about estimated windows: a large error, or slices of one scan that contradict each other.

    Args:
        windows: One for each slice of a scan; nothing is said of declared ones, nor of none.
    """
    if not windows or not windows[0].estimated:
        return ()
    unsure = np.count_nonzero(~(_numbers(windows)[2] <= MOST_ERROR_HU))  # so that NaN counts
    apart = np.count_nonzero(~(_apart_hu(windows) <= MOST_ERROR_HU))
    sentences = []
    if unsure:
        text = (
            "unusual grey values: the HU of {unsure} of {count} slices cannot be told from their tissues to within "
            "{most:.0f} HU (the worst: {worst:.0f}); perhaps their contrast was enhanced, or they show no chest"
        )
        worst = _numbers(windows)[2].max()
        sentences.append(Sentence(text, unsure=unsure, count=len(windows), most=MOST_ERROR_HU, worst=worst))
    if apart:
        text = (
            "unusual grey values: {apart} of {count} slices have windows that differ from the scan's median by more "
            "than {most:.0f} HU at {at:.0f} or {and_at:.0f} HU; look at them, or declare grey_low_hu and grey_high_hu"
        )
        numbers = {"apart": apart, "count": len(windows), "most": MOST_ERROR_HU}
        sentences.append(Sentence(text, **numbers, at=JUDGED_HU[0], and_at=JUDGED_HU[1]))
    return tuple(sentences)


def _apart_hu(windows: Sequence[GreyWindow]) -> npt.NDArray[np.float64]:
    """Return (Z,) how far each window lies from their median, in HU at the worse of `JUDGED_HU`."""
    lows, highs, _ = _numbers(windows)
    low, high = np.median(lows), np.median(highs)
    greys = [(hu - low) / (high - low) for hu in JUDGED_HU]
    apart = [np.abs(lows + grey * (highs - lows) - hu) for grey, hu in zip(greys, JUDGED_HU, strict=True)]
    return np.asarray(np.max(apart, axis=0), dtype=np.float64)


def _numbers(windows: Sequence[GreyWindow]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return lows, highs and errors, (Z,) each; NaN for the error of a declared window."""
    rows = [(each.low_hu, each.high_hu, np.nan if each.error_hu is None else each.error_hu) for each in windows]
    return tuple(np.array(rows, dtype=np.float64).T)
