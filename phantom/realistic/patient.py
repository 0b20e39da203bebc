"""One realistic phantom, scanned once: CT in HU with the truth of lungs, infection and patterns, in memory."""

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct.refusal import Refusal
from phantom.realistic.acquisition import Scanner, draw_scanner, move, scan, seen_sections, slabs
from phantom.realistic.body import WATER_HU, paint_body
from phantom.realistic.build import Build, draw_build
from phantom.realistic.fields import Grid, Volume, noise, paint, rise
from phantom.realistic.lesions import DRAWN_FROM, Infection, infect, lesion_volumes
from phantom.realistic.mimics import Mimics, add_mimics
from phantom.realistic.parenchyma import airway_shares, grow_trees, normal_lung, trachea, vessel_share, with_hila
from phantom.realistic.thorax import Thorax, shape_thorax

KINDS = ("clear", "infected", "severe")
# Around the lungs: the abdomen below, the neck above.
BELOW_MM, ABOVE_MM = (10.0, 60.0), (5.0, 30.0)


@dataclass(frozen=True)
class RealisticPhantom:
    """One synthetic scan, canonical (Z, Y, X).

    Attributes:
        hu: int16.
        spacing_mm: (z, y, x).
        lungs: uint8, 1 = left, 2 = right.
        lobes: int8, 0 outside the lungs, 1 right upper, 2 middle, 3 right lower, 4 left upper, 5 left lower.
        drawn_lungs: uint8 (Z, Y, X), lungs as programs and readers draw them: more or less generous, domes taken in.
        patterns: int8, codes of paper L3: 0 outside infection, 5 .. 10 inside.
        mimics: bool, look-alikes that are no infection.
        build: The patient's sizes.
        scanner: The scanner's settings.
    """

    hu: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    lungs: NDArray[np.uint8]
    lobes: NDArray[np.int8]
    drawn_lungs: NDArray[np.uint8]
    patterns: NDArray[np.int8]
    mimics: NDArray[np.bool_]
    build: Build
    scanner: Scanner

    @property
    def infection(self) -> NDArray[np.bool_]:
        """Return where a reader draws infection."""
        return self.patterns > 0

    @property
    def infection_ml(self) -> float:
        """Return the infected volume."""
        return float(self.infection.sum()) * math.prod(self.spacing_mm) / 1000


def make_realistic(
    seed: int | tuple[int, ...], kind: str, size: int = 160, slice_mm: float | None = None
) -> RealisticPhantom:
    """Draw one patient and scan it.

    Args:
        seed: The patient; the same arguments give the same scan.
        kind: "clear" (look-alikes only), "infected" (as MosMedData) or "severe".
        size: Rows and columns of an image.
        slice_mm: Distance of slices; drawn from 1 to 10 mm by default.

    Returns:
        The scan with its truth.

    Raises:
        ValueError: An unknown kind, or fewer than 32 columns.
    """
    if kind not in KINDS:
        raise Refusal("kind is {kind!r}; expected one of {kinds}", kind=kind, kinds=", ".join(KINDS))
    if size < 32:
        raise Refusal("size is {size} columns; expected at least 32, for a chest that can be recognised", size=size)
    draw = _Draw(seed)
    build = draw_build(draw("build"))
    scanner = draw_scanner(draw("scanner"), build, slice_mm)
    grid = _grid(draw("grid"), build, scanner, size)
    thorax = shape_thorax(draw("thorax"), grid, build)
    lung_hu = normal_lung(draw("parenchyma"), grid, build, thorax)
    mimics = add_mimics(draw("mimics"), grid, build, thorax, lung_hu)
    volumes = lesion_volumes(draw("volumes"), kind == "severe") if kind != "clear" else np.zeros(0)
    infection = infect(draw("lesions"), grid, build, thorax, mimics.content_hu, volumes)
    share, hu = _composed(draw, grid, build, thorax, mimics, infection)
    return _scanned(draw, grid, build, scanner, thorax, mimics, infection, share, hu)


class _Draw:
    """Generators by name, so that one part of the patient does not change with another."""

    def __init__(self, seed: int | tuple[int, ...]) -> None:
        self.seed = [seed] if isinstance(seed, int) else list(seed)

    def __call__(self, name: str) -> np.random.Generator:
        return np.random.default_rng([*self.seed, zlib.crc32(name.encode())])


def _grid(rng: np.random.Generator, build: Build, scanner: Scanner, size: int) -> Grid:
    """Return the grid of sections, a whole number of slices around the lungs."""
    pixel = round(scanner.field_mm / size, 6)
    below, above = rng.uniform(*BELOW_MM), rng.uniform(*ABOVE_MM)
    slices = max(1, math.ceil((build.height_mm + below + above) / scanner.slice_mm))
    section = scanner.slice_mm / scanner.sections
    middle = (size - 1) / 2 * pixel
    corner = (-below + section / 2, scanner.off_mm[0] - middle, scanner.off_mm[1] - middle)
    return Grid((slices * scanner.sections, size, size), (section, pixel, pixel), corner)


