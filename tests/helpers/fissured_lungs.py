"""Two smooth lungs in noise, cut by twisted planes that are drawn as thin bright sheets."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct.lungs.fissure_shapes import FissureName

# The lungs, in mm from the scan's corner (z, y, x).
EXTENT_MM = (236.0, 190.0, 290.0)
MIDDLE_Y_MM, MIDDLE_X_MM = 95.0, (88.0, 202.0)
HALF_DEPTH_MM, HALF_WIDTH_MM = 82.0, 54.0
LUNG_HU, TISSUE_HU, NOISE_HU = -850.0, 40.0, 25.0

Plane = tuple[float, float, float]
# Height in mm in the middle of the lung, and slopes along y and x; none is the mean of the real ones.
PLANES: dict[FissureName, Plane] = {
    "right oblique": (112.0, 0.90, 0.20),
    "right horizontal": (134.0, 0.05, -0.10),
    "left oblique": (104.0, 1.30, -0.15),
}
# Change of the slope along y for a mm along x, as fissures of real lungs have it.
TWISTS: dict[FissureName, float] = {"right oblique": 0.0035, "right horizontal": 0.002, "left oblique": -0.008}


@dataclass(frozen=True, eq=False)
class FissuredLungs:
    """A scan with its truth.

    Attributes:
        lung: bool (Z, Y, X).
        lobes: int8, labels in the order of `fissure_shapes.LOBES`.
        hu: int16.
        spacing_mm: (z, y, x).
    """

    lung: npt.NDArray[np.bool_]
    lobes: npt.NDArray[np.int8]
    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]


def fissured_lungs(
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    planes: dict[FissureName, Plane] = PLANES,
    sheet_hu: float = 200.0,
    vessels: int = 0,
    seed: int = 0,
) -> FissuredLungs:
    """Draw the lungs; each slice is the mean of five thin sections.

    Args:
        spacing_mm: Voxel size.
        planes: The fissures.
        sheet_hu: By how much a fissure of 1.5 mm is denser than the lung.
        vessels: Tubes of 3 mm radius from front to back and from right to left, dense as tissue.
        seed: Of the noise and the vessels.
    """
    rng = np.random.default_rng(seed)
    counts = [round(extent / mm) for extent, mm in zip(EXTENT_MM, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(
        *((np.arange(n) + 0.5) * mm for n, mm in zip(counts, spacing_mm, strict=True)), indexing="ij", sparse=True
    )
    right = x < EXTENT_MM[2] / 2
    across = x - np.where(right, *MIDDLE_X_MM)
    radius = np.hypot((y - MIDDLE_Y_MM) / HALF_DEPTH_MM, across / HALF_WIDTH_MM)
    dome_mm = 75.0 * np.exp(-(((y - 70.0) / 45.0) ** 2) - (across / 40.0) ** 2)
    roof_mm = 20.0 + 205.0 * np.sqrt(np.clip(1 - radius**4, 0, 1))
    lung = (radius < 1) & (z > 12.0 + dome_mm) & (z < roof_mm)
    heights = {
        name: level + (y - MIDDLE_Y_MM) * (along_y + TWISTS[name] * across) + along_x * across
        for name, (level, along_y, along_x) in planes.items()
    }
    below_right, below_left = z < heights["right oblique"], z < heights["left oblique"]
    in_right = np.where(below_right, 3, np.where(z < heights["right horizontal"], 2, 1))
    lobes = np.where(lung, np.where(right, in_right, np.where(below_left, 5, 4)), 0)

    density = np.zeros(lung.shape)
    for part in (np.arange(5) - 2) / 5 * spacing_mm[0]:
        for name, height in heights.items():
            steepness = np.hypot(1, np.hypot(*planes[name][1:]))
            sheet = np.exp(-(((z + part - height) / steepness / 0.75) ** 2))
            shown = right == name.startswith("right")
            if name == "right horizontal":
                shown = shown & (z + part > heights["right oblique"])
            density += sheet_hu * sheet * shown / 5
    for number in range(vessels):
        place, height = rng.uniform(30, (170, 260)[number % 2]), rng.uniform(60, 180)
        tube = np.hypot(z - height, (x, y)[number % 2] - place) < 3
        density = np.where(tube, TISSUE_HU - LUNG_HU, density)
    hu = np.where(lung, LUNG_HU + density, TISSUE_HU) + rng.normal(0, NOISE_HU, lung.shape)
    return FissuredLungs(lung, lobes.astype(np.int8), np.rint(hu).astype(np.int16), spacing_mm)


def mean_distance_mm(found: npt.NDArray[np.int8], scan: FissuredLungs, below: tuple[int, ...], plane: Plane) -> float:
    """Return the mean distance of the top of some lobes from the plane that is their top.

    Args:
        found: Labels (Z, Y, X).
        scan: The truth.
        below: Labels of all lobes of the lung below the plane.
        plane: The plane.
    """
    lower, true = (np.isin(labels, below).sum(axis=0) for labels in (found, scan.lobes))
    lung = np.isin(scan.lobes, (1, 2, 3) if below[0] <= 3 else (4, 5)).sum(axis=0)
    crossed = (true > 0) & (true < lung)
    away_mm = np.abs(lower - true)[crossed] * scan.spacing_mm[0] / np.hypot(1, np.hypot(*plane[1:]))
    return float(away_mm.mean())
