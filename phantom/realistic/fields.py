"""Building blocks on a grid in mm: coordinates, windows, noise at any scale, soft edges, tubes.

All volumes are float32 (Z, Y, X), canonical axes: z foot -> head, y front -> back, x patient right -> left. The origin
is the patient's: z = 0 at the lowest point of the lungs, y = 0 half way between their front and back, x = 0 in the
midline.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Points = NDArray[np.float64]
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centres in the patient's coordinates.

    Attributes:
        shape: (Z, Y, X).
        spacing_mm: (z, y, x).
        corner_mm: Centre of the first voxel, (z, y, x).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    corner_mm: tuple[float, float, float]

    def axis(self, number: int) -> Volume:
        """Return the coordinates along an axis in mm, shaped to broadcast with a volume."""
        line = np.arange(self.shape[number], dtype=np.float32) * self.spacing_mm[number] + self.corner_mm[number]
        shape = [1, 1, 1]
        shape[number] = -1
        return line.reshape(shape).astype(np.float32)

    @property
    def z(self) -> Volume:
        return self.axis(0)

    @property
    def y(self) -> Volume:
        return self.axis(1)

    @property
    def x(self) -> Volume:
        return self.axis(2)

    def index_of(self, points_mm: Points) -> Points:
        """Convert points (..., 3) in mm to fractional voxel indices."""
        return (points_mm - np.array(self.corner_mm)) / np.array(self.spacing_mm)

    def point_of(self, index: NDArray[np.int64]) -> Points:
        """Convert voxel indices (..., 3) to points in mm."""
        return index * np.array(self.spacing_mm) + np.array(self.corner_mm)

    def window(self, centre_mm: Points, reach_mm: float) -> tuple[Slices, "Grid"]:
        """Return the part of the grid within reach_mm of a point along each axis, as slices and as a grid."""
        middle, reach = self.index_of(centre_mm), reach_mm / np.array(self.spacing_mm)
        low = np.clip(np.floor(middle - reach), 0, np.array(self.shape) - 1).astype(int)
        high = np.clip(np.ceil(middle + reach) + 1, low + 1, self.shape).astype(int)
        cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        corner = self.point_of(low)
        shape = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
        return (cut[0], cut[1], cut[2]), Grid(shape, self.spacing_mm, (corner[0], corner[1], corner[2]))


def noise(rng: np.random.Generator, grid: Grid, scale_mm: float | tuple[float, float, float]) -> Volume:
    """Draw a smooth random field, mean 0 and standard deviation 1 at every voxel, of structures about scale_mm wide.

    White noise on a lattice, interpolated by cubic B-splines: the time hardly depends on the scale.
    """
    scales = (scale_mm,) * 3 if isinstance(scale_mm, int | float) else scale_mm
    weights = []
    for count, step, scale in zip(grid.shape, grid.spacing_mm, scales, strict=True):
        pitch = max(scale / 2, 1e-3)
        weights.append(_spline_weights(count, max(step / pitch, 1e-6), float(rng.uniform())))
    lattice = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    field = np.tensordot(lattice, weights[2], (2, 1))
    field = np.matmul(weights[1], field)
    return np.tensordot(weights[0], field, (1, 0)).astype(np.float32)


def _spline_weights(count: int, step: float, phase: float) -> Volume:
    """Return cubic B-spline weights (count, nodes) of positions `phase + step * i`, each row of Euclidean norm 1."""
    if step >= 1.5:  # finer than the voxels: white
        return np.eye(count, dtype=np.float32)
    position = phase + step * np.arange(count)
    nodes = int(np.ceil(position[-1])) + 3
    distance = np.abs(position[:, None] + 1 - np.arange(nodes))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def rise(distance: NDArray[np.floating], width_mm: float) -> Volume:
    """Return a soft step from 0 (negative distance) to 1 (positive), width_mm wide."""
    step = np.clip(distance / np.float32(width_mm) + np.float32(0.5), 0, 1)
    return (step * step * (3 - 2 * step)).astype(np.float32, copy=False)


def paint(volume: Volume, value: Volume | float, occupancy: Volume) -> Volume:
    """Mix `value` into `volume` by the fraction `occupancy` of every voxel."""
    change = np.multiply(np.subtract(value, volume, dtype=np.float32), occupancy, dtype=np.float32)
    change += volume
    return change


def ball(grid: Grid, centre_mm: Points, radii_mm: Points) -> Volume:
    """Return the distance in mm, roughly, from the surface of an ellipsoid, positive inside."""
    axes = (grid.z, grid.y, grid.x)
    ratio = sum(((axis - float(c)) / float(r)) ** 2 for axis, c, r in zip(axes, centre_mm, radii_mm, strict=True))
    return ((1 - np.sqrt(ratio)) * float(np.min(radii_mm))).astype(np.float32, copy=False)


def stamp(volume: Volume, grid: Grid, value: float, centre_mm: Points, radii_mm: Points, edge_mm: float) -> None:
    """Paint an ellipsoid into a volume, in place and in a window."""
    cut, near = grid.window(centre_mm, float(np.max(radii_mm)) + edge_mm)
    volume[cut] = paint(volume[cut], value, rise(ball(near, centre_mm, radii_mm), edge_mm))


def tubes(grid: Grid, starts: Points, ends: Points, radii_mm: NDArray[np.float64]) -> Volume:
    """Return the fraction of every voxel that straight tubes fill, anti-aliased: the volume of a thin tube is kept.

    Args:
        grid: The grid.
        starts: (n, 3) in mm.
        ends: (n, 3) in mm.
        radii_mm: (n,).
    """
    thick = radii_mm > 1.2 * grid.spacing_mm[2]
    filled = _thin_tubes(grid, starts[~thick], ends[~thick], radii_mm[~thick])
    for start, end, radius in zip(starts[thick], ends[thick], radii_mm[thick], strict=True):
        reach = float(np.abs(end - start).max()) / 2 + float(radius) + 4
        cut, near = grid.window((start + end) / 2, reach)
        inside = (float(radius) - _distance_to(near, start, end)) / grid.spacing_mm[2] + 0.5
        np.maximum(filled[cut], np.clip(inside, 0, 1), out=filled[cut])
    return filled


def _distance_to(grid: Grid, start: Points, end: Points) -> Volume:
    """Return the distance in mm from a straight line between two points."""
    way = end - start
    offset = [axis - np.float32(c) for axis, c in zip((grid.z, grid.y, grid.x), start, strict=True)]
    (z, y, x), (dz, dy, dx) = offset, (np.float32(w) for w in way)
    along = (z * dz + y * dy + x * dx) / np.float32(max(float(way @ way), 1e-6))
    along = np.clip(along, 0, 1)
    return np.sqrt((z - along * dz) ** 2 + (y - along * dy) ** 2 + (x - along * dx) ** 2)


def _thin_tubes(grid: Grid, starts: Points, ends: Points, radii_mm: NDArray[np.float64]) -> Volume:
    """Fill tubes hardly wider than a pixel by points: many across one that is not much thinner than a pixel."""
    step = 0.7 * min(grid.spacing_mm[1:])
    length = np.linalg.norm(ends - starts, axis=1)
    steps = np.maximum(1, np.ceil(length / step)).astype(int)
    tube = np.repeat(np.arange(len(starts)), steps)
    order = np.arange(len(tube)) - np.repeat(np.cumsum(steps) - steps, steps)
    along = (order + 0.5) / steps[tube]
    points = starts[tube] + (ends - starts)[tube] * along[:, None]
    volume = (np.pi * radii_mm**2 * length / steps)[tube]
    thick = radii_mm[tube] > 0.6 * step
    first, second = (normal[tube[thick]] for normal in _normals(ends - starts))
    angle = np.concatenate([[0.0], np.arange(5) / 5, np.arange(9) / 9]) * 2 * np.pi
    radius = np.repeat([0.0, 0.48, 0.85], [1, 5, 9])
    across = first[:, None] * (np.cos(angle) * radius)[:, None] + second[:, None] * (np.sin(angle) * radius)[:, None]
    across = across * radii_mm[tube[thick]][:, None, None]
    spread = (points[thick][:, None] + across).reshape(-1, 3)
    share = np.repeat(volume[thick] / len(angle), len(angle))
    total = _splat(grid, np.concatenate([points[~thick], spread]), np.concatenate([volume[~thick], share]))
    return np.minimum(total / float(np.prod(grid.spacing_mm)), 1).astype(np.float32)


def _normals(direction: Points) -> tuple[Points, Points]:
    """Return two unit vectors (n, 3) across each direction (n, 3)."""
    helper = np.where(np.abs(direction[:, :1]) < 0.8 * np.linalg.norm(direction, axis=1, keepdims=True), 1.0, 0.0)
    first = np.cross(direction, np.concatenate([helper, np.zeros_like(helper), 1 - helper], 1))
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-6)
    second = np.cross(direction, first)
    return first, second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-6)


def _splat(grid: Grid, points_mm: Points, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribute weights over the eight voxels around each point; what lies outside the grid is lost."""
    padded = np.array(grid.shape) + 2
    index = np.clip(grid.index_of(points_mm) + 1, 0, padded - 1.001)
    low = index.astype(np.int64)
    part = index - low
    voxels, shares = [], []
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (part[:, axis] if one else 1 - part[:, axis] for axis, one in enumerate(corner))
        shares.append(z * y * x * weight)
        voxels.append(((low[:, 0] + corner[0]) * padded[1] + low[:, 1] + corner[1]) * padded[2] + low[:, 2] + corner[2])
    total: NDArray[np.float64] = np.bincount(  # type: ignore[assignment]  # with weights the sums are float64
        np.concatenate(voxels), np.concatenate(shares), minlength=int(padded.prod())
    )
    return total.reshape(padded)[1:-1, 1:-1, 1:-1]
