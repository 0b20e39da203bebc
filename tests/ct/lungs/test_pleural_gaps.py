import numpy as np
from scipy import ndimage

from ct.lungs.pleural_gaps import pleural_gaps
from ct.mask_shapes import convex_hull

PIXEL_MM = 2.0


def test_a_bite_at_the_ribs_is_a_gap_and_the_hollow_of_the_heart_is_none() -> None:
    y, x = np.meshgrid((np.arange(120) - 59.5) * PIXEL_MM, (np.arange(150) - 74.5) * PIXEL_MM, indexing="ij")
    lung = np.hypot((x - 65) / 50, y / 80) < 1
    # A wall of 25 mm around both lungs.
    body = ndimage.distance_transform_edt(~convex_hull(lung | lung[:, ::-1]), sampling=PIXEL_MM) < 25
    heart = np.hypot(x - 10, y + 10) < 40
    bite = lung & (np.hypot(x - 118, y - 10) < 22)
    aerated = lung & ~heart & ~bite
    gaps = pleural_gaps([aerated], body, PIXEL_MM)
    assert bite.sum() * PIXEL_MM**2 > 500
    assert gaps[bite].mean() > 0.7
    assert not gaps[heart & lung].any()
    assert not gaps[aerated].any()
    assert not gaps[~lung].sum() * PIXEL_MM**2 > 60


def test_a_small_crescent_has_no_gaps() -> None:
    y, x = np.meshgrid((np.arange(120) - 59.5) * PIXEL_MM, (np.arange(150) - 74.5) * PIXEL_MM, indexing="ij")
    crescent = (np.hypot(x - 65, y) < 45) & (np.hypot(x - 65, y + 12) > 40)
    assert not pleural_gaps([crescent], np.ones_like(crescent), PIXEL_MM).any()
