"""Lesions of the phantom: every pattern of paper L3 as a fuzzy occupancy and as density in HU.

Lesions lie peripherally, at the back and in the lower lobes. A later pattern displaces the earlier ones, so the
occupancies of all patterns add up to at most the lung fraction of a voxel.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ct.classes import L3
from phantom.anatomy import Anatomy
from phantom.grid import Frame, Volume, paint, smooth_noise, tubes

_CODE_OF_NAME = {name: code for code, name in L3.name_of_code.items()}
EFFUSION = _CODE_OF_NAME["pleural effusion"]
LYMPH_NODE = _CODE_OF_NAME["lymphadenopathy"]
GROUND_GLASS = _CODE_OF_NAME["pure ground-glass opacity"]
SEPTAL = _CODE_OF_NAME["ground glass with smooth interlobular septal thickening"]
CRAZY_PAVING = _CODE_OF_NAME["crazy paving"]
ORGANIZING = _CODE_OF_NAME["organizing pneumonia pattern"]
ATOLL = _CODE_OF_NAME["atoll sign"]
CONSOLIDATION = _CODE_OF_NAME["consolidation"]
TRUTH_PATTERNS = (EFFUSION, LYMPH_NODE, *L3.codes_of("infection"))


@dataclass
class Canvas:
    """Contents of the lungs while lesions are painted.

    Attributes:
        content_hu: (Z, Y, X) contents of the lungs without vessels.
        occupancy: Fraction of the lungs' contents per pattern code, (Z, Y, X) in [0, 1].
    """

    content_hu: Volume
    occupancy: dict[int, Volume] = field(default_factory=dict)

    def add(self, code: int, hu: Volume | float, occupancy: Volume) -> None:
        """Paint a lesion over the contents; earlier patterns lose the fraction that the new one takes."""
        self.content_hu = paint(self.content_hu, hu, occupancy)
        for other in self.occupancy:
            self.occupancy[other] = self.occupancy[other] * (1 - occupancy)
        self.occupancy[code] = self.occupancy.get(code, np.zeros_like(occupancy)) + occupancy

    def sum_of(self, codes: tuple[int, ...]) -> Volume:
        """Return the fraction of the contents that belongs to any of the pattern codes."""
        return sum((self.occupancy[code] for code in codes if code in self.occupancy), np.zeros_like(self.content_hu))


def add_opacities(rng: np.random.Generator, frame: Frame, anatomy: Anatomy, positive: bool, burden: float) -> Canvas:
    """Paint the infection of one patient.

    Args:
        rng: Source of everything that differs between patients.
        frame: The voxel grid.
        anatomy: The healthy chest.
        positive: Whether consolidation-like patterns (codes 8-10) occur.
        burden: Factor of the number of lesions; 0 is a healthy lung.

    Returns:
        The lungs' contents in HU and the occupancy per pattern.
    """
    canvas = Canvas(anatomy.parenchyma_hu.copy())
    if burden <= 0:
        return canvas
    preference = _preference(frame, anatomy)
    for _ in range(max(1, round(burden * rng.integers(4, 9)))):
        _add_ground_glass(rng, frame, anatomy, canvas, _draw_point(rng, frame, preference))
    if positive:
        near = preference * (canvas.sum_of((GROUND_GLASS, SEPTAL, CRAZY_PAVING)) > 0.3)
        for number in range(max(2, round(burden * rng.integers(3, 6)))):
            code = (
                CONSOLIDATION if number == 0 else int(rng.choice((ORGANIZING, ATOLL, CONSOLIDATION), p=(0.3, 0.1, 0.6)))
            )
            _add_consolidation(rng, frame, anatomy, canvas, code, _draw_point(rng, frame, near))
    return canvas


def _preference(frame: Frame, anatomy: Anatomy) -> Volume:
    """Weight the places of lesions: near the pleura, at the back, in the lower half (unnormalised)."""
    back = expit((frame.y_mm - 5) / 28)
    low = expit((0.5 * frame.height_mm - frame.z_mm) / (0.13 * frame.height_mm))
    inside = anatomy.depth_mm > 0
    return (inside * np.exp(-np.maximum(anatomy.wall_mm, 0) / 16) * (0.12 + back) * (0.15 + low)).astype(np.float32)


def _draw_point(rng: np.random.Generator, frame: Frame, weight: Volume) -> NDArray[np.float64]:
    """Draw a point (3,) in mm by weight; without any weight, return the middle of the scan."""
    total = np.cumsum(weight.ravel(), dtype=np.float64)
    if total[-1] <= 0:
        return frame.point_of(np.array(frame.shape) // 2)
    voxel = np.unravel_index(int(np.searchsorted(total, rng.uniform(0, total[-1]))), weight.shape)
    return frame.point_of(np.array(voxel)) + rng.uniform(-0.5, 0.5, 3) * np.array(frame.spacing_mm)


def _depth_in_blob(
    rng: np.random.Generator, frame: Frame, centre: NDArray[np.float64], radii_mm: NDArray[np.float64], rough: float
) -> Volume:
    """Return the distance in mm from the border of an ellipsoid with a rough surface, positive inside."""
    z, y, x = frame.z_mm - centre[0], frame.y_mm - centre[1], frame.x_mm - centre[2]
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    ratio = np.sqrt((z / radii_mm[0]) ** 2 + (across / radii_mm[1]) ** 2 + (along / radii_mm[2]) ** 2)
    radius = float(np.mean(radii_mm[1:]))
    return ((1 - ratio) * radius + rough * radius * smooth_noise(rng, frame, 18)).astype(np.float32)


def _lines(rng: np.random.Generator, frame: Frame, scale_mm: float, width: float) -> Volume:
    """Draw a net of thin lines in [0, 1]: the zero level set of smooth noise."""
    return np.exp(-((smooth_noise(rng, frame, scale_mm) / width) ** 2)).astype(np.float32)


def _texture(rng: np.random.Generator, frame: Frame, fine_hu: float, coarse_hu: float) -> Volume:
    return fine_hu * smooth_noise(rng, frame, 7) + coarse_hu * smooth_noise(rng, frame, 22)


def _add_ground_glass(
    rng: np.random.Generator, frame: Frame, anatomy: Anatomy, canvas: Canvas, centre: NDArray[np.float64]
) -> None:
    code = int(rng.choice((GROUND_GLASS, SEPTAL, CRAZY_PAVING), p=(0.5, 0.13, 0.37)))
    radii = rng.uniform(20, 42) * rng.uniform(0.75, 1.25, 3)
    inside = _depth_in_blob(rng, frame, centre, radii, rough=0.2)
    occupancy = expit(inside / rng.uniform(2.2, 4.8))
    hu = rng.uniform(-670, -490) + anatomy.density_shift_hu + _texture(rng, frame, 65, 30)
    if code == CRAZY_PAVING:
        hu = paint(hu, rng.uniform(-230, -110), 0.75 * _lines(rng, frame, 10, 0.4))
    elif code == SEPTAL:
        hu = paint(hu, rng.uniform(-190, -70), 0.8 * _lines(rng, frame, 24, 0.22))
    canvas.add(code, hu, occupancy)


def _add_consolidation(
    rng: np.random.Generator, frame: Frame, anatomy: Anatomy, canvas: Canvas, code: int, centre: NDArray[np.float64]
) -> None:
    if code == ORGANIZING:
        radii = rng.uniform(12, 17) * np.array([1.5, 1.0, rng.uniform(1.8, 2.8)])
    else:
        radii = rng.uniform(17, 29) * rng.uniform(0.8, 1.2, 3)
    inside = _depth_in_blob(rng, frame, centre, radii, rough=0.2)
    occupancy = expit(inside / rng.uniform(1.3, 2.6))
    dense = rng.random() < (0.35 if code == ORGANIZING else 0.5)
    level = rng.uniform(-140, 10) if dense else rng.uniform(-250, -130) + anatomy.density_shift_hu
    hu = level + _texture(rng, frame, 85, 30)
    if code == ATOLL:
        # The ring takes the outer third; the centre stays ground glass but belongs to the pattern.
        centre_hu = rng.uniform(-600, -450) + _texture(rng, frame, 65, 30)
        hu = paint(hu, centre_hu, expit((inside - 0.35 * float(np.mean(radii[1:]))) / 1.5))
    hu = paint(hu, -880.0, _bronchograms(rng, frame, anatomy, centre, radii))
    canvas.add(code, hu, occupancy)


def _bronchograms(
    rng: np.random.Generator, frame: Frame, anatomy: Anatomy, centre: NDArray[np.float64], radii_mm: NDArray[np.float64]
) -> Volume:
    """Draw air-filled bronchi: short tubes through a consolidation, roughly in the direction from the hilum."""
    count = int(rng.integers(6, 34))
    hilum = anatomy.hila_mm[np.argmin(np.linalg.norm(anatomy.hila_mm - centre, axis=1))]
    heading = (centre - hilum) / max(float(np.linalg.norm(centre - hilum)), 1.0)
    heading = heading + rng.normal(0, 0.6, (count, 3))
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    middle = centre + rng.uniform(-1, 1, (count, 3)) * radii_mm
    half = heading * rng.uniform(5, 12, (count, 1))
    return tubes(frame, middle - half, middle + half, rng.uniform(1.3, 2.8, count))


def effusion_fraction(rng: np.random.Generator, frame: Frame, anatomy: Anatomy) -> Volume:
    """Draw a pleural effusion, a crescent along one side's back wall, thinning upwards; fraction of each voxel."""
    side = anatomy.left if rng.random() < 0.5 else anatomy.right
    thickness = rng.uniform(8, 22) * np.clip(1 - frame.z_mm / (rng.uniform(0.45, 0.75) * frame.height_mm), 0, 1)
    crescent = expit((thickness - anatomy.wall_mm) / 1.5) * expit((frame.y_mm - 15) / 8) * (thickness > 0.5)
    return (crescent * side).astype(np.float32)


def lymph_node_fraction(rng: np.random.Generator, frame: Frame, anatomy: Anatomy) -> Volume:
    """Draw enlarged mediastinal lymph nodes beside the carina; fraction of each voxel, outside the lungs."""
    nodes = np.zeros(frame.shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        centre = np.array([rng.uniform(0.55, 0.8) * frame.height_mm, rng.uniform(-25, 0), rng.uniform(-14, 14)])
        ratio = _depth_in_blob(rng, frame, centre, rng.uniform(6, 10, 3), rough=0.1)
        nodes = np.maximum(nodes, expit(ratio / 1.5))
    return (nodes * (1 - anatomy.lungs)).astype(np.float32)
