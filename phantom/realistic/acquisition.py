"""Scanner and patient's motion: slices, kernel, dose, streaks, calibration, breathing and heartbeat."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from phantom.realistic.build import Build
from phantom.realistic.fields import Grid, Volume, ball, noise, rise
from phantom.realistic.thorax import Thorax

SLICES_MM = (1.0, 1.25, 2.0, 2.5, 3.0, 4.0, 5.0, 5.0, 6.0, 7.5, 8.0, 10.0)
# Sections are computed at most so far apart, and averaged over the thickness of a slice.
SECTION_MM = 3.0


@dataclass(frozen=True)
class Scanner:
    """How a patient is scanned.

    Attributes:
        slice_mm: Distance of slices.
        sections: Computed sections per slice.
        averaged: How many of them a slice averages: thin slices lie apart.
        field_mm: Field of view.
        off_mm: How far the patient lies from its centre, (y, x).
        blur_px: Standard deviation of the reconstruction's blur.
        sharpening: Strength of an edge-enhancing kernel.
        noise_hu: Standard deviation of the noise.
        grain_px: Correlation of the noise in plane.
        streaks_hu: Strength of horizontal streaks between the shoulders.
        offset_hu: Error of calibration.
        gain: Error of the scale, 1 for none.
    """

    slice_mm: float
    sections: int
    averaged: int
    field_mm: float
    off_mm: tuple[float, float]
    blur_px: float
    sharpening: float
    noise_hu: float
    grain_px: float
    streaks_hu: float
    offset_hu: float
    gain: float


def draw_scanner(rng: np.random.Generator, build: Build, slice_mm: float | None = None) -> Scanner:
    """Draw a scanner and its settings for a patient; the distance of slices may be given."""
    slice_mm = float(rng.choice(SLICES_MM)) if slice_mm is None else slice_mm
    sections = int(np.ceil(slice_mm / SECTION_MM))
    sharp = rng.random() < 0.4
    noise_hu = float(np.exp(rng.uniform(np.log(2.5), np.log(17))) * (1.5 if sharp else 1))
    return Scanner(
        slice_mm=slice_mm,
        sections=sections,
        averaged=int(rng.integers(1, sections + 1)),
        field_mm=float(max(build.width_mm * rng.uniform(1.12, 1.6), 1.1 * build.depth_mm)),
        off_mm=(float(rng.uniform(-12, 12)), float(rng.uniform(-8, 8))),
        blur_px=float(rng.uniform(0.1, 0.5) if sharp else rng.uniform(0.25, 0.75)),
        sharpening=float(rng.uniform(0.3, 1.2) if sharp else 0),
        noise_hu=noise_hu,
        grain_px=float(rng.uniform(0.2, 0.5) if sharp else rng.uniform(0.4, 0.9)),
        streaks_hu=float(rng.gamma(1.5, 8)),
        offset_hu=float(rng.normal(0, 10)),
        gain=float(rng.normal(1, 0.012)),
    )


def move(rng: np.random.Generator, grid: Grid, thorax: Thorax, hu: Volume) -> Volume:
    """Blur what moves: the lungs' base by breathing, what lies beside the heart by its beat."""
    if rng.random() < 0.6:
        shift = int(np.ceil(rng.uniform(2, 10) / grid.spacing_mm[0]))
        share = 0.5 * rise(rng.uniform(10, 40) - np.abs(thorax.floor_mm), 15)
        moved = np.concatenate([np.repeat(hu[:1], shift, 0), hu[:-shift]]) if shift < len(hu) else hu
        hu = hu + (moved - hu) * share
    if rng.random() < 0.5:
        pixels = int(np.clip(np.ceil(rng.uniform(1, 5) / grid.spacing_mm[2]), 1, 4))
        beside = ball(grid, thorax.heart_mm, thorax.heart_radii_mm + 20)  # the lung that the beat moves
        hu = hu + (np.roll(hu, pixels, 2) - hu) * 0.45 * rise(beside, 25)
    return hu.astype(np.float32)


def slabs(volume: Volume, scanner: Scanner) -> Volume:
    """Average sections (Z * sections, Y, X) to slices (Z, Y, X) of the scanner's thickness."""
    return seen_sections(volume, scanner).mean(1, dtype=np.float32)


def seen_sections(volume: NDArray[Any], scanner: Scanner) -> NDArray[Any]:
    """Return the sections (Z, averaged, Y, X) that slices show of all sections (Z * sections, Y, X)."""
    first = (scanner.sections - scanner.averaged) // 2
    return volume.reshape(-1, scanner.sections, *volume.shape[1:])[:, first : first + scanner.averaged]


def scan(rng: np.random.Generator, grid: Grid, build: Build, scanner: Scanner, hu: Volume) -> NDArray[np.int16]:
    """Reconstruct slices (Z, Y, X) of true HU as the scanner shows them."""
    seen = _blur(hu, scanner.blur_px)
    if scanner.sharpening:
        seen = seen + scanner.sharpening * (seen - _blur(seen, 1.2))
    grain = _blur(rng.standard_normal(hu.shape, dtype=np.float32), scanner.grain_px)
    if scanner.slice_mm < 2.5:
        grain = gaussian_filter1d(grain, 0.6, 0)
    # More noise where more bone and tissue lie in the beam, and less near the skin.
    middle = np.exp(-((grid.x / 130) ** 2) - (grid.y / 110) ** 2)
    level = scanner.noise_hu * (0.75 + 0.5 * middle) / max(float(grain.std()), 1e-6)
    streaks = noise(rng, grid, (6.0, 5.0, 150.0)) * scanner.streaks_hu * rise(grid.z - 0.8 * build.height_mm, 60)
    seen = (seen + 1000) * scanner.gain - 1000 + scanner.offset_hu
    return np.round(seen + grain * level + streaks).clip(-1024, 3071).astype(np.int16)


def _blur(volume: Volume, sigma_px: float) -> Volume:
    return gaussian_filter1d(gaussian_filter1d(volume, sigma_px, 2, truncate=3.0), sigma_px, 1, truncate=3.0)
