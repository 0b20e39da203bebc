"""Look-alikes that are no infection: dependent and linear atelectasis, scars, nodules, effusion, apical caps.

They raise the lungs' density and are no part of the truth, so that a model learns what not to call infection.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantom.realistic.build import Build
from phantom.realistic.fields import Grid, Volume, ball, noise, paint, rise
from phantom.realistic.thorax import Thorax


@dataclass(frozen=True)
class Mimics:
    """Look-alikes of one patient.

    Attributes:
        content_hu: Contents of the lungs without vessels and airways, (Z, Y, X).
        fluid: Share of each voxel's lung that pleural effusion takes.
        occupancy: Share of each voxel in a look-alike; what infection displaces is no longer one.
        bronchiectasis: Lobes with widened airways.
    """

    content_hu: Volume
    fluid: Volume
    occupancy: Volume
    bronchiectasis: NDArray[np.int64]


def add_mimics(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax, lung_hu: Volume) -> Mimics:
    """Draw a patient's look-alikes into lungs (Z, Y, X) in HU."""
    hu, marked = lung_hu, np.zeros(grid.shape, np.float32)

    def add(value: Volume | float, occupancy: Volume) -> None:
        nonlocal hu, marked
        occupancy = occupancy * (thorax.lung_mm > -3)
        hu, marked = paint(hu, value, occupancy), np.maximum(marked, occupancy)

    fluid = np.zeros(grid.shape, np.float32)
    if rng.random() < 0.12:
        fluid, compressed = _effusion(rng, grid, build, thorax)
        add(np.maximum(hu, rng.uniform(-250, 20)), compressed)
    if rng.random() < 0.45:
        add(hu + rng.uniform(50, 260), _dependent(rng, grid, build, thorax))
    for _ in range(int(rng.poisson(1.3))):
        add(rng.uniform(-450, 0), _band(rng, grid, thorax))
    for _ in range(int(rng.poisson(1.0))):
        _paint_nodule(rng, grid, thorax, hu, marked)
    if rng.random() < 0.2:
        cap = rise(rng.uniform(3, 9) - thorax.lung_mm + 2 * noise(rng, grid, 10), 3)
        add(rng.uniform(-400, -50), cap * rise(grid.z - 0.88 * build.height_mm, 15))
    if rng.random() < 0.2:  # fat and vessels beside the heart blur into the lung by its beat
        beat = rise(rng.uniform(3, 8) - np.abs(grid.x + 0 * thorax.lung_mm - 60), 8)
        add(hu + rng.uniform(60, 200), rise(8 - thorax.lung_mm, 6) * beat * (grid.y < 10) * (grid.x > 0))
    lobes = np.arange(1, 6)[rng.random(5) < 0.07]
    return Mimics(hu, fluid, marked, lobes)


def _effusion(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> tuple[Volume, Volume]:
    """Draw fluid behind one lung, thinner upwards, and the lung beside it that it compresses."""
    up = np.clip(1 - grid.z / (rng.uniform(0.3, 0.8) * build.height_mm), 0, 1)
    depth = rng.uniform(8, 40) * up * rise(grid.y - 5, 60) - np.minimum(thorax.wall_mm, thorax.floor_mm + 6)
    side = (thorax.left if rng.random() < 0.5 else ~thorax.left) * (up > 0.05)
    fluid = rise(depth - 1, 2) * side
    reach = rng.uniform(3, 12)
    return fluid, np.maximum(rise(depth + 0.5 * reach, reach) * side - fluid, 0)


def _dependent(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Volume:
    """Draw dependent density: a smooth crescent along the back wall, mostly low down and on both sides."""
    thick = rng.uniform(1.5, 10) * (1 + 0.3 * noise(rng, grid, 30))
    crescent = rise(thick - thorax.wall_mm, rng.uniform(3, 10)) * rise(grid.y - 0.25 * build.depth_mm, 25)
    crescent = crescent * (0.15 + rise(rng.uniform(0.2, 0.8) * build.height_mm - grid.z, 60))
    if rng.random() < 0.25:
        crescent = crescent * (thorax.left if rng.random() < 0.5 else ~thorax.left)
    return np.clip(crescent, 0, 1).astype(np.float32)


def _surface_point(
    rng: np.random.Generator, grid: Grid, thorax: Thorax, depth_mm: tuple[float, float]
) -> NDArray[np.float64]:
    """Draw a point of the lungs at a depth below their surface; the grid's middle where there is none."""
    inside = np.flatnonzero((thorax.lung_mm > depth_mm[0]) & (thorax.lung_mm < depth_mm[1]))
    if not inside.size:
        return grid.point_of(np.array(grid.shape) // 2)
    return grid.point_of(np.array(np.unravel_index(int(rng.choice(inside)), grid.shape)))


def _band(rng: np.random.Generator, grid: Grid, thorax: Thorax) -> Volume:
    """Draw a plate of atelectasis or a scar: thin, 2 to 7 cm long, from the pleura inwards or along it."""
    volume = np.zeros(grid.shape, np.float32)
    centre = _surface_point(rng, grid, thorax, (1.0, 25.0))
    half, thick = rng.uniform(10, 35), rng.uniform(0.5, 2.2)
    cut, near = grid.window(centre, half + 8)
    normal = rng.normal(0, 1, 3) * (1.6, 1.0, 1.0)
    normal /= np.linalg.norm(normal)
    offset = [axis - c for axis, c in zip((near.z, near.y, near.x), centre, strict=True)]
    across = sum(part * n for part, n in zip(offset, normal, strict=True)) + 2.0 * noise(rng, near, 25)
    width = max(thick, 0.45 * grid.spacing_mm[2])
    plate = np.exp(-((across / width) ** 2)) * (thick / width)
    volume[cut] = plate * rise(ball(near, centre, np.full(3, half)), 8) * (thorax.lung_mm[cut] > -2)
    return volume


def _paint_nodule(rng: np.random.Generator, grid: Grid, thorax: Thorax, hu: Volume, marked: Volume) -> None:
    """Paint a solid nodule or a granuloma in place."""
    centre = _surface_point(rng, grid, thorax, (2.0, 60.0))
    radius = float(np.clip(rng.gamma(2, 1.8) + 1.2, 1.2, 14))
    cut, near = grid.window(centre, radius * 1.6 + 4)
    shape = ball(near, centre, radius * rng.uniform(0.85, 1.2, 3)) + 0.12 * radius * noise(rng, near, 5)
    occupancy = rise(shape, 1.5) * (thorax.lung_mm[cut] > -2)
    value = rng.uniform(200, 700) if rng.random() < 0.15 else rng.uniform(-40, 60)
    hu[cut] = paint(hu[cut], value, occupancy)
    marked[cut] = np.maximum(marked[cut], occupancy)
