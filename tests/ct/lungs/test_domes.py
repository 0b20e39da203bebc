"""A hand-made chest: two lungs over the domes of liver and spleen, with recesses of 10 mm around them."""

import numpy as np
from numpy.typing import NDArray

from ct.lungs.domes import nothing_below, under_domes
from ct.lungs.sides import LEFT, RIGHT

SPACING_MM = (4.0, 4.0, 4.0)
SHAPE = (50, 70, 90)
BoolArray = NDArray[np.bool_]


def grids() -> tuple[NDArray[np.floating], ...]:
    axes = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING_MM, strict=True))
    return tuple(np.meshgrid(*axes, indexing="ij"))


def chest() -> tuple[NDArray[np.int8], BoolArray]:
    """The sides of whole lungs, and the two domes, between the recesses down to where these end."""
    z, y, x = grids()
    domes, sides = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=np.int8)
    for side, middle in ((RIGHT, -75), (LEFT, 75)):
        lung = (np.hypot((x - middle) / 60, y / 90) < 1) & (z > -80)
        dome = np.sqrt(((x - middle) / 50) ** 2 + (y / 80) ** 2 + ((z + 80) / 40) ** 2) < 1
        sides[lung & ~dome] = side
        domes |= dome & lung
    return sides, domes


def test_domes_between_the_recesses() -> None:
    sides, domes = chest()
    found = under_domes(sides, SPACING_MM)
    # The ball does not reach into the domes' narrow ends, where they curve by 31 mm.
    assert found[domes].mean() > 0.85
    _, y, x = grids()
    assert found[domes & (np.abs(y) < 40)].mean() > 0.93
    assert not found[sides > 0].any()
    assert not found[np.abs(x) < 10].any(), "the mediastinum, which has no lung beside it on one of its sides"


def test_a_consolidation_on_a_dome_is_not_under_it() -> None:
    sides, domes = chest()
    z, y, x = grids()
    for centre in ((-40, 62, -75), (-25, 10, 75)):
        ball = np.sqrt(sum((g - c) ** 2 for g, c in zip((z, y, x), centre, strict=True))) < 28
        lesion = ball & (sides > 0)
        # The first takes the recess behind the dome; the second lies on its top, with lung around it in every slice.
        assert lesion.sum() * 4**3 / 1000 > 40, "ml"
        found = under_domes(np.where(lesion, 0, sides).astype(np.int8), SPACING_MM)
        assert found[lesion].mean() < 0.15
        assert found[domes].mean() > 0.8


def test_nothing_below() -> None:
    lung = np.zeros((4, 1, 3), dtype=bool)
    lung[1, 0, 1] = True
    lung[3, 0, 2] = True
    expected = [[[True, True, True]], [[True, False, True]], [[True, False, True]], [[True, False, False]]]
    np.testing.assert_array_equal(nothing_below(lung), expected)
