"""Small synthetic CT volumes of other body parts than the chest, which must be refused."""

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.int16]
Places = list[NDArray[np.float64]]


def head_ct() -> tuple[Volume, tuple[float, float, float]]:
    """Draw a head: skull, brain, paranasal sinuses, mastoid cells, throat and a foam headrest.

    Returns:
        int16 (40, 96, 96) in HU, canonical; voxel size (z, y, x) in mm.
    """
    rng = np.random.default_rng(1)
    spacing_mm = (5.0, 2.5, 2.5)
    z, y, x = places = _places((40, 96, 96), spacing_mm)
    hu = np.full((40, 96, 96), -1000.0)
    hu[(np.abs(y - 112) < 9) & (np.abs(x) < 70) & (z > -200)] = -920  # the headrest's foam
    skin = _ratio(places, (0, 0, 0), (105, 100, 80))
    hu[skin < 1] = 40
    hu[skin < 0.94] = 900
    hu[skin < 0.87] = 35
    hu[(skin < 0.94) & (z < -40) & (y < 20)] = 60  # the face, below the brain
    for side in (-1, 1):
        hu[_ratio(places, (-50, -60, side * 28), (18, 18, 15)) < 1] = -1000  # maxillary sinus
        hu[_ratio(places, (-5, -80, side * 12), (14, 6, 10)) < 1] = -1000  # frontal sinus
        mastoid = _ratio(places, (-35, 25, side * 58), (18, 15, 10)) < 1
        hu[mastoid] = rng.uniform(-950, 400, hu.shape)[mastoid]
    hu[(z < -45) & (np.hypot(x, y + 15) < 10)] = -1000  # the throat
    return _scanned(hu, rng), spacing_mm


def abdomen_ct(bases: bool = True) -> tuple[Volume, tuple[float, float, float]]:
    """Draw an abdomen: liver, spine, gas in stomach and bowel, stool; optionally the bases of the lungs on top.

    Args:
        bases: Whether the six highest slices show the bases of the lungs, about 0.2 litres.

    Returns:
        int16 (40, 88, 88) in HU, canonical; voxel size (z, y, x) in mm.
    """
    rng = np.random.default_rng(2)
    spacing_mm = (6.0, 4.0, 4.0)
    z, y, x = places = _places((40, 88, 88), spacing_mm)
    hu = np.full((40, 88, 88), -1000.0)
    skin = np.hypot(x / 160, y / 112) + 0 * z
    hu[skin < 1] = -100
    hu[skin < 0.88] = 45
    hu[_ratio(places, (60, -10, -70), (90, 80, 70)) < 1] = 60  # liver
    hu[(np.hypot(x, y - 70) < 22) & (z > -200)] = 350  # spine
    hu[_ratio(places, (70, -40, 60), (40, 35, 45)) < 1] = -990  # stomach
    for centre in ((-20, -60, -40), (-60, -50, 30), (10, -65, 20), (-90, -20, 80), (-40, 10, -90)):
        hu[_ratio(places, centre, (22, 20, 26)) < 1] = -1000  # bowel
    stool = _ratio(places, (-80, 20, -95), (40, 22, 25)) < 1
    hu[stool] = rng.uniform(-600, 50, hu.shape)[stool]
    if bases:
        for side in (-1, 1):
            base = _ratio(places, (150, 40, side * 75), (65, 45, 50)) < 1
            hu[base] = rng.normal(-830, 60, hu.shape)[base]
    return _scanned(hu, rng), spacing_mm


def _places(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Places:
    """Return the distances of the voxels from the middle in mm: three arrays that broadcast to the shape."""
    grids = np.ogrid[tuple(slice(count) for count in shape)]
    return [(grid - (count - 1) / 2) * mm for grid, count, mm in zip(grids, shape, spacing_mm, strict=True)]


def _ratio(places: Places, centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.float64]:
    """Return a ratio that is below 1 inside an ellipsoid."""
    return np.sqrt(sum(((p - c) / r) ** 2 for p, c, r in zip(places, centre, radii, strict=True)))


def _scanned(hu: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    return np.rint(hu + rng.normal(0, 15, hu.shape)).clip(-1024, 3071).astype(np.int16)
