"""Lobes of the lungs, by the fissures of the CT as far as they show, and by where fissures usually lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct.lungs.fissure_evidence import Columns
from ct.lungs.fissure_search import Fissures, LungSearch, Surface, usual_fissures
from ct.lungs.fissure_shapes import BoolArray, FissureName, FloatArray, LungBox, LungShape, Side, centres_mm
from ct.lungs.sides import LEFT, RIGHT, sides_of_slices
from ct.mask_shapes import box_of
from ct.resample import coarser_grid

Labels = npt.NDArray[np.int8]
Spacing = tuple[float, float, float]
Heights = Mapping[FissureName, npt.NDArray[np.float32]]

SIDES: tuple[tuple[int, Side], ...] = ((RIGHT, "right"), (LEFT, "left"))
# Fissures are sought on a lung mask of these voxels, and lobes as they may be instead are drawn on coarser ones.
SEARCHED_MM, DRAWN_MM = 1.5, 3.0
DRAWS = 40
# A candidate with this much less evidence is 1 / e as likely; chosen together with `fissure_search.SPREAD`.
SCORE_SCALE = 8.0
# Least voxels of a lung in which fissures are sought.
LEAST_VOXELS = 1000


@dataclass(frozen=True, eq=False)
class Lobes:
    """The lobes of both lungs.

    Attributes:
        labels: int8 (Z, Y, X), 0 outside the lungs, 1 .. 5 in the order of `fissure_shapes.LOBES`.
        draws: int8 (n, Z', Y', X'), lobes as they may be instead, on voxels of about 3 mm.
        doubt: Share of the lungs that lies in another lobe in a draw, on average.
    """

    labels: Labels
    draws: Labels
    doubt: float


def find_lobes(lung: BoolArray, spacing_mm: Spacing, hu: npt.NDArray[np.int16] | None = None) -> Lobes | None:
    """Divide the lungs into lobes.

    Each lung is divided by surfaces. Before the CT is looked at they are those of 26 real patients, moved and inclined
    with the shape of the lung; where the CT shows sheets that are denser than the lung beside them and that few vessels
    cross, they follow these (`ct.lungs.fissure_search`). The draws say how sure that is.

    Args:
        lung: bool (Z, Y, X), both lungs, canonical.
        spacing_mm: Voxel size (z, y, x).
        hu: int16 (Z, Y, X), the scan. Without it, only the mask is used.

    Returns:
        The lobes; None where a lung is missing, or too small to divide.
    """
    labels = np.zeros(lung.shape, dtype=np.int8)
    for inside, side, target in zip(lung, sides_of_slices(lung, spacing_mm), labels, strict=True):
        np.multiply(inside, side, out=target)
    grid = coarser_grid(lung.shape, spacing_mm, (SEARCHED_MM,) * 3)
    sides = grid.apply_mask(labels)
    if min(np.count_nonzero(sides == side) for side in (LEFT, RIGHT)) < LEAST_VOXELS:
        return None
    fissures = _fissures_of(sides, grid.spacing_mm, hu, spacing_mm)
    few = coarser_grid(lung.shape, spacing_mm, (DRAWN_MM,) * 3)
    drawn_sides = few.apply_mask(labels)
    _label(labels, spacing_mm, fissures[0].surfaces[0] | fissures[1].surfaces[0])
    there = np.flatnonzero(drawn_sides)
    best, different = few.apply_mask(labels).take(there), 0
    draws = np.zeros((DRAWS, drawn_sides.size), dtype=np.int8)
    for draw, lobes in zip(draws, _draw(drawn_sides, few.spacing_mm, fissures), strict=True):
        draw[there] = lobes
        different += int(np.count_nonzero(lobes != best))
    return Lobes(labels, draws.reshape(DRAWS, *drawn_sides.shape), different / (DRAWS * there.size))


def sides_of_lobes(lobes: Labels) -> Iterator[Labels]:
    """Yield the slices (Y, X) of the sides of the lungs, as `ct.lungs.sides.sides_of_slices` does, from their lobes."""
    by_lobe = np.array([0, RIGHT, RIGHT, RIGHT, LEFT, LEFT], dtype=np.int8)
    for plane in lobes:
        yield by_lobe.take(plane)


def _fissures_of(
    sides: npt.NDArray[np.int8], side_mm: Spacing, hu: npt.NDArray[np.int16] | None, spacing_mm: Spacing
) -> list[Fissures]:
    """Return the fissures of the right and the left lung."""
    fissures = []
    for value, side in SIDES:
        mask = sides == value
        box = LungBox.around(mask, side_mm)
        shape = LungShape.of(side, mask, box, side_mm)
        if hu is None:
            fissures.append(usual_fissures(box, shape))
            continue
        search = LungSearch(hu, spacing_mm, Columns.of(mask, side_mm, box), shape)
        fissures.append(search.right() if side == "right" else search.left())
    return fissures


def _draw(sides: Labels, spacing_mm: Spacing, fissures: list[Fissures]) -> Iterator[Labels]:
    """Yield lobes of all voxels of the lungs (N,) as they may be: another candidate, and its surfaces moved."""
    rng = np.random.default_rng(0)
    z_mm, y_mm, x_mm = (centres_mm(count, mm) for count, mm in zip(sides.shape, spacing_mm, strict=True))
    z, y, x = sides.nonzero()
    height_mm, column, side = z_mm[z].astype(np.float32), y * len(x_mm) + x, sides[z, y, x]
    for _ in range(DRAWS):
        surfaces: dict[FissureName, Surface] = {}
        for each in fissures:
            scores = np.array(each.scores)
            likely = np.exp((scores - scores.max()) / SCORE_SCALE)
            chosen = each.surfaces[rng.choice(len(likely), p=likely / likely.sum())]
            surfaces |= {name: surface.moved(rng) for name, surface in chosen.items()}
        heights = _heights_mm(surfaces, y_mm, x_mm)
        yield _lobe(side, height_mm, {name: height.take(column) for name, height in heights.items()})


def _label(sides: Labels, spacing_mm: Spacing, surfaces: Mapping[FissureName, Surface]) -> None:
    """Turn the sides of the lungs (Z, Y, X) into their lobes, in place."""
    box = box_of(sides > 0)
    places = zip(sides.shape, spacing_mm, box, strict=True)
    z_mm, y_mm, x_mm = (centres_mm(count, mm)[part] for count, mm, part in places)
    heights = _heights_mm(surfaces, y_mm, x_mm)
    for z, side in zip(z_mm, sides[box], strict=True):
        np.multiply(_lobe(side, np.float32(z), heights), side > 0, out=side)


def _heights_mm(surfaces: Mapping[FissureName, Surface], y_mm: FloatArray, x_mm: FloatArray) -> Heights:
    return {name: surface.height_mm(y_mm, x_mm).astype(np.float32) for name, surface in surfaces.items()}


def _lobe(side: Labels, z_mm: npt.NDArray[np.float32] | np.float32, heights_mm: Heights) -> Labels:
    """Return the lobes of voxels by the surfaces below and above them."""
    below = {name: (height >= z_mm).view(np.int8) for name, height in heights_mm.items()}
    right = np.where(below["right oblique"], 3, 1 + below["right horizontal"])
    return np.where(side == LEFT, 4 + below["left oblique"], right)
