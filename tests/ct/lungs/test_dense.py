"""A hand-made chest: an elliptic rib cage with gaps between the ribs, two lungs, a heart and a liver."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ct.lungs.dense import dense_lung
from ct.lungs.rib_cage import find_body, find_bones, inside_ribs
from ct.lungs.sides import LEFT, RIGHT

SPACING_MM = (4.0, 4.0, 4.0)
SHAPE = (40, 80, 90)
Chest = tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.int8]]


def grids() -> tuple[NDArray[np.floating], ...]:
    return tuple((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING_MM, strict=True))


@pytest.fixture(scope="module")
def chest() -> Chest:
    """HU, the space inside the ribs, and the sides of the whole lungs."""
    z, y, x = np.meshgrid(*grids(), indexing="ij")
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[np.hypot(x / 165, y / 125) < 1] = 50
    wall = np.hypot(x / 135, y / 95)
    # Ribs of 12 mm with gaps of 16 mm between them, and a spine.
    hu[(wall > 1) & (wall < 1.09) & ((z % 28) < 12)] = 400
    hu[np.hypot(x, y - 92) < 20] = 300
    inside = (wall < 1) & (hu == 50)
    heart = np.hypot((x - 20) / 50, (y + 30) / 50) < 1
    liver = z < -20 - 45 * wall**2
    lungs = inside & (np.abs(x) > 25) & ~heart & ~liver
    hu[lungs] = -850
    sides = np.where(lungs, np.where(x < 0, RIGHT, LEFT), 0).astype(np.int8)
    return hu, inside, sides


def without(chest: Chest, lesion: NDArray[np.bool_], value: int) -> tuple[NDArray[np.int16], NDArray[np.int8]]:
    """The chest with a lesion in the lungs; HU and the sides of what still holds air."""
    hu, _, sides = chest
    hu, aerated = hu.copy(), sides.copy()
    hu[lesion] = value
    aerated[lesion] = 0
    return hu, aerated


def pleural(chest: Chest, radius_mm: float, centre: tuple[int, int, int] = (0, 70, -85)) -> NDArray[np.bool_]:
    z, y, x = np.meshgrid(*grids(), indexing="ij")
    return (chest[2] > 0) & (np.sqrt(sum((g - c) ** 2 for g, c in zip((z, y, x), centre, strict=True))) < radius_mm)


def test_inside_of_the_ribs(chest: Chest) -> None:
    hu, inside, sides = chest
    soft = find_body(hu) & ~find_bones(hu, SPACING_MM)
    cage = inside_ribs(soft, sides > 0, SPACING_MM)
    shown = (sides > 0).any(axis=(1, 2))
    assert not cage[~shown].any()
    assert cage[shown][inside[shown]].mean() > 0.97
    _, y, x = np.meshgrid(*grids(), indexing="ij")
    assert not cage[np.hypot(x / 135, y / 95) > 1.1].any(), "the ball passed between the ribs"


def test_bones_are_large_and_dense() -> None:
    hu = np.full((4, 20, 20), 50, dtype=np.int16)
    hu[:, 5:9, 5:15] = 300
    hu[2, 15, 15] = 900  # a speck
    bones = find_bones(hu, (5.0, 2.0, 2.0))
    np.testing.assert_array_equal(bones, hu == 300)


@pytest.mark.slow
@pytest.mark.parametrize("value", [40, -200])
@pytest.mark.parametrize("radius_mm", [30, 45])
def test_consolidation_at_the_ribs_is_lung(chest: Chest, radius_mm: int, value: int) -> None:
    lesion = pleural(chest, radius_mm)
    hu, aerated = without(chest, lesion, value)
    added = dense_lung(hu, aerated, np.zeros(SHAPE, dtype=bool), SPACING_MM)
    assert (added[lesion] == RIGHT).mean() > 0.85
    assert (added[~lesion] != 0).sum() < 0.15 * lesion.sum()


def test_a_consolidated_lobe_with_lung_around_it(chest: Chest) -> None:
    lesion = pleural(chest, 42, centre=(25, 50, 76))
    hu, aerated = without(chest, lesion, 40)
    assert lesion.sum() > 0.1 * (chest[2] == LEFT).sum()
    added = dense_lung(hu, aerated, np.zeros(SHAPE, dtype=bool), SPACING_MM)
    assert (added[lesion] == LEFT).mean() > 0.85


def test_heart_liver_and_chest_wall_are_not_lung(chest: Chest) -> None:
    hu, _, sides = chest
    added = dense_lung(hu, sides, np.zeros(SHAPE, dtype=bool), SPACING_MM)
    assert (added != 0).sum() < 0.02 * (sides > 0).sum()


def test_bowel_under_the_diaphragm_is_not_lung(chest: Chest) -> None:
    z, y, x = np.meshgrid(*grids(), indexing="ij")
    bowel = np.sqrt((z + 52) ** 2 + (y - 10) ** 2 + (x - 75) ** 2) < 13
    hu = chest[0].copy()
    hu[bowel] = -400
    assert (chest[2] == LEFT)[bowel.any(axis=(1, 2))].any(axis=(1, 2)).all(), "lung is seen in every slice of it"
    added = dense_lung(hu, chest[2], np.zeros(SHAPE, dtype=bool), SPACING_MM)
    assert not added[bowel].any()


def test_other_air_is_not_taken(chest: Chest) -> None:
    lesion = pleural(chest, 30)
    hu, aerated = without(chest, lesion, -200)
    assert not dense_lung(hu, aerated, lesion, SPACING_MM)[lesion].any()


def test_nothing_is_guessed_where_no_rib_cage_can_be_seen(chest: Chest) -> None:
    lesion = pleural(chest, 30)
    hu, aerated = without(chest, lesion, 40)
    nothing = np.zeros(SHAPE, dtype=bool)
    assert dense_lung(hu, aerated, nothing, SPACING_MM).any()
    assert not dense_lung(hu, aerated, nothing, (1.0, 4.0, 4.0)).any(), "40 mm of height"
    assert not dense_lung(hu, aerated, nothing, (4.0, 8.0, 8.0)).any(), "pixels of 8 mm"
    assert not dense_lung(hu.clip(max=100), aerated, nothing, SPACING_MM).any(), "no bone"
