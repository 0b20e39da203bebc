"""Shapes of the fissures of real lungs: surfaces in the box of each lung, with what is known before a CT is looked at.

A fissure is a height above (y, x), all in shares of the lung's own box from its middle, -0.5 to 0.5: a polynomial of
six terms (`terms`). The statistics below were measured by us on 26 masks of lobes of LUNA16 scans (Tang, Zhang, Xie:
"Automatic pulmonary lobe segmentation using deep learning", ISBI 2019, arXiv 1903.09879). The masks are CC BY-NC-SA 4.0
and are no part of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Side = Literal["right", "left"]
FissureName = Literal["right oblique", "right horizontal", "left oblique"]

# A term is a polynomial of y times one of x: which of `polynomials`.
OF_Y, OF_X = (0, 1, 0, 2, 1, 0), (0, 0, 1, 0, 1, 2)
# Share of a lung beyond each side of its box, so that a strand of airway or a speck does not stretch it.
OUTSIDE = 0.005


@dataclass(frozen=True)
class FissureStatistics:
    """How a fissure differs between patients.

    Attributes:
        mean: Of the six coefficients of `terms`.
        sd: Their standard deviations.
        by_front: Correlation of the first two, height and slope, with the lung's `front` (see `LungShape`).
        by_tall: The same with the lung's `tall`.
        bumps_mm: Standard deviation of the true surface around the polynomial.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    by_front: tuple[float, float]
    by_tall: tuple[float, float]
    bumps_mm: float


STATISTICS: dict[FissureName, FissureStatistics] = {
    "right oblique": FissureStatistics(
        (-0.09, 0.82, 0.04, -0.30, 0.26, -0.02), (0.10, 0.26, 0.13, 0.44, 0.11, 0.10), (0.50, -0.28), (0.27, -0.45), 4.0
    ),
    "right horizontal": FissureStatistics(
        (0.02, 0.07, 0.02, -0.11, 0.17, -0.02), (0.06, 0.12, 0.12, 0.14, 0.11, 0.03), (0.44, -0.53), (0.17, -0.20), 2.3
    ),
    "left oblique": FissureStatistics(
        (-0.11, 1.16, -0.02, -0.26, -0.61, 0.11),
        (0.07, 0.35, 0.19, 0.30, 0.11, 0.13),
        (-0.48, 0.24),
        (0.57, -0.78),
        3.9,
    ),
}
# Mean and standard deviation of `front` and `tall` of each lung.
SHAPES = {"right": ((-0.295, 0.067), (0.531, 0.119)), "left": ((-0.205, 0.110), (0.617, 0.111))}
LOBES = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe")
# Least and greatest share of its own lung of each of the lobes.
LOBE_SHARES = ((0.23, 0.52), (0.05, 0.30), (0.30, 0.72), (0.43, 0.65), (0.35, 0.57))
# Mean and standard deviation of the shares of the right upper, the middle and the left upper lobe.
USUAL_SHARES = ((0.382, 0.077), (0.174, 0.056), (0.538, 0.062))
# The middle lobe lies in front: from this place on towards the back there is this share of it, root mean square.
MIDDLE_LOBE_BACK = (0.1, 0.03)
# Correlations from 26 lungs are shrunk, and lungs far out are taken for less extreme than they are.
SHRINKAGE, MOST_DEVIATIONS = 0.85, 2.5


def polynomials(share: npt.ArrayLike) -> FloatArray:
    """Return what terms are products of, (..., 3): level, slope and curvature at places in shares of the box."""
    places = np.asarray(share, np.float64)[..., None]
    return np.concatenate([np.ones_like(places), places, places**2 - 1 / 12], axis=-1)


