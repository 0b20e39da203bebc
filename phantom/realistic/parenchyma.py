"""Normal lung and what changes it everywhere: gravity, mosaic, emphysema, texture, fissures, airways and vessels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantom.realistic.body import CARINA_BACK_MM, CARINA_HEIGHT
from phantom.realistic.build import Build
from phantom.realistic.fields import Grid, Points, Volume, noise, paint, rise, stamp, tubes
from phantom.realistic.thorax import SIDES, Thorax
from phantom.realistic.trees import Tree, grow_tree, joined, supplied_points

# Points per tree and lung that branches end at: the smallest vessels of a scan at 0.7 mm.
SUPPLIED = 1200
# Two layers of visceral pleura, which scans of 1 mm show as lines of 100 to 200 HU above the lung.
FISSURE_MM, PLEURA_HU = (0.2, 0.5), 20.0


@dataclass(frozen=True)
class Trees:
    """The branches inside a patient's lungs: `vessels` are arteries and veins, `airways` begin at the main bronchi."""

    vessels: Tree
    airways: Tree
    hila_mm: dict[str, Points]


def normal_lung(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Volume:
    """Return aerated lung without vessels in HU, (Z, Y, X)."""
    gravity = rng.uniform(0.5, 4.5) / 10  # HU per mm; 2.7 and 3.7 per cm in two scans at hand
    hu = build.lung_hu + gravity * grid.y + rng.uniform(-0.1, 0.1) * (grid.z - build.height_mm / 2)
    hu = hu + rng.uniform(3, 12) * noise(rng, grid, 60) + rng.uniform(3, 12) * noise(rng, grid, 20)
    lobules = noise(rng, grid, 7)
    hu = hu + rng.uniform(3, 12) * lobules + rng.uniform(3, 12) * np.exp(0.8 * noise(rng, grid, 4) - 0.3)
    for _ in range(3):  # lobes are ventilated differently
        hu = hu + (thorax.lobe == int(rng.integers(1, 6))) * rng.normal(0, 8)
    hu = hu.astype(np.float32)
    if rng.random() < 0.15:  # mosaic attenuation
        patches = rise(noise(rng, grid, rng.uniform(18, 40)) - rng.uniform(0.2, 0.8), 0.5)
        hu = hu - rng.uniform(25, 80) * patches
    if rng.random() < 0.15:
        hu = _emphysema(rng, grid, build, thorax, hu)
    return paint(hu, PLEURA_HU, _fissures(rng, grid, thorax))


def _emphysema(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax, hu: Volume) -> Volume:
    """Paint holes, mostly in the upper lobes, and bullae below the pleura."""
    top = rise(grid.z - rng.uniform(0.2, 0.7) * build.height_mm, 80)
    holes = rise(noise(rng, grid, rng.uniform(8, 16)) - rng.uniform(0.8, 2.0), 0.6) * top
    if rng.random() < 0.4:
        bullae = rise(noise(rng, grid, rng.uniform(12, 25)) - rng.uniform(0.8, 1.5), 0.4)
        holes = np.maximum(holes, bullae * (thorax.lung_mm < 14) * top)
    return paint(hu, rng.uniform(-1000, -955), rng.uniform(0.5, 1) * holes)


def _fissures(rng: np.random.Generator, grid: Grid, thorax: Thorax) -> Volume:
    """Return the share of each voxel in the fissures, which are incomplete."""
    width = max(1.2, 0.6 * grid.spacing_mm[2])
    # A sheet of `FISSURE_MM`, spread over about a pixel.
    thin = rng.uniform(*FISSURE_MM) / (width * np.sqrt(np.pi)) * np.exp(-((thorax.fissure_mm / width) ** 2))
    return (thin * rise(noise(rng, grid, 50) + 0.9, 1.0)).astype(np.float32)


def grow_trees(rng: np.random.Generator, grid: Grid, build: Build, thorax: Thorax) -> Trees:
    """Grow arteries beside the airways, and veins between them, in each lobe."""
    points, lobe = supplied_points(rng, grid, thorax, 4 * SUPPLIED)
    carina = np.array([CARINA_HEIGHT * build.height_mm, CARINA_BACK_MM, 0.0])
    vessels, airways, hila = [], [], {}
    for side, sign in SIDES.items():
        own = np.isin(lobe, (4, 5) if side == "left" else (1, 2, 3))
        here, of_lobe = points[own], lobe[own]
        half = len(here) // 2
        hilum = np.array([rng.uniform(0.46, 0.54) * build.height_mm, rng.uniform(0, 12), sign * rng.uniform(33, 42)])
        radius = rng.uniform(6.0, 9.5)
        arteries = grow_tree(rng, hilum, radius, here[:half], of_lobe[:half])
        direction = rng.normal(0, 1, 3)
        bronchi = arteries.beside(direction / np.linalg.norm(direction), rng.uniform(0.55, 0.8))
        main = Tree(carina[None], hilum[None], np.array([rng.uniform(5, 6.5)]), np.zeros(1, np.int64))
        atrium = hilum + np.array([-22.0, -4.0, -8.0 * sign])
        veins = grow_tree(rng, atrium, rng.uniform(5.5, 8.5), here[half:], of_lobe[half:])
        vessels += [arteries, veins]
        airways += [main, bronchi]
        hila[side] = hilum
    return Trees(joined(*vessels), joined(*airways), hila)


def with_hila(rng: np.random.Generator, grid: Grid, trees: Trees, content_hu: Volume) -> Volume:
    """Return the lungs' contents (Z, Y, X) with fat and lymph nodes around the vessels and bronchi of both hila."""
    hu = content_hu.copy()
    for side, hilum in trees.hila_mm.items():
        for _ in range(int(rng.integers(1, 6))):
            offset = rng.normal(0, 1, 3) * (14.0, 9.0, 7.0) + (0.0, 0.0, SIDES[side] * rng.uniform(0, 14))
            radii = rng.uniform(3, 11) * rng.uniform(0.7, 1.4, 3)
            stamp(hu, grid, rng.uniform(-110, 60), hilum + offset, radii, rng.uniform(2, 5))
    return hu


def trachea(rng: np.random.Generator, grid: Grid, build: Build) -> Volume:
    """Return the share of each voxel in the trachea."""
    carina = np.array([[CARINA_HEIGHT * build.height_mm, CARINA_BACK_MM, 0.0]])
    top = np.array([[build.height_mm + 60.0, -5.0, rng.uniform(-4, 4)]])
    return tubes(grid, carina, top, np.array([rng.uniform(7, 10)]))


def airway_shares(
    rng: np.random.Generator, grid: Grid, airways: Tree, widened: NDArray[np.int64]
) -> tuple[Volume, Volume]:
    """Return the share of each voxel in the airways with their walls, and in their lumen.

    Args:
        rng: Source of the walls' thickness.
        grid: The grid.
        airways: Their branches; radii are those of the lumen.
        widened: Lobes with bronchiectasis.
    """
    wide = np.isin(airways.lobe, widened) & (airways.radii_mm < 3)
    radii = np.where(wide, airways.radii_mm * rng.uniform(1.5, 2.4), airways.radii_mm)
    seen = Tree(airways.starts, airways.ends, radii, airways.lobe).thicker_than(0.8)
    wall = rng.uniform(0.08, 0.2) * seen.radii_mm + rng.uniform(0.2, 0.5)
    outer = tubes(grid, seen.starts, seen.ends, seen.radii_mm + wall)
    return outer, np.minimum(tubes(grid, seen.starts, seen.ends, seen.radii_mm), outer)


def vessel_share(grid: Grid, vessels: Tree, widening: Volume) -> Volume:
    """Return the share of each voxel in vessels; `widening` (Z, Y, X) multiplies it where lung is inflamed."""
    return np.minimum(tubes(grid, vessels.starts, vessels.ends, vessels.radii_mm) * widening, 1).astype(np.float32)
