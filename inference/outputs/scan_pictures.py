"""Planes of a segmented scan as pictures for a page: the CT as JPEG, under a transparent PNG of the overlays."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ct.colours import rgb_of
from inference.overlays import label_map, legend_of
from inference.result import Result

WINDOW_HU = (-1000, 350)  # the lung window of paper L3
MARGIN_MM = 15.0  # around the lungs
MARGIN_PX = 8  # the same, where a pixel has no size
OVERLAY_ALPHA = 130  # alpha of 255: the CT stays visible below
# What slices may take together; text of base64 is a third longer than its bytes.
SLICES_BYTES = 5_000_000
# The longest side in pixels, and JPEG's quality, from the best to what is still good to look at.
SIZES: tuple[tuple[int, int], ...] = ((512, 85), (448, 75), (384, 70), (320, 65), (256, 60), (224, 50), (192, 40))
BEST = SIZES[0]
SAMPLED = 5  # slices that are drawn to choose the size


@dataclass(frozen=True)
class PlanePicture:
    """A plane of the scan.

    Attributes:
        ct: base64 of a JPEG.
        overlay: base64 of a PNG of any size, to be stretched over it.
        aspect: Its width over its height in the patient.
    """

    ct: str
    overlay: str
    aspect: float


class Painter:
    """Draws planes of a scan, cut to its lungs.

    Args:
        result: The segmented scan.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        self.box = _lung_box(result)

    def plane(self, axis: int, place: int, size: tuple[int, int] = BEST) -> PlanePicture:
        """Draw one plane as radiologists look at it: the patient's right is on the left, the head or the front is up.

        Args:
            axis: 0 axial, 1 coronal, 2 sagittal (front on the left).
            place: Which plane along that axis.
            size: Most pixels of the longest side, and JPEG's quality.
        """
        index: list[Any] = list(self.box)
        index[axis] = place
        plane = tuple(index)
        hu, labels = self.result.scan.hu[plane], label_map(self.result.masks, self.result.classes, plane)
        if axis:
            hu, labels = hu[::-1], labels[::-1]  # z runs to the head, pictures run down
        rows_mm, columns_mm = (mm for number, mm in enumerate(self.result.scan.spacing_mm) if number != axis)
        aspect = hu.shape[1] * columns_mm / (hu.shape[0] * rows_mm)
        legend = legend_of(self.result.masks, self.result.classes)
        return PlanePicture(_jpeg(hu, aspect, *size), _png(labels, legend), aspect)

    def size_for(self, slices: Sequence[int]) -> tuple[int, int]:
        """Return the best of `SIZES` at which axial slices take no more than `SLICES_BYTES` of text together."""
        chosen = [slices[number] for number in np.unique(np.linspace(0, len(slices) - 1, SAMPLED).astype(int))]
        for size in SIZES:
            pictures = [self.plane(0, z, size) for z in chosen]
            mean = sum(len(picture.ct) + len(picture.overlay) for picture in pictures) / len(pictures)
            if mean * len(slices) <= SLICES_BYTES:
                return size
        return SIZES[-1]


def _lung_box(result: Result) -> tuple[slice, slice, slice]:
    """Return the bounding box of the lungs with a margin in plane; along the body all slices."""
    lungs, spacing_mm = result.masks["lungs"], result.scan.spacing_mm
    sides = [slice(0, lungs.shape[0])]
    projection = np.asarray(lungs.any(axis=0))
    for axis in (1, 2):
        places = np.flatnonzero(projection.any(axis=2 - axis))
        margin = round(MARGIN_MM / spacing_mm[axis]) if result.scan.spacing_known else MARGIN_PX
        low, high = (int(places[0]), int(places[-1])) if len(places) else (0, lungs.shape[axis] - 1)
        sides.append(slice(max(low - margin, 0), min(high + margin + 1, lungs.shape[axis])))
    return sides[0], sides[1], sides[2]


def _jpeg(hu: NDArray[np.int16], aspect: float, longest_px: int, quality: int) -> str:
    low, high = WINDOW_HU
    grey = ((hu.clip(low, high).astype(np.float32) - low) * (255 / (high - low))).round().astype(np.uint8)
    # Of the right shape in the patient, and never with more pixels than there are.
    height = min(longest_px, longest_px / aspect, max(hu.shape[0], hu.shape[1] / aspect))
    size = max(round(height * aspect), 1), max(round(height), 1)
    stream = io.BytesIO()
    Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _png(labels: NDArray[np.uint8], legend: Sequence[tuple[str, str]]) -> str:
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, *(channel for _, colour in legend for channel in rgb_of(colour))])
    alpha = bytes([0, 255, *([OVERLAY_ALPHA] * (len(legend) - 1))])
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=alpha, bits=4, compress_level=9)
    return base64.b64encode(stream.getvalue()).decode("ascii")
