"""Masks of lobes of 26 real scans, and the statistics of their fissures, independent of `ct.lungs.fissure_shapes`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from places import SHARED_DATA

from ct.files.formats import read_volume
from ct.lungs.fissure_shapes import FissureName
from ct.scan import to_canonical

FOLDER = SHARED_DATA / "lobe_masks_dev"
MASK_MM = 3.0
# The labels above a fissure and those below it.
BESIDE: dict[FissureName, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "right oblique": ((1, 2), (3,)),
    "right horizontal": ((1,), (2,)),
    "left oblique": ((4,), (5,)),
}
# A boundary deviates from its polynomial by this share of the height, and has as many independent points.
NOISE, POINTS = 0.03, 40

FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


def read_lobe_masks() -> list[Labels]:
    """Return the masks, int8 (Z, Y, X), labels 1 .. 5 in the order of `fissure_shapes.LOBES`."""
    masks = []
    for path in sorted(FOLDER.glob("*.nrrd")):
        volume = read_volume(path)
        values, _ = to_canonical(np.asarray(volume.values), volume.affine)
        masks.append(np.where(values >= 4, values.astype(np.int8) - 3, 0).astype(np.int8))
    return masks


@dataclass(frozen=True, eq=False)
class MeasuredLung:
    """One lung of a mask.

    Attributes:
        boundaries: By fissure, points (N, 3) of it in shares of the lung's box (z, y, x).
        shape: `front` and `tall`.
        height_mm: Of the box.
    """

    boundaries: dict[FissureName, FloatArray]
    shape: FloatArray
    height_mm: float


def measure_lung(mask: Labels, side: str) -> MeasuredLung:
    """Measure one lung of a mask: quantiles of voxels are its box, pairs of voxels in a column its boundaries."""
    lung = np.isin(mask, (1, 2, 3) if side == "right" else (4, 5))
    voxels = np.argwhere(lung)
    low, high = np.quantile(voxels, 0.005, axis=0) - 0.5, np.quantile(voxels, 0.995, axis=0) + 0.5
    share = (voxels - low) / (high - low) - 0.5
    _, first = np.unique(voxels[:, 1] * lung.shape[2] + voxels[:, 2], return_index=True)
    floor = share[first]  # voxels are in the order of z
    front = (floor[:, 1] > -0.4) & (floor[:, 1] < -0.15) & (np.abs(floor[:, 2]) < 0.2)
    size_mm = (high - low) * MASK_MM
    boundaries: dict[FissureName, FloatArray] = {}
    for name, (above, below) in BESIDE.items():
        if name.startswith(side):
            pairs = np.argwhere(np.isin(mask[:-1], below) & np.isin(mask[1:], above)) + np.array([0.5, 0, 0])
            boundaries[name] = (pairs - low) / (high - low) - 0.5
    shape = np.array([floor[front, 0].mean(), np.log(size_mm[0] / size_mm[2])])
    return MeasuredLung(boundaries, shape, float(size_mm[0]))


def design(points: FloatArray) -> FloatArray:
    """Return the terms of heights at points (N, 3), (N, 6)."""
    _, y, x = points.T
    return np.stack([np.ones_like(y), y, x, y * y - 1 / 12, x * y, x * x - 1 / 12], axis=1)


@dataclass(frozen=True, eq=False)
class MeasuredFissure:
    """Statistics of a fissure over lungs: `mean` and `sd` (6,), and `by_shape` (2, 6), correlations with the shape."""

    mean: FloatArray
    sd: FloatArray
    by_shape: FloatArray
    bumps_mm: float


def measure_fissure(name: FissureName, lungs: Sequence[MeasuredLung]) -> MeasuredFissure:
    """Fit a fissure in each lung, drawn to the mean of all as much as its points leave it open (empirical Bayes)."""
    points = [lung.boundaries[name] for lung in lungs]
    fitted = np.array([np.linalg.lstsq(design(each), each[:, 0], rcond=None)[0] for each in points])
    variance = fitted.var(axis=0, ddof=1)
    for _ in range(30):
        mean, precision = fitted.mean(axis=0), np.diag(1 / variance)
        within = []
        for number, each in enumerate(points):
            weight = POINTS / len(each) / NOISE**2
            total = weight * design(each).T @ design(each) + precision
            fitted[number] = np.linalg.solve(total, weight * design(each).T @ each[:, 0] + precision @ mean)
            within.append(np.diag(np.linalg.inv(total)))
        variance = fitted.var(axis=0, ddof=1) + np.mean(within, axis=0)
    bumps = [np.std(each[:, 0] - design(each) @ c) for each, c in zip(points, fitted, strict=True)]
    shapes = np.array([lung.shape for lung in lungs])
    by_shape = np.corrcoef(np.concatenate([shapes, fitted], axis=1).T)[:2, 2:]
    bumps_mm = float(np.mean([sd * lung.height_mm for sd, lung in zip(bumps, lungs, strict=True)]))
    return MeasuredFissure(fitted.mean(axis=0), fitted.std(axis=0, ddof=1), by_shape, bumps_mm)


@cache
def measured_lungs(side: str) -> tuple[MeasuredLung, ...]:
    """Measure one lung of every mask."""
    return tuple(measure_lung(mask, side) for mask in read_lobe_masks())


def dice_of_lobes(found: Labels, truth: Labels) -> FloatArray:
    """Return the Dice of each of the five lobes, (5,)."""
    overlap = [np.sum((found == lobe) & (truth == lobe)) for lobe in range(1, 6)]
    sizes = [np.sum(found == lobe) + np.sum(truth == lobe) for lobe in range(1, 6)]
    return 2 * np.array(overlap, dtype=np.float64) / np.array(sizes)
