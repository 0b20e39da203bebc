"""CT volumes that show no chest: a head and an abdomen, coarse but in HU."""

import numpy as np

SPACING_MM = (5.0, 3.0, 3.0)
SHAPE = (30, 80, 80)


def _grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, y, x in mm from the middle of the volume."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING_MM, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def _finish(hu: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, hu.shape)
    return np.rint(hu + noise).clip(-1024, 3071).astype(np.int16)


def head_ct() -> tuple[np.ndarray, tuple[float, float, float]]:
    """Brain in a skull, with air in sinuses, nose and mastoid cells: int16 HU (Z, Y, X) and spacing (z, y, x) in mm."""
    z, y, x = _grid()
    radius = np.sqrt((x / 75) ** 2 + (y / 92) ** 2 + (z / 90) ** 2)
    hu = np.full(SHAPE, -1000.0)
    hu[radius < 1.08] = 40  # scalp
    hu[radius < 1.02] = 850  # skull
    hu[radius < 0.94] = 35  # brain
    for z0, y0, x0, size in [
        (-20, -70, -22, 14),
        (-20, -70, 22, 14),
        (-10, -72, 0, 11),
        (-30, 10, -62, 9),
        (-30, 10, 62, 9),
    ]:
        hu[np.sqrt((z - z0) ** 2 + (y - y0) ** 2 + (x - x0) ** 2) < size] = -950
    return _finish(hu), SPACING_MM


def abdomen_ct() -> tuple[np.ndarray, tuple[float, float, float]]:
    """Soft tissue with gas in stomach and bowel and the bases of the lungs in the top slices; as `head_ct`."""
    z, y, x = _grid()
    body = np.sqrt((x / 108) ** 2 + (y / 78) ** 2)
    hu = np.full(SHAPE, -1000.0)
    hu[body < 1] = -100  # fat
    hu[body < 0.88] = 45
    hu[np.sqrt(x**2 + (y - 50) ** 2) < 16] = 300  # spine
    for z0, y0, x0, size in [(20, -30, 45, 26), (-20, -40, -30, 20), (-45, -35, 10, 17), (-5, -45, -50, 15)]:
        hu[np.sqrt((z - z0) ** 2 + (y - y0) ** 2 + (x - x0) ** 2) < size] = -1000
    for side in (-1, 1):
        bases = (np.sqrt(((x - side * 50) / 34) ** 2 + ((y - 10) / 48) ** 2) < 1) & (z > 55)
        hu[bases] = -860
    return _finish(hu), SPACING_MM
