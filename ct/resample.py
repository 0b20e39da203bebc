"""Resampling to the prepared grid of a scan and back: exact area averaging to coarser voxels, linear to finer ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ct.refusal import Refusal

AIR_HU = -1024
THIN_SLICE_MM = 4.0
TARGET_SLICE_MM = 5.0
# Sizes that differ by less than this share are the same size written with other rounding.
SAME_SIZE = 1e-4

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AxisMap:
    """Position of one axis of a scan in the same axis of the prepared grid.

    Attributes:
        source_count: Voxels of the scan along the axis.
        source_mm: Their size.
        count: Voxels of the prepared grid.
        spacing_mm: Their size.
        offset_mm: Distance from the prepared grid's low edge to the scan's low edge (padding), at least 0.
    """

    source_count: int
    source_mm: float
    count: int
    spacing_mm: float
    offset_mm: float = 0.0

    def forward(self) -> sparse.csr_array:
        """Return weights (count, source_count); rows of padding sum to less than 1."""
        return overlap_matrix(self.source_count, self.source_mm, self.count, self.spacing_mm, self.offset_mm)

    def inverse(self) -> sparse.csr_array:
        """Return weights (source_count, count) that bring a prepared axis back to the scan's."""
        return overlap_matrix(self.count, self.spacing_mm, self.source_count, self.source_mm, -self.offset_mm)

    def nearest(self) -> npt.NDArray[np.intp]:
        """Return for every prepared voxel the scan's voxel at its centre, -1 in the padding."""
        centre = ((np.arange(self.count) + 0.5) * self.spacing_mm - self.offset_mm) / self.source_mm
        index = np.floor(centre + 1e-6).astype(np.intp)
        return np.where((index < 0) | (index >= self.source_count), -1, index)


