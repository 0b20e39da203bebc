"""Trees of arteries, veins and airways that fill the lobes and taper towards the pleura.

A tree grows as Tawhai et al. (Annals of Biomedical Engineering 28, 2000) grow airways: the points that it has to supply
are divided by a plane, and a branch goes a part of the way towards the middle of each half.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantom.realistic.fields import Grid, Points
from phantom.realistic.thorax import Thorax

# Radius of a branch by its share of the supplied points: between Murray's law (1/3) and equal sections (1/2).
TAPER = 0.35
LEAST_BRANCH_MM = 2.0


@dataclass(frozen=True)
class Tree:
    """Straight branches.

    Attributes:
        starts: (n, 3) in mm.
        ends: (n, 3) in mm.
        radii_mm: (n,).
        lobe: int (n,), the lobe that a branch supplies; 0 before the lobes part.
    """

    starts: Points
    ends: Points
    radii_mm: NDArray[np.float64]
    lobe: NDArray[np.int64]

    def beside(self, direction: Points, factor: float) -> "Tree":
        """Return a tree of radii multiplied by `factor` that runs along this one, in a direction (3,) from it."""
        offset = direction * (self.radii_mm * (1 + factor) + 0.7)[:, None]
        return Tree(self.starts + offset, self.ends + offset, self.radii_mm * factor, self.lobe)

    def thicker_than(self, radius_mm: float) -> "Tree":
        """Return the branches of at least a radius."""
        keep = self.radii_mm >= radius_mm
        return Tree(self.starts[keep], self.ends[keep], self.radii_mm[keep], self.lobe[keep])


def supplied_points(
    rng: np.random.Generator, grid: Grid, thorax: Thorax, count: int
) -> tuple[Points, NDArray[np.int8]]:
    """Draw points (n, 3) in both lungs, evenly and not at their very surface or a fissure, with the lobe of each."""
    inside = np.flatnonzero((thorax.lung_mm > 2.0) & (thorax.fissure_mm > 1.5))
    if not inside.size:
        return np.zeros((0, 3)), np.zeros(0, np.int8)
    chosen = rng.choice(inside, count)
    index = np.stack(np.unravel_index(chosen, grid.shape), 1)
    points = grid.point_of(index) + rng.uniform(-0.5, 0.5, index.shape) * np.array(grid.spacing_mm)
    return points, thorax.lobe.ravel()[chosen]


def grow_tree(
    rng: np.random.Generator, root_mm: Points, radius_mm: float, points: Points, lobe: NDArray[np.int8]
) -> Tree:
    """Grow a tree from a root to points (n, 3); the first branches part the lobes."""
    branches: list[tuple[Points, Points, float, int]] = []
    total = max(len(points), 1)
    waiting = [(root_mm, points[lobe == number], number) for number in np.unique(lobe)]
    while waiting:
        start, own, number = waiting.pop()
        middle = own.mean(0)
        way = middle - start
        reach = float(np.linalg.norm(way))
        if len(own) == 1 or reach < LEAST_BRANCH_MM:
            branches.append((start, middle, radius_mm * (len(own) / total) ** TAPER, int(number)))
            continue
        end = start + way * rng.uniform(0.32, 0.5) + rng.normal(0, 0.04 * reach, 3)
        branches.append((start, end, radius_mm * (len(own) / total) ** TAPER, int(number)))
        spread = own - middle
        # The longest direction of the points, by one step of the power method from a random one.
        direction = spread.T @ (spread @ rng.normal(size=3))
        side = spread @ direction > rng.normal(0, 0.05) * np.abs(spread @ direction).mean()
        if side.all() or not side.any():
            side = np.arange(len(own)) % 2 == 0
        waiting += [(end, own[side], number), (end, own[~side], number)]
    if not branches:
        return Tree(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int64))
    starts, ends, radii, numbers = zip(*branches, strict=True)
    return Tree(np.array(starts), np.array(ends), np.array(radii), np.array(numbers))


def joined(*trees: Tree) -> Tree:
    """Return the branches of several trees as one."""
    return Tree(
        np.concatenate([tree.starts for tree in trees]),
        np.concatenate([tree.ends for tree in trees]),
        np.concatenate([tree.radii_mm for tree in trees]),
        np.concatenate([tree.lobe for tree in trees]),
    )