def terms(y: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
    """Return the terms of a fissure's height, (..., 6): level, slopes and curvatures.

    Args:
        y: From front to back in shares of the lung's box, -0.5 to 0.5.
        x: From the patient's right to the left, the same.
    """
    return polynomials(y)[..., OF_Y] * polynomials(x)[..., OF_X]


def centres_mm(count: int, mm: float) -> FloatArray:
    """Return the places of the centres of voxels along an axis."""
    return np.arange(0.5, count) * mm


@dataclass(frozen=True, eq=False)
class LungBox:
    """The box of one lung, in mm from the scan's corner at the patient's foot, front and right.

    Attributes:
        low_mm: Its lower corner (z, y, x).
        high_mm: Its upper corner.
    """

    low_mm: FloatArray
    high_mm: FloatArray

    @classmethod
    def around(cls, lung: BoolArray, spacing_mm: tuple[float, float, float]) -> LungBox:
        """Return the box that leaves `OUTSIDE` of a lung's volume (Z, Y, X) beyond each side."""
        low, high = [], []
        for axis in range(3):
            volume = lung.sum(tuple({0, 1, 2} - {axis}), dtype=np.int64)
            share = np.concatenate([[0.0], np.cumsum(volume) / volume.sum()])
            edges_mm = np.arange(len(share)) * spacing_mm[axis]
            low.append(float(np.interp(OUTSIDE, share, edges_mm)))
            high.append(float(np.interp(1 - OUTSIDE, share, edges_mm)))
        return cls(np.array(low), np.array(high))

    @property
    def size_mm(self) -> FloatArray:
        """Return its sides (z, y, x)."""
        return self.high_mm - self.low_mm

    def share(self, place_mm: npt.ArrayLike, axis: int) -> FloatArray:
        """Return where places along an axis lie in the box, -0.5 to 0.5."""
        return (np.asarray(place_mm, np.float64) - self.low_mm[axis]) / self.size_mm[axis] - 0.5

    def place_mm(self, share: npt.ArrayLike, axis: int) -> FloatArray:
        """Return the place along an axis; the inverse of `share`."""
        return (np.asarray(share, np.float64) + 0.5) * self.size_mm[axis] + self.low_mm[axis]


@dataclass(frozen=True)
class LungShape:
    """What a lung's mask tells about its fissures.

    Attributes:
        side: "right" or "left".
        front: Mean height of the lung's floor in its front third, where the dome of the diaphragm lifts the fissures.
        tall: Logarithm of its height over its width.
    """

    side: Side
    front: float
    tall: float

    @classmethod
    def of(cls, side: Side, lung: BoolArray, box: LungBox, spacing_mm: tuple[float, float, float]) -> LungShape:
        """Measure the mask (Z, Y, X) of a lung."""
        y, x = (box.share(centres_mm(lung.shape[axis], spacing_mm[axis]), axis) for axis in (1, 2))
        region = ((y > -0.4) & (y < -0.15))[:, None] & (np.abs(x) < 0.2)[None]
        columns = lung.any(0) & region
        floor = box.share((lung.argmax(0)[columns] + 0.5) * spacing_mm[0], 0)
        usual = SHAPES[side][0][0]
        size_mm = box.size_mm
        return cls(side, float(floor.mean()) if floor.size else usual, float(np.log(size_mm[0] / size_mm[2])))

    @property
    def deviations(self) -> FloatArray:
        """Return `front` and `tall` in standard deviations from the mean lung."""
        values = zip((self.front, self.tall), SHAPES[self.side], strict=True)
        deviations = [(value - mean) / sd for value, (mean, sd) in values]
        return np.clip(deviations, -MOST_DEVIATIONS, MOST_DEVIATIONS)


def expected_fissure(name: FissureName, shape: LungShape) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviations of a fissure's coefficients, both (6,), in a lung of a shape.

    Height and slope follow the lung's shape by their correlation with it, as in a joint normal distribution.
    """
    known = STATISTICS[name]
    mean, sd = np.array(known.mean), np.array(known.sd)
    by_shape = np.stack([known.by_front, known.by_tall], 1) @ shape.deviations
    mean[:2] += SHRINKAGE * sd[:2] * by_shape
    return mean, sd
