"""Scans in canonical orientation from volumes, DICOM and slice images, and masks on the grid of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ct.checks import check_hu
from ct.classes import L3, UNLABELLED, ClassSet
from ct.files.dicom.frames import Frame
from ct.files.dicom.volume import read_dicom
from ct.files.formats import VOLUME, is_volume_file, read_volume, volume_stem
from ct.files.images import is_slice_image, read_image_mask, read_slice_images
from ct.files.volume_file import StoredVolume, row_blocks, to_numbers
from ct.grey_values import estimate_common_window, evenly_spread
from ct.grey_window import AUTO, GREYS, Greys, GreyWindow
from ct.grid_checks import check_voxels, place_mask
from ct.refusal import Refusal, Sentence, Word, word_of
from ct.scan import Affine, Grid, Scan, canonical_view

__all__ = ["read_mask", "read_pattern_mask", "read_scan", "read_slice_images"]

UNLABELLED_IN_8_BIT = 255
ROLES = ("mask", "lung mask", "infection mask", "pattern mask")
# Masks saved with a scaling come back as 0.99999 or 0.00002.
CODE_TOLERANCE = 1e-3


def read_scan(path: str | Path, scan_id: str | None = None, site: str = "", grey_hu: Greys | None = None) -> Scan:
    """Read a CT scan and bring it into canonical orientation.

    Args:
        path: NIfTI, NRRD or MetaImage file, DICOM file, folder that holds one DICOM series, slice image or folder of
            slice images.
        scan_id: Name of the scan; the file's or folder's name if None.
        site: Where it was made.
        grey_hu: The declared HU of grey 0 and grey 255, or `AUTO` to estimate them; needed for slice images and for
            volume files that do not hold HU, and only allowed there.

    Returns:
        The scan in HU, with the grid of its file and what was repaired.

    Raises:
        ValueError: The file is missing, of another kind, or not a CT in HU with a sound geometry.
    """
    source = Path(path)
    text = "no such file or folder; expected a {volume} file, a DICOM file or a DICOM folder"
    _check_exists(source, Sentence(text, volume=Word(VOLUME)))
    if is_slice_image(source):
        if grey_hu is None:
            raise Refusal(
                "{source}: an 8-bit slice image has no HU; declare grey_low_hu and grey_high_hu for it, or auto "
                "in both to have its HU estimated",
                source=source,
            )
        return read_slice_images(source, grey_hu, scan_id, site)
    stored, repairs, frames = _read_stored(source, grey_hu)
    values, affine = _canonical(source, stored)
    grid = Grid((stored.values.shape[0], stored.values.shape[1], stored.values.shape[2]), stored.affine)
    z_mm, y_mm, x_mm = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0)[::-1])
    check_voxels(values.shape, (z_mm, y_mm, x_mm), str(source))
    scaling = stored.slope, stored.intercept
    window = None if grey_hu is None else _window(source, values, scaling, grey_hu)
    hu, value_repairs = check_hu(values, str(source), scaling, window)
    windows = () if window is None else (window,) * len(hu)
    name = scan_id or volume_stem(source)
    return Scan(hu, affine, grid, name, site, repairs + value_repairs, grey_windows=windows, frames=frames)


def _window(source: Path, values: npt.NDArray[Any], scaling: tuple[float, float], grey_hu: Greys) -> GreyWindow:
    """Return the window of a volume of grey values: a volume has one, as programs that export volumes do it."""
    if grey_hu != AUTO:
        return GreyWindow(*grey_hu)
    planes = []
    for index in evenly_spread(len(values)):
        plane = np.rint(to_numbers(values[index], *scaling))
        if not (plane.min() >= 0 and plane.max() < GREYS):  # written this way round, NaN is refused as well
            raise Refusal(
                "{source}: a slice has values from {low:g} to {high:g}; expected grey values from 0 to 255, since "
                "grey_low_hu and grey_high_hu are auto; leave both blank if the file holds HU",
                source=source,
                low=plane.min(),
                high=plane.max(),
            )
        planes.append(plane.astype(np.uint8))
    try:
        return estimate_common_window(planes)
    except Refusal as error:
        raise Refusal("{source}: {problem}", source=source, problem=error.sentence) from None


def read_mask(
    path: str | Path, scan: Scan, repairs: list[Sentence] | None = None, role: str = "mask"
) -> npt.NDArray[np.int16]:
    """Read a mask that lies on the scan's grid, or on a part of it, outside of which it is 0.

    Args:
        path: NIfTI, NRRD or MetaImage file in any axis order; for slice images, an image or a folder of images of the
            same names.
        scan: The scan it belongs to.
        repairs: A sentence is appended to it if the mask was stored cropped.
        role: Name of the mask in that sentence.

    Returns:
        int16 (Z, Y, X), the stored values on the scan's canonical grid.

    Raises:
        ValueError: The file is missing or of another kind, values are not small integers, or the grid is another one.
    """
    source = Path(path)
    text = "no such mask; expected a {volume} file, or images for slice images"
    _check_exists(source, Sentence(text, volume=Word(VOLUME)))
    if scan.slice_names:
        return read_image_mask(source, scan)
    if not is_volume_file(source):
        raise Refusal(
            "{source}: a mask of this kind cannot be read; expected a {volume} file", source=source, volume=Word(VOLUME)
        )
    stored = read_volume(source)
    values, affine = _canonical(source, stored)
    first = place_mask(values.shape, affine, scan.hu.shape, scan.affine, str(source))
    cropped = values.shape != scan.hu.shape
    mask = (np.zeros if cropped else np.empty)(scan.hu.shape, dtype=np.int16)
    part = mask[tuple(slice(at, at + count) for at, count in zip(first, values.shape, strict=True))]
    if cropped and repairs is not None:
        text = (
            "the {role} is stored cropped to (z, y, x) = {shape} of the scan's {whole} voxels; it was placed from "
            "voxel {first} on, where voxels coincide, and is 0 elsewhere"
        )
        role = word_of(role, ROLES)
        repairs.append(Sentence(text, role=role, shape=values.shape, whole=scan.hu.shape, first=first))
    _copy_codes(source, stored, values, part)
    return mask


def _check_exists(source: Path, problem: Sentence) -> None:
    if not source.exists():
        raise Refusal("{source}: {problem}", source=source, problem=problem)


def _canonical(source: Path, stored: StoredVolume) -> tuple[npt.NDArray[Any], Affine]:
    """View a stored volume as (Z, Y, X), with the affine of the view."""
    try:
        return canonical_view(stored.values, stored.affine)
    except ValueError as error:
        raise Refusal("{source}: {error}", source=source, error=error) from error


def _copy_codes(source: Path, stored: StoredVolume, values: npt.NDArray[Any], target: npt.NDArray[np.int16]) -> None:
    """Write the scaled values of a mask into a target of the same shape."""
    limits = np.iinfo(np.int16)
    for block, rows in row_blocks(values, target):
        numbers = to_numbers(block, stored.slope, stored.intercept)
        codes = np.rint(numbers)
        # Written this way round, NaN is refused as well.
        if not ((np.abs(numbers - codes) <= CODE_TOLERANCE) & (codes >= limits.min) & (codes <= limits.max)).all():
            raise Refusal(
                "{source}: the mask holds values that are not small whole numbers; expected class codes or 0 / 1",
                source=source,
            )
        rows[...] = codes


def read_pattern_mask(
    path: str | Path,
    scan: Scan,
    repairs: list[Sentence] | None = None,
    role: str = "pattern mask",
    classes: ClassSet = L3,
) -> npt.NDArray[np.int8]:
    """Read a mask of class codes; 255, as 8-bit files store it, is -1 (unlabelled).

    Args:
        path: As for `read_mask`.
        scan: The scan it belongs to.
        repairs: As for `read_mask`.
        role: As for `read_mask`.
        classes: The class set of its codes.

    Returns:
        int8 (Z, Y, X) on the scan's canonical grid.

    Raises:
        ValueError: As for `read_mask`, or another code is found.
    """
    codes = read_mask(path, scan, repairs, role)
    codes[codes == UNLABELLED_IN_8_BIT] = UNLABELLED
    try:
        classes.check_codes(codes)
    except Refusal as error:
        raise Refusal("{path}: {error}", path=path, error=error.sentence) from None
    return codes.astype(np.int8)


def _read_stored(path: Path, grey_hu: Greys | None) -> tuple[StoredVolume, tuple[Sentence, ...], tuple[Frame, ...]]:
    if not is_volume_file(path):
        if grey_hu is not None:
            raise Refusal(
                "{path}: grey_low_hu and grey_high_hu are declared, but DICOM has its own rescale; leave both blank",
                path=path,
            )
        values, affine, repairs, frames = read_dicom(path)
        return StoredVolume(values, affine), repairs, frames
    stored = read_volume(path)
    if min(stored.values.shape) < 2:
        raise Refusal(
            "{path}: holds one slice {shape}; expected a volume of at least two slices",
            path=path,
            shape=stored.values.shape,
        )
    return stored, (), ()