def _composed(
    draw: _Draw, grid: Grid, build: Build, thorax: Thorax, mimics: Mimics, infection: Infection
) -> tuple[Volume, Volume]:
    """Put lungs, vessels, airways, fluid and body together; return the share of lung in each voxel, and HU."""
    trees = grow_trees(draw("trees"), grid, build, thorax)
    pixel = grid.spacing_mm[2]
    chest = np.clip(thorax.lung_mm / pixel + 0.5, 0, 1).astype(np.float32)
    share = chest * (1 - mimics.fluid)
    engorged = 1 + 0.8 * (infection.occupancy - infection.dense)
    vessels = vessel_share(grid, trees.vessels, engorged) * (1 - 0.7 * infection.dense)
    outer, lumen = airway_shares(draw("airways"), grid, trees.airways, mimics.bronchiectasis)
    surrounded = with_hila(draw("hila"), grid, trees, infection.content_hu)
    content = paint(surrounded, build.blood_hu, vessels)
    hu = paint_body(draw("body"), grid, build, thorax)
    hu = paint(hu, WATER_HU, chest * mimics.fluid)
    # Vessels and walls of airways run on into the mediastinum: they are painted over both.
    hu = paint(hu, content, share)
    wall = np.clip(outer - lumen, 0, 1) * (1 - 0.5 * infection.dense)
    hu = paint(paint(hu, 10.0, wall), -960.0, lumen)
    windpipe = trachea(draw("trachea"), grid, build)
    hu = paint(paint(hu, 20.0, np.clip(1.4 * windpipe, 0, 1) * (windpipe < 0.9)), -990.0, windpipe)
    return share, hu


def _scanned(
    draw: _Draw,
    grid: Grid,
    build: Build,
    scanner: Scanner,
    thorax: Thorax,
    mimics: Mimics,
    infection: Infection,
    share: Volume,
    hu: Volume,
) -> RealisticPhantom:
    """Average sections to slices, scan them, and draw the truth on the same grid."""
    moved = move(draw("motion"), grid, thorax, hu)
    count = grid.shape[0] // scanner.sections
    corner = (grid.corner_mm[0] + (scanner.slice_mm - grid.spacing_mm[0]) / 2, *grid.corner_mm[1:])
    seen = Grid((count, *grid.shape[1:]), (scanner.slice_mm, *grid.spacing_mm[1:]), corner)
    lung = slabs(share, scanner)
    left = np.broadcast_to(seen.x > 0, seen.shape)
    inside = lung > 0.5
    occupancy = slabs(infection.occupancy * share, scanner) / np.maximum(lung, 0.1)
    codes = seen_sections(infection.code, scanner)
    middle = codes[:, scanner.averaged // 2]
    lobe = seen_sections(thorax.lobe, scanner)[:, scanner.averaged // 2]
    code = np.where(middle > 0, middle, codes.max(1))
    patterns = np.where(inside & (occupancy > DRAWN_FROM), code, 0).astype(np.int8)
    lungs = np.where(inside, np.where(left, 1, 2), 0).astype(np.uint8)
    drawn = _drawn_lungs(draw("mask"), seen, slabs(thorax.lung_mm, scanner), slabs(thorax.floor_mm, scanner), inside)
    drawn |= patterns > 0
    return RealisticPhantom(
        hu=scan(draw("noise"), seen, build, scanner, slabs(moved, scanner)),
        spacing_mm=(scanner.slice_mm, grid.spacing_mm[1], grid.spacing_mm[2]),
        lungs=lungs,
        lobes=np.where(inside, lobe, 0).astype(np.int8),
        drawn_lungs=np.where(drawn, np.where(left, 1, 2), 0).astype(np.uint8),
        patterns=patterns,
        mimics=slabs(mimics.occupancy * (1 - infection.occupancy), scanner) > 0.5,
        build=build,
        scanner=scanner,
    )


def _drawn_lungs(
    rng: np.random.Generator, grid: Grid, lung_mm: Volume, floor_mm: Volume, inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Draw a mask of the lungs with the errors of real ones: its border in or out, and domes below it taken in."""
    if rng.random() < 0.3:
        return inside.copy()
    error = rng.uniform(-1.5, 2.0) + rng.uniform(0, 1.5) * noise(rng, grid, 25)
    if rng.random() < 0.3:  # bulges into the chest wall, the mediastinum or the liver
        error = error + rng.uniform(5, 15) * np.maximum(noise(rng, grid, 45) - rng.uniform(0.8, 1.6), 0)
    drawn = lung_mm + error > 0
    if rng.random() < 0.35:
        below = rng.uniform(2, 14) * rise(noise(rng, grid, 40) - rng.uniform(-0.3, 1.0), 0.5)
        drawn |= (lung_mm > -12) & (floor_mm < 0) & (floor_mm > -below)
    return np.asarray(drawn)
