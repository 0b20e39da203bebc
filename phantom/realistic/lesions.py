"""Infection: ground glass from faint to dense, crazy paving and consolidation, sized and placed as on real scans.

Measured by us on the 50 masks of MosMedData COVID19_1110 (Morozov et al. 2020, arXiv 2005.06465; CC BY-NC-ND 3.0, no
part of this project; statistics only): infected volume .4 / 26 / 66 / 109 / 535 ml (least, quartiles, most); 2 / 7 / 14
components of more than .5 ml (10 %, median, 90 %); their volume .5 / .85 / 2.0 / 6.6 / 23 / 64 / 225 ml (least, 25 %,
50 %, 75 %, 90 %, 95 %, most); their centre at .20 / .43 / .65 of the scan's height (least, median, most).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantom.lesions import CONSOLIDATION, CRAZY_PAVING, GROUND_GLASS, SEPTAL
from phantom.realistic.build import Build
from phantom.realistic.fields import Grid, Points, Volume, ball, noise, rise
from phantom.realistic.thorax import Thorax

COMPONENTS = (7.0, 0.75)  # median, and standard deviation of the logarithm
COMPONENT_ML = (2.0, 2.0)
TOTAL_ML = (66.0, 1.2)
LEAST_ML, MOST_ML = 0.3, 1500.0
# A reader draws where a lesion takes this share of the lung.
DRAWN_FROM = 0.35


@dataclass(frozen=True)
class Infection:
    """What infection makes of the lungs, (Z, Y, X).

    Attributes:
        content_hu: Contents of the lungs without vessels and airways.
        occupancy: Share of each voxel's lung that is infected, in [0, 1].
        code: Pattern code of paper L3 where a lesion was painted last; 0 elsewhere.
        dense: Share of each voxel's lung that is consolidated.
    """

    content_hu: Volume
    occupancy: Volume
    code: NDArray[np.int8]
    dense: Volume


def lesion_volumes(rng: np.random.Generator, severe: bool) -> NDArray[np.float64]:
    """Draw the volumes of a patient's lesions in ml; severe patients have up to a third of their lungs infected."""
    count = max(1, round(COMPONENTS[0] * np.exp(COMPONENTS[1] * rng.normal())))
    volumes = COMPONENT_ML[0] * np.exp(COMPONENT_ML[1] * rng.normal(size=min(count, 40)))
    total = (900.0 if severe else TOTAL_ML[0]) * np.exp((0.5 if severe else TOTAL_ML[1]) * rng.normal())
    # Nine tenths of the way (of the logarithm) towards the patient's total: few lesions stay small, many do not
    # become huge.
    volumes = volumes * (total / volumes.sum()) ** 0.9
    return np.asarray(np.clip(volumes, LEAST_ML, MOST_ML / len(volumes) + 250))


def infect(
    rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax, lung_hu: Volume, volumes_ml: NDArray[np.float64]
) -> Infection:
    """Paint lesions of given volumes into the lungs.

    Args:
        rng: Source of their places, forms and patterns.
        grid: The grid.
        build: The patient's sizes.
        thorax: The lungs' shape.
        lung_hu: (Z, Y, X) lungs without lesions.
        volumes_ml: (n,).
    """
    state = Infection(
        lung_hu.copy(),
        np.zeros(grid.shape, np.float32),
        np.zeros(grid.shape, np.int8),
        np.zeros(grid.shape, np.float32),
    )
    weight = np.cumsum(_preference(rng, grid, build, thorax).ravel(), dtype=np.float64)
    if weight[-1] <= 0:
        return state
    manner = _Manner.draw(rng)
    for volume in volumes_ml:
        place = np.unravel_index(int(np.searchsorted(weight, rng.uniform(0, weight[-1]))), grid.shape)
        _paint_lesion(rng, grid, thorax, state, grid.point_of(np.array(place)), float(volume), manner)
    return state


@dataclass(frozen=True)
class _Manner:
    """How the lesions of one patient look: those of a patient resemble each other."""

    lift_hu: float
    edge_mm: float
    paving: float
    dense: float
    peripheral: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Manner":
        dense = rng.uniform(0.1, 0.6) if rng.random() < 0.45 else 0.0
        paving = rng.uniform(0.2, 0.8) if rng.random() < 0.35 else 0.0
        return cls(rng.uniform(110, 380), rng.uniform(2, 9), paving, dense, bool(rng.random() < 0.8))


