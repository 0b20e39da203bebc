"""Evidence for a fissure in the HU of a lung: a thin sheet denser than what lies beside it, which few vessels cross.

The lung is sampled along columns from foot to head, each from a fixed height below a surface that is near the fissure
to the same height above it. So a sheet along that surface is flat in the samples, and averaging beside each other what
lies at one height keeps a sheet and wears away vessels and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.lungs.fissure_shapes import BoolArray, FloatArray, LungBox, terms

Samples = npt.NDArray[np.float32]

# Distance of columns, and of samples along a column.
COLUMN_MM, SAMPLE_MM = 2.5, 1.0
# Across a fissure, samples are averaged by this standard deviation and compared with the lung this far beside it.
THICK_MM, BESIDE_MM = 0.5, 2.6
# Greater deviations of a sample from what lies beside it, in standard deviations, count as these: a vessel in one
# column is not worth more than a sheet in two.
LEAST, MOST = -1.5, 2.0
# Samples are averaged with those beside them before and after they are compared, standard deviations.
FIRST_MM, THEN_MM = 2.0, 5.0
# The sheet may lean from the surface by these slopes.
LEANS = (-0.3, 0.0, 0.3)
# What is this much denser than the lung around begins to be a vessel, and is one from the second on.
VESSEL_HU = (60.0, 180.0)
AROUND_MM = 10.0
# Standard deviations, beside each other and across, of the band that few vessels cross, and of what surrounds it.
BAND_MM, WIDE_MM = (4.0, 2.0), (8.0, 8.0)
BAND_WEIGHT = 0.5
# Nothing is told within this distance of the lung's surface, where few vessels are anyway: along a column, and across
# columns.
BORDER_MM, BORDER_COLUMNS = 6, 1
LUNG_HU = (-1000, -300)
# Smaller deviations are not made to look like evidence: those of rounding, say. Of 12 realistic phantoms all have more.
LEAST_DEVIATION = 0.2


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns of a lung.

    Attributes:
        box: The lung's box.
        mask: bool (Z, Y, X), the lung on voxels of `spacing_mm`.
        spacing_mm: (z, y, x).
        y_mm: Places of the columns (Y',) along y.
        x_mm: Places of the columns (X',) along x.
    """

    box: LungBox
    mask: BoolArray
    spacing_mm: tuple[float, float, float]
    y_mm: FloatArray
    x_mm: FloatArray

    @classmethod
    def of(cls, mask: BoolArray, spacing_mm: tuple[float, float, float], box: LungBox) -> Columns:
        """Lay columns through a lung."""
        y_mm, x_mm = (np.arange(box.low_mm[axis], box.high_mm[axis], COLUMN_MM) + COLUMN_MM / 2 for axis in (1, 2))
        return cls(box, mask, spacing_mm, y_mm, x_mm)

    @cached_property
    def terms(self) -> FloatArray:
        """Return the terms of a fissure's height at every column, (Y', X', 6)."""
        return terms(self.box.share(self.y_mm, 1)[:, None], self.box.share(self.x_mm, 2)[None])

    def spans_mm(self) -> tuple[FloatArray, FloatArray]:
        """Return the lowest and highest place of lung in every column, both (Y', X'); 0 and 0 where it has none."""
        y, x = self._index(self.y_mm, 1), self._index(self.x_mm, 2)
        columns = self.mask[:, y][:, :, x]
        there, count = columns.any(0), len(columns)
        low = columns.argmax(0) * self.spacing_mm[0]
        high = (count - columns[::-1].argmax(0)) * self.spacing_mm[0]
        return np.where(there, low, 0.0), np.where(there, high, 0.0)

    def _index(self, place_mm: FloatArray, axis: int) -> npt.NDArray[np.intp]:
        index = np.floor(place_mm / self.spacing_mm[axis]).astype(np.intp)
        return index.clip(0, self.mask.shape[axis] - 1)

    def sample(
        self,
        hu: npt.NDArray[np.int16],
        spacing_mm: tuple[float, float, float],
        height_mm: FloatArray,
        reach: int,
    ) -> tuple[Samples, BoolArray]:
        """Sample a scan around a surface.

        Args:
            hu: int16 (Z, Y, X), the scan.
            spacing_mm: Its voxels (z, y, x).
            height_mm: (Y', X'), the surface.
            reach: Samples below and above it.

        Returns:
            HU float32 (Y', X', 2 reach + 1), from below to above, 0 outside the lung, and which of them lie in it.
        """
        z_mm = height_mm[..., None] + SAMPLE_MM * np.arange(-reach, reach + 1)
        z, y, x = self._index(z_mm, 0), self._index(self.y_mm, 1)[:, None, None], self._index(self.x_mm, 2)[:, None]
        inside = self.mask[z, y, x] & (z_mm >= 0) & (z_mm < self.mask.shape[0] * self.spacing_mm[0])
        row, column, _ = inside.nonzero()
        place_mm = (z_mm[inside], self.y_mm[row], self.x_mm[column])
        place = [axis_mm / mm - 0.5 for axis_mm, mm in zip(place_mm, spacing_mm, strict=True)]
        values = np.zeros(z_mm.shape, dtype=np.float32)
        values[inside] = ndimage.map_coordinates(hu, place, output=np.float32, order=1, mode="nearest")
        return values, inside


