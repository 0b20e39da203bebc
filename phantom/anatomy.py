"""Healthy chest of the phantom: body wall, bones, mediastinum, lungs, diaphragm, airways and vessels, with soft edges.

Every length is in millimetres and every edge is a sigmoid over about one pixel, so partial volume is everywhere.
Axes are canonical: z foot -> head, y front -> back, x patient right -> left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

from phantom.grid import Frame, Volume, paint, smooth_noise, tubes

FIELD_OF_VIEW_MM = 340.0
AIR_HU = -1000.0
FAT_HU = -100.0
SOFT_TISSUE_HU = 48.0


@dataclass(frozen=True)
class Anatomy:
    """A chest without lesions, all volumes (Z, Y, X).

    Attributes:
        tissue_hu: Everything except the contents of the lungs.
        left: Fraction of each voxel in the left lung, in [0, 1], vessels included.
        right: The same of the right lung.
        vessels: Vessel fraction of each voxel.
        parenchyma_hu: Aerated lung, with its gravity gradient and texture.
        wall_mm: Distance inward from the chest wall (negative in the wall).
        depth_mm: Distance to the nearest lung border, 0 outside the lungs.
        hila_mm: (2, 3) roots of the left and right vessels.
        vessel_hu: Density of blood.
        density_shift_hu: Density of this patient's lungs above the average (shallow inspiration).
    """

    tissue_hu: Volume
    left: Volume
    right: Volume
    vessels: Volume
    parenchyma_hu: Volume
    wall_mm: Volume
    depth_mm: Volume
    hila_mm: NDArray[np.float64]
    vessel_hu: float
    density_shift_hu: float

    @property
    def lungs(self) -> Volume:
        """Return the fraction of each voxel that belongs to either lung."""
        return self.left + self.right


@dataclass(frozen=True)
class _Build:
    """Sizes of one patient, in mm."""

    body_x: float
    body_y: float
    fat: float
    wall: float
    mediastinum: float
    heart: tuple[float, float, float]
    dome: float


def _sample_build(rng: np.random.Generator) -> _Build:
    fat = rng.uniform(8, 20)
    heart = (rng.uniform(42, 56), rng.uniform(40, 50), rng.uniform(50, 64))
    return _Build(
        rng.uniform(146, 160),
        rng.uniform(106, 119),
        fat,
        fat + rng.uniform(8, 13),
        rng.uniform(24, 34),
        heart,
        rng.uniform(34, 55),
    )


def build_anatomy(rng: np.random.Generator, frame: Frame) -> Anatomy:
    """Draw one chest without lesions.

    Args:
        rng: Source of everything that differs between patients.
        frame: The voxel grid.

    Returns:
        The anatomy, every volume float32 of frame.shape.
    """
    build = _sample_build(rng)
    soft = 0.4 * frame.spacing_mm[2]
    wall_mm = _chest_wall(frame, build)
    left, right = _lung_fractions(rng, frame, build, wall_mm, soft)
    hila = np.array([[0.52 * frame.height_mm, 8.0, side * (build.mediastinum + 8)] for side in (1, -1)])
    trunk, airways = _airways(frame, hila)
    shift = float(rng.normal(0, 26))
    vessels = np.minimum(_vessel_trees(rng, frame, hila), 1.0) * (left + right)
    return Anatomy(
        tissue_hu=paint(_tissue(rng, frame, build, wall_mm, soft), -960.0, np.minimum(trunk + airways, 1.0)),
        left=left,
        right=right,
        vessels=vessels,
        parenchyma_hu=_parenchyma(rng, frame, shift),
        wall_mm=wall_mm,
        depth_mm=distance_transform_edt(left + right > 0.5, sampling=frame.spacing_mm).astype(np.float32),
        hila_mm=hila,
        vessel_hu=float(rng.uniform(25, 60)),
        density_shift_hu=shift,
    )


def _chest_wall(frame: Frame, build: _Build) -> Volume:
    """Return the distance in mm inward from the inner chest wall, a super-ellipse that narrows towards the apex."""
    up = frame.z_mm / frame.height_mm
    narrow = np.sqrt(1 - 0.72 * np.clip((up - 0.38) / 0.62, 0, 1) ** 2)
    half_x, half_y = (build.body_x - build.wall) * narrow, (build.body_y - build.wall) * narrow
    ratio = (np.abs(frame.x_mm / half_x) ** 2.3 + np.abs((frame.y_mm + 4) / half_y) ** 2.3) ** (1 / 2.3)
    return ((1 - ratio) * np.sqrt(half_x * half_y)).astype(np.float32)


def _lung_fractions(
    rng: np.random.Generator, frame: Frame, build: _Build, wall_mm: Volume, soft: float
) -> tuple[Volume, Volume]:
    """Shape the left and right lung: inside the chest wall, beside heart and spine, above the diaphragm."""
    x, y, z, height = frame.x_mm, frame.y_mm, frame.z_mm, frame.height_mm
    heart_z, heart_y, heart_x = build.heart
    heart = np.sqrt(((z - 0.26 * height) / heart_z) ** 2 + ((y + 30) / heart_y) ** 2 + ((x - 16) / heart_x) ** 2)
    spine = np.sqrt((x / 27) ** 2 + ((y - 0.68 * build.body_y) / 30) ** 2)
    width = build.mediastinum * (1 - 0.35 * np.clip(-y / 80, 0, 1) + 0.12 * np.sin(z / 30))
    cavity = expit(wall_mm / soft) * expit((heart - 1) * 50 / soft) * expit((spine - 1) * 28 / soft)
    sides = []
    for side, lift in ((1, 0.0), (-1, 12.0)):
        dome = 1 - ((x - side * 66) / 70) ** 2 - ((y + 18) / 92) ** 2
        floor = 0.03 * height + lift + rng.uniform(-5, 5) + build.dome * np.maximum(dome, -0.6)
        # Breathing blurs the diaphragm beyond the slice thickness: a haze over the dome, the classic false positive.
        thick = frame.spacing_mm[0] + 5
        above = np.clip((z + thick / 2 - floor) / thick, 0, 1)
        sides.append((cavity * above * expit((side * x - width) / soft)).astype(np.float32))
    return sides[0], sides[1]


def _tissue(rng: np.random.Generator, frame: Frame, build: _Build, wall_mm: Volume, soft: float) -> Volume:
    """Paint air, table, fat, muscle, ribs, sternum and spine in HU."""
    x, y, z = frame.x_mm, frame.y_mm, frame.z_mm
    ratio = np.sqrt((x / build.body_x) ** 2 + ((y + 4) / build.body_y) ** 2)
    skin = (1 - ratio) * np.sqrt(build.body_x * build.body_y) + 0 * z
    table = np.exp(-(((y - build.body_y - 9 + 0.0012 * x**2) / 4) ** 2)) * expit((120 - np.abs(x)) / 3) + 0 * z
    hu = paint(np.full(frame.shape, AIR_HU, np.float32), -350.0, table)
    hu = paint(hu, FAT_HU + 12 * smooth_noise(rng, frame, 12), expit(skin / soft))
    muscle = SOFT_TISSUE_HU + 10 * smooth_noise(rng, frame, 14)
    hu = paint(hu, muscle, expit((skin - build.fat) / soft))
    middle = np.exp(-((x / 16) ** 2) - ((y + 10) / 45) ** 2) * expit((z / frame.height_mm - 0.45) * 12)
    hu = paint(hu, FAT_HU, 0.6 * middle.astype(np.float32))
    angle = np.arctan2(y, np.abs(x))
    slant = expit(6 * np.sin(2 * np.pi * (z - 55 * angle + 4 * rng.normal()) / 30))
    ribs = np.exp(-(((wall_mm + 6) / 4.5) ** 2)) * slant
    hu = paint(hu, 380.0, np.clip(ribs, 0, 1))
    sternum = np.exp(-((x / 16) ** 4) - ((y + 4 + build.body_y - build.wall + 6) / 6) ** 4) * expit(
        (z / frame.height_mm - 0.4) * 20
    )
    hu = paint(hu, 230.0, sternum.astype(np.float32))
    spine = np.sqrt((x / 21) ** 2 + ((y - 0.68 * build.body_y) / 19) ** 2)
    hu = paint(hu, 260.0, expit((1 - spine) * 20 / soft) + 0 * z)
    canal = np.sqrt((x / 9) ** 2 + ((y - 0.68 * build.body_y - 26) / 8) ** 2)
    return paint(hu, 60.0, expit((1 - canal) * 9 / soft) + 0 * z)


def _parenchyma(rng: np.random.Generator, frame: Frame, shift_hu: float) -> Volume:
    """Paint aerated lung: about -895 HU, denser towards the back by gravity, mottled."""
    gravity = 60 * (frame.y_mm / 170 + 0.1) + 0 * frame.z_mm
    mottle = 24 * smooth_noise(rng, frame, 9) + 10 * smooth_noise(rng, frame, 45)
    return (-895 + shift_hu + gravity + mottle).astype(np.float32)


def _airways(frame: Frame, hila_mm: NDArray[np.float64]) -> tuple[Volume, Volume]:
    """Draw the trachea and the main bronchi as tubes."""
    carina = np.array([0.64 * frame.height_mm, 6.0, 0.0])
    top = np.array([[frame.height_mm + 20, 0.0, 0.0]])
    trunk = tubes(frame, carina[None], top, np.array([8.0]))
    return trunk, tubes(frame, np.stack([carina, carina]), hila_mm, np.array([5.5, 5.5]))


def _vessel_trees(rng: np.random.Generator, frame: Frame, hila_mm: NDArray[np.float64]) -> Volume:
    """Draw 13-17 trees per lung that leave the hilum, branch four times and taper."""
    occupancy = np.zeros(frame.shape, np.float32)
    for side, hilum in zip((1, -1), hila_mm, strict=True):
        count = int(rng.integers(13, 18))
        start = hilum + rng.normal(0, (16, 8, 4), (count, 3))
        heading = _unit(rng.normal(0, 1, (count, 3)) * (1.3, 0.9, 0.4) + np.array([-0.3, 0.15, 0.6 * side]))
        radius = rng.uniform(3.2, 5.0, count)
        for generation in range(5):
            length = rng.uniform(0.75, 1.25, (len(start), 1)) * 31 * 0.86**generation
            end = start + heading * length
            occupancy += tubes(frame, start, end, radius)
            start, heading, radius = np.repeat(end, 2, 0), np.repeat(heading, 2, 0), np.repeat(radius, 2)
            heading = _unit(heading + rng.normal(0, 0.42, heading.shape))
            radius = np.maximum(radius * rng.uniform(0.66, 0.84, len(radius)), 1.5)
    return occupancy


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
