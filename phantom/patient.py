"""One patient of the phantom, scanned at one site: chest CT in HU with its fuzzy truth, in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ct.classes import L3
from phantom.anatomy import FIELD_OF_VIEW_MM, Anatomy, build_anatomy
from phantom.grid import Frame, Volume, paint
from phantom.lesions import (
    EFFUSION,
    LYMPH_NODE,
    TRUTH_PATTERNS,
    Canvas,
    add_opacities,
    effusion_fraction,
    lymph_node_fraction,
)
from phantom.reader_panel import CAREFUL, Hand, read_contours


@dataclass(frozen=True)
class Site:
    """Acquisition and storage of scans at one hospital.

    Attributes:
        slice_mm: Range of slice spacings.
        slices: Range of slice numbers (upper end excluded).
        columns_factor: Columns of its images per column of the requested size.
        rows_factor: Rows per column (air above and below the patient is cut off where it is below 1).
        blur_px: In-plane blur of the reconstruction.
        noise_hu: Standard deviation of the noise.
        offset_hu: Standard deviation of the calibration error between scans.
        axes: Directions of the stored NIfTI axes; canonical ("LPS") for DICOM.
        file_format: "nii", "nii.gz" or "dicom".
    """

    slice_mm: tuple[float, float]
    slices: tuple[int, int]
    columns_factor: float
    rows_factor: float
    blur_px: float
    noise_hu: float
    offset_hu: float
    axes: str
    file_format: str


# Increase of the share of blood in a voxel inside ground glass (vessels of affected lung widen).
ENGORGEMENT = 1.7

SITES = {
    "A": Site((8.0, 10.0), (19, 23), 1.0, 1.0, 0.35, 48, 8, "LAS", "nii.gz"),
    "B": Site((8.0, 9.0), (20, 24), 1.0, 1.0, 0.55, 34, 12, "LPS", "dicom"),
    "C": Site((9.0, 10.0), (18, 22), 1.25, 0.9, 0.30, 70, 12, "RAI", "nii.gz"),
    "D": Site((8.0, 10.0), (19, 23), 1.0, 1.0, 0.50, 54, 15, "SLA", "nii"),
}


@dataclass(frozen=True)
class Phantom:
    """One synthetic scan, canonical (Z, Y, X): z foot -> head, y front -> back, x patient right -> left.

    Attributes:
        hu: int16.
        spacing_mm: (z, y, x).
        lungs: uint8, 1 = left lung, 2 = right lung.
        lung_fraction: Fraction of every voxel that is lung, float16.
        occupancy: Fraction of every voxel per pattern code (3..10), float16; effusion and nodes included.
        vessels: Fraction of every voxel that is lung vessel, float16.
        has_consolidation: Whether codes 8-10 occur.
    """

    hu: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    lungs: NDArray[np.uint8]
    lung_fraction: NDArray[np.float16]
    occupancy: dict[int, NDArray[np.float16]]
    vessels: NDArray[np.float16]
    has_consolidation: bool

    def reader(self, seed: int, manner: Hand = CAREFUL) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        """Draw one reader's hard contours.

        Args:
            seed: The reader.
            manner: Manner of drawing.

        Returns:
            Pattern map int8 (codes 0..10) and infection mask uint8 (1 = codes 5..10), both (Z, Y, X).
        """
        truth = {code: occupancy.astype(np.float32) for code, occupancy in self.occupancy.items()}
        codes = read_contours(truth, self.lungs, Frame(self.hu.shape, self.spacing_mm), seed, manner)
        return codes, np.isin(codes, L3.codes_of("infection")).astype(np.uint8)


def make_phantom(
    seed: int | tuple[int, ...],
    site: str,
    positive: bool,
    burden: float = 1.0,
    size: int = 64,
    slices: int | None = None,
) -> Phantom:
    """Draw one patient and scan it.

    Args:
        seed: The patient; the same arguments give the same scan.
        site: A key of SITES.
        positive: Whether the patient has consolidation.
        burden: Factor of the number of lesions; 0 is a healthy patient (then `positive` must be False).
        size: Columns of a site-A image over the field of view of 340 mm.
        slices: Number of slices; by default the site's own range.

    Returns:
        The scan with its truth.

    Raises:
        ValueError: An unknown site, a positive patient without burden, or fewer than 16 columns.
    """
    _check_request(site, positive, burden, size)
    rng = np.random.default_rng(seed)
    frame = _frame(rng, SITES[site], size, slices)
    anatomy = build_anatomy(rng, frame)
    canvas = add_opacities(rng, frame, anatomy, positive, burden)
    fluid = effusion_fraction(rng, frame, anatomy) * (burden > 0 and rng.random() < 0.2)
    nodes = lymph_node_fraction(rng, frame, anatomy) * (burden > 0 and rng.random() < 0.15)
    left, right = anatomy.left * (1 - fluid), anatomy.right * (1 - fluid)
    vessels = _engorged(anatomy, canvas)
    content = paint(canvas.content_hu, anatomy.vessel_hu, vessels)
    tissue = paint(paint(anatomy.tissue_hu, 12.0, np.clip(fluid, 0, 1)), 38.0, nodes)
    # Tissue, fluid included, fills the rest of each voxel beside the lungs.
    hu = paint(tissue, content, left + right)
    lungs = np.where(left + right > 0.5, np.where(left >= right, 1, 2), 0).astype(np.uint8)
    share = left + right
    truth = {code: canvas.occupancy.get(code, np.zeros_like(share)) * share for code in L3.codes_of("infection")}
    truth |= {EFFUSION: fluid, LYMPH_NODE: nodes}
    return Phantom(
        hu=_acquire(rng, frame, SITES[site], hu),
        spacing_mm=frame.spacing_mm,
        lungs=lungs,
        lung_fraction=share.astype(np.float16),
        occupancy={code: truth[code].astype(np.float16) for code in TRUTH_PATTERNS},
        vessels=(vessels * share).astype(np.float16),
        has_consolidation=any(bool((truth[code] > 0.5).any()) for code in L3.codes_of("consolidation")),
    )


def _check_request(site: str, positive: bool, burden: float, size: int) -> None:
    if site not in SITES:
        raise ValueError(f"site is {site!r}, expected one of {', '.join(SITES)}.")
    if positive and burden <= 0:
        raise ValueError(
            f"burden is {burden} for a positive patient, expected more than 0: a healthy lung has no consolidation."
        )
    if size < 16:
        raise ValueError(f"size is {size} columns, expected at least 16: a chest is not recognisable below that.")


def _frame(rng: np.random.Generator, site: Site, size: int, slices: int | None) -> Frame:
    columns = round(size * site.columns_factor)
    rows = round(columns * site.rows_factor)
    pixel_mm = round(FIELD_OF_VIEW_MM / columns, 8)
    number = int(rng.integers(*site.slices))
    slice_mm = float(np.round(rng.uniform(*site.slice_mm), 2))
    if slices is not None:
        # The same chest in fewer slices: the spacing grows, so the lungs stay whole.
        number, slice_mm = slices, round(slice_mm * number / slices, 2)
    return Frame((number, rows, columns), (slice_mm, pixel_mm, pixel_mm))


def _engorged(anatomy: Anatomy, canvas: Canvas) -> Volume:
    """Widen vessels in ground glass, and hide them in consolidation, which is about as dense as blood."""
    infected, dense = canvas.sum_of(L3.codes_of("infection")), canvas.sum_of(L3.codes_of("consolidation"))
    return np.minimum(anatomy.vessels * (1 + ENGORGEMENT * (infected - dense)), 1.0) * (1 - 0.8 * dense)


def _acquire(rng: np.random.Generator, frame: Frame, site: Site, hu: Volume) -> NDArray[np.int16]:
    """Simulate the scanner: blur, correlated noise, calibration error, 12-bit range."""
    blurred = gaussian_filter(hu, (0, site.blur_px, site.blur_px))
    noise = gaussian_filter(rng.standard_normal(frame.shape, dtype=np.float32), (0, 0.5, 0.5))
    level = site.noise_hu * rng.uniform(0.7, 1.2)
    acquired = blurred + noise * (level / max(float(noise.std()), 1e-6)) + rng.normal(0, site.offset_hu)
    return np.round(acquired).clip(-1024, 3071).astype(np.int16)