def evidence(hu: Samples, inside: BoolArray, steepness: float, leans: tuple[float, ...] = LEANS) -> Samples:
    """Return for every sample the evidence that the fissure lies there.

    Args:
        hu: float32 (Y', X', S), as from `Columns.sample`.
        inside: bool, the same shape.
        steepness: How many mm along a column a sheet is thick for a mm of its thickness.
        leans: Slopes along y and x by which the sheet may lean from the surface.

    Returns:
        float32 (Y', X', S), 0 outside and at the border, with mean 0 in every column and standard deviation 1 over all
        (less where hardly anything differs).
    """
    core = _core(inside)
    if not core.any():
        return np.zeros_like(hu)
    hu = hu.clip(*LUNG_HU)
    sheet, band = _sheet(hu, inside, core, steepness, leans), _band(hu, inside, steepness)
    total = _standardized(sheet, core) + BAND_WEIGHT * _standardized(band, core)
    count = core.sum(2, keepdims=True)
    mean = np.where(core, total, 0).sum(2, keepdims=True) / np.maximum(count, 1)
    return _standardized(np.where(core, total - mean, 0).astype(np.float32), core)


def _standardized(values: Samples, core: BoolArray) -> Samples:
    return values / np.float32(max(float(values[core].std()), LEAST_DEVIATION))


def _core(inside: BoolArray) -> BoolArray:
    """Return the samples away from the lung's surface; where the samples end within the lung there is none."""
    padded = np.pad(inside, ((0, 0), (0, 0), (BORDER_MM, BORDER_MM)), mode="edge")
    along = ndimage.binary_erosion(padded, np.ones((1, 1, 2 * BORDER_MM + 1)))[..., BORDER_MM:-BORDER_MM]
    return ndimage.binary_erosion(along, np.ones((3, 3, 1)), iterations=BORDER_COLUMNS)


def _averaged(values: Samples, weight: Samples, beside_mm: float, along_mm: float) -> Samples:
    """Average samples inside the lung with those around, by a Gaussian."""
    blurs = (beside_mm / COLUMN_MM, beside_mm / COLUMN_MM, along_mm / SAMPLE_MM)
    total = ndimage.gaussian_filter(values * weight, blurs, truncate=2.5)
    share = ndimage.gaussian_filter(weight, blurs, truncate=2.5)
    return np.where(share > 0.2, total / np.maximum(share, 0.2), 0).astype(np.float32)


def _sheet(hu: Samples, inside: BoolArray, core: BoolArray, steepness: float, leans: tuple[float, ...]) -> Samples:
    """Return how much denser samples are than those below and above, along the sheet that fits best."""
    smooth = _averaged(hu, inside.astype(np.float32), FIRST_MM, THICK_MM * steepness)
    beside = round(BESIDE_MM * steepness / SAMPLE_MM)
    below, above = np.roll(smooth, beside, 2), np.roll(smooth, -beside, 2)
    ridge = smooth - np.maximum(below, above) / 2 - (below + above) / 4
    usual = float(np.median(ridge[core]))
    noise = 1.4826 * float(np.median(np.abs(ridge[core] - usual))) + 2.0
    ridge = np.where(core, ((ridge - usual) / noise).clip(LEAST, MOST), 0)
    best = _best_lean(ridge.astype(np.float32), 0, leans)
    return np.where(core, best - float(np.median(best[core])), 0).astype(np.float32)


def _best_lean(values: Samples, axis: int, leans: tuple[float, ...]) -> Samples:
    """Average samples along sheets with the slopes along this axis and the next, and keep the greatest average."""
    best = np.full_like(values, -np.inf)
    for lean in leans:
        leaning = _leaning(values, axis, lean)
        average: Samples = ndimage.gaussian_filter1d(leaning, THEN_MM / COLUMN_MM, axis, truncate=2.0)
        if axis == 0:
            average = _best_lean(average, 1, leans)
        np.maximum(best, _leaning(average, axis, -lean), out=best)
    return best


def _leaning(values: Samples, axis: int, lean: float) -> Samples:
    """Shift every column so that a sheet with this slope along an axis becomes flat."""
    leaning, (size, count) = np.zeros_like(values), (values.shape[axis], values.shape[2])
    shifts = np.rint(lean * COLUMN_MM / SAMPLE_MM * (np.arange(size) - size // 2)).astype(int).clip(-count, count)
    for source, target, shift in zip(np.moveaxis(values, axis, 0), np.moveaxis(leaning, axis, 0), shifts, strict=True):
        low, high = max(0, shift), count + min(0, shift)
        target[:, low - shift : high - shift] = source[:, low:high]
    return leaning


def _band(hu: Samples, inside: BoolArray, steepness: float) -> Samples:
    """Return by how much fewer vessels there are than farther below and above, as a share."""
    weight = inside.astype(np.float32)
    around = _averaged(hu, weight, AROUND_MM, AROUND_MM)
    first, full = VESSEL_HU
    vessels = ((hu - around - first) / (full - first)).clip(0, 1)
    near, far = (_averaged(vessels, weight, beside, along * steepness) for beside, along in (BAND_MM, WIDE_MM))
    return np.where(inside, ((far - near) / (far + 0.05)).clip(-1.5, 1), 0).astype(np.float32)