@dataclass(frozen=True)
class Transform:
    """Mapping between a scan's canonical grid and its prepared grid, axis by axis."""

    z: AxisMap
    y: AxisMap
    x: AxisMap

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the voxel size (z, y, x) of the prepared grid in mm."""
        return self.z.spacing_mm, self.y.spacing_mm, self.x.spacing_mm

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape (Z', size, size) of the prepared grid."""
        return self.z.count, self.y.count, self.x.count

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as plain numbers, for scan.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, parameters: dict[str, Any]) -> Transform:
        """Rebuild a transform from the parameters that `to_dict` returned."""
        return cls(*(AxisMap(**parameters[axis]) for axis in ("z", "y", "x")))

    def apply_hu(self, hu: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Resample HU; outside the scan they are air at -1024 HU.

        Args:
            hu: int16 (Z, Y, X) on the scan's canonical grid.

        Returns:
            int16 (Z', size, size), rounded.
        """
        out = np.empty(self.shape, dtype=np.int16)
        # Counted from air, padding is zero and needs no special case.
        above_air = _planes(hu, (self.z.forward(), self.y.forward(), self.x.forward()), shift=-AIR_HU)
        for plane, target in zip(above_air, out, strict=True):
            target[:] = np.rint(plane + AIR_HU)
        return out

    def apply_fraction(self, fraction: npt.NDArray[np.floating]) -> FloatArray:
        """Resample fractions of a voxel like HU; outside the scan they are 0.

        Args:
            fraction: (Z, Y, X) on the scan's canonical grid.

        Returns:
            float32 (Z', size, size).
        """
        return np.stack(list(_planes(fraction, (self.z.forward(), self.y.forward(), self.x.forward()))))

    def apply_mask(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        """Resample a mask of small integers by nearest neighbour; outside the scan it is 0.

        Args:
            mask: (Z, Y, X) on the scan's canonical grid, values that fit int8.

        Returns:
            int8 (Z', size, size).
        """
        z, y, x = self.z.nearest(), self.y.nearest(), self.x.nearest()
        out = np.empty(self.shape, dtype=np.int8)
        for source, target in zip(z, out, strict=True):
            target[:] = mask[source][np.ix_(y, x)]
        out[z < 0] = 0
        out[:, y < 0] = 0
        out[:, :, x < 0] = 0
        return out

    def restore(self, probability: npt.NDArray[np.floating]) -> FloatArray:
        """Bring a map from the prepared grid back to the scan: padding is cut off, values are interpolated linearly.

        Args:
            probability: float (Z', size, size) on the prepared grid.

        Returns:
            float32 (Z, Y, X) on the scan's canonical grid.

        Raises:
            ValueError: The shape is not the prepared grid's.
        """
        out = np.empty((self.z.source_count, self.y.source_count, self.x.source_count), dtype=np.float32)
        for plane, target in zip(self.restore_slices(probability), out, strict=True):
            target[:] = plane
        return out

    def restore_slices(self, probability: npt.NDArray[np.floating]) -> Iterator[FloatArray]:
        """Yield the slices (Y, X) of `restore` one by one: of a thin-slice scan all of them are 300 MB.

        Raises:
            ValueError: The shape is not the prepared grid's.
        """
        if probability.shape != self.shape:
            raise Refusal(
                "the map has shape {shape}; expected the prepared grid's {expected}",
                shape=probability.shape,
                expected=self.shape,
            )
        yield from _planes(probability, (self.z.inverse(), self.y.inverse(), self.x.inverse()))


def plan_transform(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], size: int, spacing_known: bool = True
) -> Transform:
    """Lay the prepared grid over a scan.

    In plane the scan is padded to a square in mm, which becomes size x size pixels. Slices thinner than 4 mm become the
    number of slices of about 5 mm that fills the same extent; thicker ones stay (paper EM).

    Args:
        shape: (Z, Y, X) of the scan.
        spacing_mm: (z, y, x) of the scan.
        size: Pixels along each side in plane.
        spacing_known: False leaves the slices as they are.

    Returns:
        The transform.

    Raises:
        ValueError: `size` is not positive.
    """
    if size < 1:
        raise Refusal("the prepared size is {size}; expected at least 1 pixel", size=size)
    side = max(shape[1] * spacing_mm[1], shape[2] * spacing_mm[2])
    y, x = (_in_plane(shape[axis], spacing_mm[axis], side, size) for axis in (1, 2))
    return Transform(_along_z(shape[0], spacing_mm[0], spacing_known), y, x)


def coarser_grid(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], at_least_mm: tuple[float, float, float]
) -> Transform:
    """Lay a grid of whole voxels of about a given size over a scan, nowhere finer than the scan's.

    Args:
        shape: (Z, Y, X) of the scan.
        spacing_mm: (z, y, x) of the scan.
        at_least_mm: Size of the voxels (z, y, x); larger voxels of the scan stay as they are.
    """
    axes = []
    for count, mm, least_mm in zip(shape, spacing_mm, at_least_mm, strict=True):
        coarse = min(count, max(1, round(count * mm / least_mm)))
        axes.append(AxisMap(count, mm, coarse, count * mm / coarse))
    return Transform(*axes)


def overlap_matrix(
    source_count: int, source_mm: float, count: int, spacing_mm: float, offset_mm: float
) -> sparse.csr_array:
    """Build the weights that resample one axis.

    Args:
        source_count: Number of source voxels.
        source_mm: Their size.
        count: Number of target voxels.
        spacing_mm: Their size.
        offset_mm: Position of the source's low edge in the target, from the target's low edge.

    Returns:
        float32 sparse (count, source_count): the share of each target voxel that each source voxel covers where the
        target is as coarse as the source or coarser, else linear weights of the two nearest source centres.
    """
    if spacing_mm >= source_mm * (1 - SAME_SIZE):
        weights = _area_weights(source_count, source_mm, count, spacing_mm, offset_mm)
    else:
        weights = _linear_weights(source_count, source_mm, count, spacing_mm, offset_mm)
    return sparse.csr_array(weights.astype(np.float32))


def _area_weights(
    source_count: int, source_mm: float, count: int, spacing_mm: float, offset_mm: float
) -> npt.NDArray[np.float64]:
    low = np.arange(source_count) * source_mm + offset_mm
    target = np.arange(count)[:, None] * spacing_mm
    overlap = np.minimum(target + spacing_mm, low + source_mm) - np.maximum(target, low)
    # Slivers are rounding of edges that coincide; as weights they would mix in a neighbour.
    return np.where(overlap > 1e-6 * source_mm, overlap, 0.0) / spacing_mm


def _linear_weights(
    source_count: int, source_mm: float, count: int, spacing_mm: float, offset_mm: float
) -> npt.NDArray[np.float64]:
    position = ((np.arange(count) + 0.5) * spacing_mm - offset_mm) / source_mm - 0.5
    inside = (position > -0.5 - 1e-6) & (position < source_count - 0.5 + 1e-6)
    position = np.clip(position, 0, source_count - 1)
    below = np.minimum(position.astype(np.intp), max(source_count - 2, 0))
    weights = np.zeros((count, source_count))
    rows = np.arange(count)
    weights[rows, below] = 1 - (position - below)
    if source_count > 1:
        weights[rows, below + 1] = position - below
    weights[~inside] = 0
    return weights


def _in_plane(source_count: int, source_mm: float, side_mm: float, size: int) -> AxisMap:
    # Whole source pixels of padding keep a scan that needs no resizing free of half-pixel shifts.
    padding = math.floor((side_mm - source_count * source_mm) / 2 / source_mm + 1e-6)
    return AxisMap(source_count, source_mm, size, side_mm / size, max(padding, 0) * source_mm)


def _along_z(source_count: int, source_mm: float, spacing_known: bool) -> AxisMap:
    if not spacing_known or source_mm >= THIN_SLICE_MM * (1 - SAME_SIZE):
        return AxisMap(source_count, source_mm, source_count, source_mm)
    extent = source_count * source_mm
    count = max(1, round(extent / TARGET_SLICE_MM))
    return AxisMap(source_count, source_mm, count, extent / count)


def _planes(array: npt.NDArray[Any], weights: tuple[sparse.csr_array, ...], shift: float = 0.0) -> Iterator[FloatArray]:
    """Apply (z, y, x) weights and yield slice after slice, so that no float copy of either volume is ever held."""
    along_z, along_y, along_x = weights
    ready: dict[int, FloatArray] = {}
    for row in range(along_z.shape[0]):
        entries = slice(along_z.indptr[row], along_z.indptr[row + 1])
        needed = along_z.indices[entries].tolist()
        # Neighbouring slices share sources: those that this slice needs again are kept, the others dropped.
        ready = {z: ready[z] for z in needed if z in ready}
        plane = np.zeros((along_y.shape[0], along_x.shape[0]), dtype=np.float32)
        for z, weight in zip(needed, along_z.data[entries], strict=True):
            if z not in ready:
                plane_z = array[z].astype(np.float32) + np.float32(shift)
                ready[z] = (along_x @ (along_y @ plane_z).T).T
            plane += weight * ready[z]
        yield plane
