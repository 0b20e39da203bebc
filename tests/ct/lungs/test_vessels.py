"""Vessels of drawn tubes and of realistic lungs, and what is none."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ct.lungs.vessels import vessel_mask
from phantom.realistic.acquisition import draw_scanner, scan
from phantom.realistic.body import paint_body
from phantom.realistic.build import draw_build
from phantom.realistic.fields import Grid, ball, paint, tubes
from phantom.realistic.parenchyma import airway_shares, grow_trees, normal_lung, vessel_share
from phantom.realistic.thorax import shape_thorax

SHAPE, SPACING_MM = (48, 96, 104), (1.25, 0.8, 0.8)
GRID = Grid(SHAPE, SPACING_MM, (0.0, 0.0, 0.0))
MIDDLE_MM = np.array([30.0, 38.0, 41.0])


def block(share: NDArray[np.floating], inside_hu: float = 40.0, noise_hu: float = 12.0) -> NDArray[np.int16]:
    """Return HU of a block of lung with noise, filled to a share of every voxel with something denser."""
    noise = np.random.default_rng(0).normal(0, noise_hu, SHAPE)
    return np.rint(paint(np.full(SHAPE, -860, np.float32), inside_hu, share.astype(np.float32)) + noise).astype(
        np.int16
    )


def tube(direction: tuple[float, float, float], radius_mm: float) -> NDArray[np.float32]:
    """Return the share of each voxel in a tube through the middle."""
    way = 25 * np.array(direction) / np.linalg.norm(direction)
    return tubes(GRID, (MIDDLE_MM - way)[None], (MIDDLE_MM + way)[None], np.array([radius_mm]))


def found(share: NDArray[np.floating], inside_hu: float = 40.0) -> float:
    """Return the share of what is mostly filled that is taken for a vessel."""
    filled = share > 0.5
    mask = vessel_mask(block(share, inside_hu), np.ones(SHAPE, np.bool_), SPACING_MM)
    return float(mask[filled].mean())


@pytest.mark.parametrize("radius_mm", [0.8, 1.5, 3.0, 6.0])
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, -1)])
def test_tubes_of_all_widths_and_directions_are_vessels(
    direction: tuple[float, float, float], radius_mm: float
) -> None:
    share = tube(direction, radius_mm)
    mask = vessel_mask(block(share), np.ones(SHAPE, np.bool_), SPACING_MM)
    assert mask[share > 0.5].mean() > 0.85
    assert np.mean(share[mask] > 0.1) > 0.9, "what is taken lies in the tube"


def test_a_sheet_a_ball_and_a_patch_are_none() -> None:
    sheet = np.broadcast_to(np.abs(GRID.y - 38) < 0.8, SHAPE).astype(np.float32)
    patch = np.clip(ball(GRID, MIDDLE_MM, np.array([18.0, 22.0, 25.0])) + 0.5, 0, 1)
    assert found(sheet) < 0.02
    assert found(patch, -450) < 0.02
    assert found(patch) < 0.02


@pytest.mark.parametrize("radius_mm", [2.0, 3.0, 4.0, 5.0, 7.0, 10.0])
def test_a_nodule_is_none(radius_mm: float) -> None:
    assert found(np.clip(ball(GRID, MIDDLE_MM, np.full(3, radius_mm)) + 0.5, 0, 1)) < 0.1


def test_even_lung_with_noise_has_none() -> None:
    mask = vessel_mask(block(np.zeros(SHAPE), noise_hu=30), np.ones(SHAPE, np.bool_), SPACING_MM)
    assert mask.mean() < 1e-3


def test_an_opacity_holds_no_vessel_and_leaves_those_beside_it() -> None:
    share, opacity = tube((0, 0, 1), 2.0), np.zeros(SHAPE, np.bool_)
    opacity[..., 52:] = True
    lung = np.ones(SHAPE, np.bool_)
    free, held = vessel_mask(block(share), lung, SPACING_MM), vessel_mask(block(share), lung, SPACING_MM, opacity)
    assert free[opacity].any()
    np.testing.assert_array_equal(held, free & ~opacity)


@pytest.mark.parametrize(("wall_mm", "most"), [(0.0, 0.0), (0.8, 0.04)])
def test_nothing_outside_the_lungs_is_a_vessel_and_their_border_is_none(wall_mm: float, most: float) -> None:
    depth_mm = ball(GRID, MIDDLE_MM, np.array([26.0, 30.0, 34.0]))
    lung = depth_mm > -wall_mm
    hu = np.where(depth_mm > 0, block(tube((1, 0, 0), 2.0)), 50).astype(np.float32)
    mask = vessel_mask(np.rint(ndimage.gaussian_filter(hu, (0.5, 1, 1))).astype(np.int16), lung, SPACING_MM)
    assert mask.any()
    assert not mask[~lung].any()
    beside_the_tube = np.hypot(GRID.y - MIDDLE_MM[1], GRID.x - MIDDLE_MM[2]) > 6
    assert mask[lung & (depth_mm < 2) & beside_the_tube].mean() <= most


@pytest.mark.parametrize("cut", [(slice(None), slice(None), slice(None)), (slice(24, 25), slice(None), slice(None))])
def test_no_lung_no_vessel_and_a_lone_slice_is_taken(cut: tuple[slice, slice, slice]) -> None:
    hu = block(tube((1, 0, 0), 2.0))[cut]
    assert not vessel_mask(hu, np.zeros(hu.shape, np.bool_), SPACING_MM).any()
    mask = vessel_mask(hu, np.ones(hu.shape, np.bool_), SPACING_MM)
    assert mask[5:-5, 47, 51].mean() > 0.95 if len(hu) > 1 else mask[0, 47, 51]


def realistic_lung(seed: int) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.float32], Grid]:
    """Scan a slab of 50 mm through clear lungs: HU, lungs, and the share of each voxel in vessels."""
    rng = np.random.default_rng(seed)
    build = draw_build(rng)
    scanner = draw_scanner(rng, build, 1.5)
    shape = (33, int(1.2 * build.depth_mm), int(1.15 * build.width_mm))
    corner = (0.45 * build.height_mm - 25, -(shape[1] - 1) / 2, -(shape[2] - 1) / 2)
    grid = Grid(shape, (1.5, 1.0, 1.0), corner)
    thorax = shape_thorax(rng, grid, build)
    lung_hu = normal_lung(rng, grid, build, thorax)
    trees = grow_trees(rng, grid, build, thorax)
    share = vessel_share(grid, trees.vessels, np.ones(1, np.float32))
    outer, lumen = airway_shares(rng, grid, trees.airways, np.zeros(0, np.int64))
    chest = np.clip(thorax.lung_mm + 0.5, 0, 1)
    hu = paint(paint_body(rng, grid, build, thorax), paint(lung_hu, build.blood_hu, share), chest)
    hu = paint(paint(hu, 10.0, np.clip(outer - lumen, 0, 1)), -960.0, lumen)
    return scan(rng, grid, build, scanner, hu), chest > 0.5, share * (1 - outer), grid


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_most_vessels_of_realistic_lungs_are_found_and_little_else(seed: int) -> None:
    hu, lung, share, grid = realistic_lung(seed)
    mask = vessel_mask(hu, lung, grid.spacing_mm)
    sensitivity, precision = (mask & (share > 0.5))[lung].sum() / (share > 0.5)[lung].sum(), np.mean(share[mask] > 0.25)
    assert sensitivity > 0.9
    assert precision > 0.7, "the rest is walls of airways and the blurred edges of vessels"