def _preference(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Volume:
    """Weight the places of lesions: near the pleura, at the back, in the lower half, more in some lobes."""
    inside = thorax.lung_mm > 0
    pleura = np.exp(-np.maximum(thorax.wall_mm, 0) / rng.uniform(8, 30)) + rng.uniform(0.02, 0.25)
    back = rng.uniform(0.1, 0.6) + rise(grid.y - 5, 80)
    low = rng.uniform(0.15, 0.6) + rise(0.55 * build.height_mm - grid.z, 100)
    lobes = rng.uniform(0.15, 1, 6).astype(np.float32)[thorax.lobe]
    return (inside * pleura * back * low * lobes).astype(np.float32)


def _paint_lesion(
    rng: np.random.Generator,
    grid: Grid,
    thorax: Thorax,
    state: Infection,
    centre: Points,
    volume_ml: float,
    manner: _Manner,
) -> None:
    """Paint one lesion into `state`, in a window around it."""
    radius = float((volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3))
    cut, near = grid.window(centre, 2.5 * radius + 8)
    lung = thorax.lung_mm[cut]
    depth = _form(rng, near, thorax.wall_mm[cut], centre, radius, manner)
    # Pleura and noise take some of it: the border is moved to where the volume is right.
    inside = depth[lung > 0]
    voxels = int(np.clip(volume_ml * 1000 / np.prod(grid.spacing_mm), 1, max(inside.size - 1, 1)))
    depth = depth - np.float32(np.partition(inside, -voxels)[-voxels] if inside.size > voxels else 0)
    edge = min(manner.edge_mm * rng.uniform(0.6, 1.4), 0.9 * radius)
    occupancy = rise(depth, edge) * (lung > -2)
    if rng.random() < 0.35:  # stops at the fissure
        lobe = thorax.lobe[cut]
        index = np.clip(np.round(near.index_of(centre)), 0, np.array(near.shape) - 1).astype(int)
        occupancy = occupancy * (lobe == lobe[tuple(index)])
    code = GROUND_GLASS
    content = state.content_hu[cut]
    target = _ground_glass(rng, near, content, manner)
    if rng.random() < manner.paving:
        code = CRAZY_PAVING if rng.random() < 0.7 else SEPTAL
        target = _paving(rng, near, target, 7.0 if code == CRAZY_PAVING else 14.0)
    dense = np.zeros_like(occupancy)
    if radius > 6 and rng.random() < manner.dense:
        dense = _consolidation(rng, near, depth, radius, occupancy)
        target = target + (rng.uniform(-160, 45) + 25 * noise(rng, near, 8) - target) * dense
    state.content_hu[cut] = content + (np.maximum(target, content) - content) * occupancy
    state.code[cut] = np.where(occupancy > DRAWN_FROM, np.where(dense > 0.5, CONSOLIDATION, code), state.code[cut])
    state.occupancy[cut] = np.maximum(state.occupancy[cut], occupancy)
    state.dense[cut] = np.maximum(state.dense[cut], dense * occupancy)


def _form(rng: np.random.Generator, near: Grid, wall: Volume, centre: Points, radius: float, manner: _Manner) -> Volume:
    """Return the distance in mm inside a lesion's rough border, positive inside.

    Peripheral lesions follow the pleura: flat across, wide along it. Others are ellipsoids.
    """
    rough = rng.uniform(0.1, 0.35) * radius * noise(rng, near, max(0.9 * radius, 6.0))
    rough = rough + rng.uniform(0.02, 0.12) * min(radius, 15) * noise(rng, near, 7)
    if manner.peripheral and rng.random() < 0.75:
        across, along = rng.uniform(0.5, 1.0) * radius, rng.uniform(1.0, 1.35) * radius
        index = np.clip(np.round(near.index_of(centre)), 0, np.array(near.shape) - 1).astype(int)
        own_depth = float(wall[tuple(index)])
        distance_2 = (near.z - centre[0]) ** 2 + (near.y - centre[1]) ** 2 + (near.x - centre[2]) ** 2
        inward = (wall - own_depth) / across
        sideways = np.maximum(distance_2 - (wall - own_depth) ** 2, 0) / along**2
        return ((1 - np.sqrt(inward**2 + sideways)) * radius + rough).astype(np.float32)
    return (ball(near, centre, rng.uniform(0.75, 1.3, 3) * radius) + rough).astype(np.float32)


def _ground_glass(rng: np.random.Generator, near: Grid, content: Volume, manner: _Manner) -> Volume:
    """Return the density of ground glass: the lung's own, lifted unevenly, never as dense as consolidation."""
    lift = manner.lift_hu * rng.uniform(0.65, 1.35)
    uneven = 1 + rng.uniform(0.1, 0.35) * noise(rng, near, 12) + rng.uniform(0.1, 0.4) * noise(rng, near, 4.5)
    return np.minimum(content + lift * np.clip(uneven, 0.25, 2), -220).astype(np.float32)


def _paving(rng: np.random.Generator, near: Grid, target: Volume, scale_mm: float) -> Volume:
    """Draw thickened septa: the net where smooth noise is zero."""
    lines = np.exp(-((noise(rng, near, scale_mm) / rng.uniform(0.2, 0.4)) ** 2))
    return (target + rng.uniform(80, 260) * lines).astype(np.float32)


def _consolidation(rng: np.random.Generator, near: Grid, depth: Volume, radius: float, occupancy: Volume) -> Volume:
    """Return the share of a lesion that is consolidated: all of it, its core, its rim (reversed halo) or patches."""
    kind = rng.choice(("all", "core", "rim", "patches"), p=(0.25, 0.35, 0.1, 0.3))
    if kind == "all":
        return np.ones_like(occupancy)
    if kind == "core":
        return rise(depth - rng.uniform(0.15, 0.5) * radius, rng.uniform(2, 6))
    if kind == "rim":
        return rise(rng.uniform(4, 8) - depth, 3)
    return rise(noise(rng, near, max(0.6 * radius, 6)) - rng.uniform(-0.3, 0.8), 0.8)
