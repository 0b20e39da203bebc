"""Shape of the lungs: chest wall, medial border beside heart, aorta and spine, domes of the diaphragm, fissures.

The tables are means over the masks that `phantom.realistic.build` cites, by height above the lowest point of the lungs
as a share of their height.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct.lungs.fissure_shapes import LOBE_SHARES, STATISTICS, FissureName, terms
from phantom.realistic.build import Build
from phantom.realistic.fields import Grid, Points, Volume, ball, noise

# Chest wall around both lungs, shares of half the width and half the depth.
WALL_HEIGHT = (0.0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0, 1.05)
WALL_SIDE = (0.88, 0.95, 1.03, 1.06, 1.06, 1.045, 1.02, 0.975, 0.91, 0.82, 0.60, 0.34, 0.02)
WALL_FRONT = (-0.92, -0.95, -0.98, -1.0, -1.0, -0.98, -0.93, -0.84, -0.70, -0.43, -0.10, 0.08, 0.2)
WALL_BACK = (0.90, 0.94, 0.98, 1.0, 1.02, 1.03, 1.01, 0.96, 0.87, 0.75, 0.53, 0.39, 0.24)
WALL_EXPONENT = 2.25
# Distance of the medial border from the midline in mm at 15, 50 and 85 % of the way from front to back. The masks have
# 61, 33, 26 (right) and 88, 76, 56 (left) in front at the three lowest heights: there the heart takes the place.
MEDIAL_HEIGHT = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
MEDIAL_MM = {
    "right": ((30, 22, 20, 19, 16, 19, 30, 26), (27, 23, 32, 41, 35, 19, 9, 20), (28, 27, 25, 24, 23, 24, 27, 34)),
    "left": ((35, 28, 24, 20, 16, 14, 27, 31), (41, 49, 46, 46, 44, 33, 18, 21), (28, 27, 24, 23, 23, 22, 25, 32)),
}
SIDES = {"left": 1, "right": -1}
# The shares of the lobes are counted on every 6th voxel, and fissures are drawn again until they fit.
COARSE, MOST_DRAWS = 6, 50


@dataclass(frozen=True)
class Thorax:
    """The chest cavity and what divides it; distances in mm, volumes (Z, Y, X).

    Attributes:
        wall_mm: Distance inward from the chest wall.
        floor_mm: Distance above the diaphragm.
        lung_mm: Distance inward from the surface of the nearer lung, negative outside.
        left: Whether a voxel lies on the left of the midline.
        lobe: 1 right upper, 2 middle, 3 right lower, 4 left upper, 5 left lower, also outside the lungs.
        fissure_mm: Distance from the nearest fissure.
        heart_mm: Centre of the heart, (3,).
        heart_radii_mm: Its half axes, (3,).
    """

    wall_mm: Volume
    floor_mm: Volume
    lung_mm: Volume
    left: NDArray[np.bool_]
    lobe: NDArray[np.int8]
    fissure_mm: Volume
    heart_mm: Points
    heart_radii_mm: Points


def shape_thorax(rng: np.random.Generator, grid: Grid, build: Build) -> Thorax:
    """Draw the shape of a patient's lungs."""
    up = grid.z / build.height_mm
    wall = _wall(grid, build, up) + 1.5 * noise(rng, grid, 45)
    left = np.broadcast_to(grid.x > 0, grid.shape)
    medial = np.where(left, _medial(rng, grid, build, up, "left"), _medial(rng, grid, build, up, "right"))
    floor = np.where(left, _floor(rng, grid, build, wall, "left"), _floor(rng, grid, build, wall, "right"))
    above = (grid.z - floor).astype(np.float32)
    heart = np.array([rng.uniform(0.28, 0.36) * build.height_mm, -0.17 * build.depth_mm, rng.uniform(14, 30)])
    radii = np.array([64.0, 46.0, 62.0]) * rng.uniform(0.85, 1.15) * (build.width_mm / 265)
    lung = np.minimum(np.minimum(wall, medial), np.minimum(0.75 * above, -ball(grid, heart, radii)))
    lobe, fissure = _lobes(rng, grid, build, lung)
    return Thorax(wall.astype(np.float32), above, lung.astype(np.float32), left, lobe, fissure, heart, radii)


def _wall(grid: Grid, build: Build, up: Volume) -> Volume:
    side, front, back = (
        np.interp(up, WALL_HEIGHT, table).astype(np.float32) for table in (WALL_SIDE, WALL_FRONT, WALL_BACK)
    )
    half_x = side * build.width_mm / 2
    half_y = (back - front) / 2 * build.depth_mm / 2
    middle = (back + front) / 2 * build.depth_mm / 2
    n = WALL_EXPONENT
    ratio = (np.abs(grid.x / half_x) ** n + np.abs((grid.y - middle) / half_y) ** n) ** (1 / n)
    return ((1 - ratio) * np.sqrt(half_x * half_y)).astype(np.float32)


