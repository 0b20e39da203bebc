import numpy as np
from numpy.typing import NDArray

from ct.lungs.airways import find_airways

SPACING_MM = (5.0, 2.0, 2.0)


def chest_air(slices: int = 20, pixels: int = 120) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Two lungs up to slice 15, a trachea from the top to slice 8, and below it bronchi that run into the lungs."""
    z, y, x = np.ogrid[:slices, :pixels, :pixels]
    x = x - (pixels - 1) / 2
    y = y - (pixels - 1) / 2
    lungs = (((np.abs(x) - 34) / 22) ** 2 + (y / 36) ** 2 < 1) & (z < 16)
    trachea = (np.hypot(x, y) < 5) & (z >= 8)
    bronchi = (np.abs(y) < 3) & (np.abs(np.abs(x) - (8 - z) * 5) < 5) & (z < 8) & (z > 4)
    return lungs, trachea & ~lungs, bronchi & ~lungs


def test_trachea_and_bronchi_are_followed_into_the_lungs() -> None:
    lungs, trachea, bronchi = chest_air()
    airways = find_airways(lungs | trachea | bronchi, SPACING_MM)
    assert airways[trachea].all()
    assert airways[bronchi][bronchi.nonzero()[0] > 6].all(), "where they are apart from the lungs"
    assert not (airways & lungs).any()


def test_without_a_trachea_nothing_is_found() -> None:
    lungs, _, _ = chest_air()
    assert not find_airways(lungs, SPACING_MM).any()
    assert not find_airways(np.zeros_like(lungs), SPACING_MM).any()


def test_the_tip_of_a_lung_is_no_trachea() -> None:
    lungs, _, _ = chest_air()
    z, y, x = np.ogrid[:20, :120, :120]
    tips = (np.hypot(np.abs(x - 59.5) - 30, y - 59.5) < 6) & (z >= 16) & (z < 19)
    assert not find_airways(lungs | tips, SPACING_MM).any()
