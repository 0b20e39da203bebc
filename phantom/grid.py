"""Building blocks of the phantom: voxel grid in mm, smooth noise, anti-aliased tubes and painting by fractions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Voxel centres of a scan in mm.

    Attributes:
        shape: (Z, Y, X).
        spacing_mm: (z, y, x).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Return (4, 4) of canonical (x, y, z) to RAS+ mm, with the patient's centre near the origin in plane."""
        z_mm, y_mm, x_mm = self.spacing_mm
        affine = np.diag([-x_mm, -y_mm, z_mm, 1.0])
        affine[:3, 3] = [(self.shape[2] - 1) / 2 * x_mm, (self.shape[1] - 1) / 2 * y_mm, -400.0]
        return affine

    @property
    def z_mm(self) -> Volume:
        """Return the (Z, 1, 1) height of the slice centres above the lower end of the scan."""
        return ((np.arange(self.shape[0], dtype=np.float32) + 0.5) * self.spacing_mm[0])[:, None, None]

    @property
    def y_mm(self) -> Volume:
        """Return the (1, Y, 1) distance behind the centre of the field of view."""
        return ((np.arange(self.shape[1], dtype=np.float32) - (self.shape[1] - 1) / 2) * self.spacing_mm[1])[
            None, :, None
        ]

    @property
    def x_mm(self) -> Volume:
        """Return the (1, 1, X) distance to the patient's left of the centre of the field of view."""
        return ((np.arange(self.shape[2], dtype=np.float32) - (self.shape[2] - 1) / 2) * self.spacing_mm[2])[
            None, None, :
        ]

    @property
    def height_mm(self) -> float:
        """Return the extent of the scan from its lower to its upper end."""
        return self.shape[0] * self.spacing_mm[0]

    def index_of(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert points (..., 3) in mm (z, y, x) to fractional voxel indices."""
        return points_mm / np.array(self.spacing_mm) + self._origin

    def point_of(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Convert voxel indices (..., 3) to points in mm (z, y, x)."""
        return (index - self._origin) * np.array(self.spacing_mm)

    @property
    def _origin(self) -> NDArray[np.float64]:
        return np.array([-0.5, (self.shape[1] - 1) / 2, (self.shape[2] - 1) / 2])


def smooth_noise(rng: np.random.Generator, frame: Frame, scale_mm: float) -> Volume:
    """Draw a Gaussian random field (Z, Y, X), mean 0 and standard deviation 1, of structures about scale_mm wide."""
    white = rng.standard_normal(frame.shape, dtype=np.float32)
    field = gaussian_filter(white, [scale_mm / 2 / step for step in frame.spacing_mm], truncate=3.0)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def paint(volume: Volume, value: Volume | float, occupancy: Volume) -> Volume:
    """Mix `value` into `volume` by the fraction `occupancy` of every voxel."""
    return (volume + (value - volume) * occupancy).astype(np.float32)


def tubes(frame: Frame, starts: NDArray[np.float64], ends: NDArray[np.float64], radii: NDArray[np.float64]) -> Volume:
    """Return the fraction of every voxel that straight tubes fill, anti-aliased: the volume of a thin tube is kept.

    Args:
        frame: The voxel grid (Z, Y, X).
        starts: (n, 3) points in mm, (z, y, x).
        ends: (n, 3) points in mm.
        radii: (n,) in mm.

    Returns:
        float32 (Z, Y, X) in [0, 1].
    """
    axis = ends - starts
    length = np.linalg.norm(axis, axis=1)
    steps = max(1, int(np.ceil(length.max(initial=0.0) / 2.5)))
    along = (np.arange(steps) + 0.5) / steps
    across = _across(axis / np.maximum(length, 1e-6)[:, None])
    points = starts[:, None] + axis[:, None] * along[None, :, None]
    points = points[:, :, None] + (across * radii[:, None, None])[:, None]
    millilitre = np.pi * radii**2 * length / (steps * across.shape[1])
    weight = np.broadcast_to((millilitre / np.prod(frame.spacing_mm))[:, None, None], points.shape[:3])
    return np.minimum(_splat(frame, points.reshape(-1, 3), weight.ravel()), 1.0)


def _across(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 19 points (n, 19, 3) that cover the unit disc across each direction (n, 3) evenly."""
    helper = np.where(np.abs(direction[:, :1]) < 0.8, np.array([[1.0, 0, 0]]), np.array([[0, 0, 1.0]]))
    first = np.cross(direction, helper)
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-6)
    second = np.cross(direction, first)
    angle = np.concatenate([[0.0], np.arange(6) / 6, np.arange(12) / 12]) * 2 * np.pi
    radius = np.repeat([0.0, 0.46, 0.83], [1, 6, 12])
    return (
        first[:, None] * (radius * np.cos(angle))[None, :, None]
        + second[:, None] * (radius * np.sin(angle))[None, :, None]
    )


def _splat(frame: Frame, points_mm: NDArray[np.float64], weight: NDArray[np.float64]) -> Volume:
    """Distribute point weights over the eight nearest voxels; weights outside the scan are lost."""
    index = frame.index_of(points_mm)
    low = np.floor(index).astype(np.int64)
    remainder = index - low
    total = np.zeros(int(np.prod(frame.shape)))
    for corner in np.ndindex(2, 2, 2):
        voxel = low + np.array(corner)
        inside = np.all((voxel >= 0) & (voxel < np.array(frame.shape)), axis=1)
        share = np.prod(np.where(np.array(corner) == 1, remainder, 1 - remainder), axis=1)[inside] * weight[inside]
        total += np.bincount(np.ravel_multi_index(tuple(voxel[inside].T), frame.shape), share, minlength=total.size)
    return total.reshape(frame.shape).astype(np.float32)