def _medial(rng: np.random.Generator, grid: Grid, build: Build, up: Volume, side: str) -> Volume:
    """Return the distance lateral of the mediastinum, heart and spine of one side."""
    front, middle, back = (
        np.interp(up, MEDIAL_HEIGHT, table).astype(np.float32) * float(np.clip(rng.normal(1, sd), 0.3, 1.6))
        for table, sd in zip(MEDIAL_MM[side], (0.4, 0.25, 0.12), strict=True)
    )
    place = grid.y / build.depth_mm + 0.5
    border = front + (back - front) * np.clip((place - 0.15) / 0.4, 0, 1)
    # The hilum and the heart bulge half way; the spine does at the very back.
    bulge = middle - front - (back - front) * 0.875
    border = border + bulge * np.exp(-(((place - 0.5) / 0.16) ** 2)) + 70 * np.clip(place - 0.82, 0, 0.25)
    border = border * np.clip(0.4 + 0.6 * place / 0.15, 0.4, 1)  # the lungs come close to each other in front
    distance = SIDES[side] * grid.x - border * build.width_mm / 265
    return (distance + 3.5 * noise(rng, grid, 35) + 1.5 * noise(rng, grid, 14)).astype(np.float32)


def _floor(rng: np.random.Generator, grid: Grid, build: Build, wall: Volume, side: str) -> Volume:
    """Return the height of the diaphragm, (Z, Y, X): deep behind and at the sides, a dome inside."""
    dome = build.dome_mm - (rng.uniform(3, 22) if side == "left" else 0)
    recess = 0.17 * build.height_mm * rng.uniform(0.7, 1.2) * np.clip(0.45 - grid.y / build.depth_mm, 0, 1)
    inward = np.clip(wall / (rng.uniform(62, 85) * build.width_mm / 265), 0, 1)
    bend = 1 - 0.3 * ((grid.y + 20) / (build.depth_mm / 2)) ** 2
    shape = (1 - (1 - inward) ** 2) * np.clip(bend, 0.3, 1)
    return (recess + (dome - recess) * shape + 2.5 * noise(rng, grid, (1e3, 50, 50))).astype(np.float32)


def _lobes(rng: np.random.Generator, grid: Grid, build: Build, lung: Volume) -> tuple[NDArray[np.int8], Volume]:
    """Divide both lungs into lobes by curved and bumpy fissures; a patient has no larger or smaller ones than seen."""
    inside = lung[::COARSE, ::COARSE, ::COARSE] > 0
    z_mm, y_mm, x_mm = (COARSE * mm for mm in grid.spacing_mm)
    few = Grid(inside.shape, (z_mm, y_mm, x_mm), grid.corner_mm)
    for _ in range(MOST_DRAWS):
        coefficients = {name: rng.normal(known.mean, known.sd) for name, known in STATISTICS.items()}
        signed = {name: _above(few, build, name, values) for name, values in coefficients.items()}
        volumes = np.bincount(_labels(few, signed)[inside], minlength=6)[1:]
        shares = volumes / np.repeat([volumes[:3].sum(), volumes[3:].sum()], (3, 2)).clip(1)
        if all(low <= share <= high for share, (low, high) in zip(shares, LOBE_SHARES, strict=True)):
            break
    signed = {}
    for name, values in coefficients.items():
        bumps = STATISTICS[name].bumps_mm * noise(rng, grid, (1e3, 50, 50))
        slope = values[1] * build.height_mm / build.depth_mm
        signed[name] = ((_above(grid, build, name, values) + bumps) / np.hypot(1, slope)).astype(np.float32)
    left, right, horizontal = (np.abs(signed[name]) for name in ("left oblique", "right oblique", "right horizontal"))
    of_right = np.where(signed["right oblique"] > 0, np.minimum(right, horizontal), right)
    return _labels(grid, signed), np.where(grid.x > 0, left, of_right).astype(np.float32)


def _above(grid: Grid, build: Build, name: FissureName, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height above a fissure without bumps in mm, (Z, Y, X)."""
    sign = SIDES["left" if name.startswith("left") else "right"]
    y, x = grid.y / build.depth_mm, (grid.x - sign * build.width_mm / 4) / (build.width_mm / 2)
    return (grid.z / build.height_mm - 0.5 - terms(y, x) @ coefficients) * build.height_mm


def _labels(grid: Grid, above: Mapping[FissureName, NDArray[np.floating]]) -> NDArray[np.int8]:
    """Return the lobe of each voxel (Z, Y, X), also outside the lungs."""
    of_right = np.where(above["right oblique"] > 0, np.where(above["right horizontal"] > 0, 1, 2), 3)
    return np.where(grid.x > 0, np.where(above["left oblique"] > 0, 4, 5), of_right).astype(np.int8)
