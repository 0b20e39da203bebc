"""Files -> Scan in canonical orientation: NIfTI, NRRD, DICOM; and masks on the scan's grid."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from ct.checks import check_hu, check_same_grid
from ct.cohort import is_slice_image
from ct.patterns import MAX_CODE, MIN_CODE, UNLABELLED
from ct.read_dicom import read_dicom
from ct.read_images import read_image_mask, read_slice_images
from ct.scan import Affine, Grid, Scan, to_canonical

__all__ = ["read_mask", "read_pattern_mask", "read_scan", "read_slice_images"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
# World axes of an NRRD file's `space` against RAS+.
NRRD_SIGNS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
UNLABELLED_IN_8_BIT = 255

Volume = tuple[npt.NDArray[Any], Affine]


def read_scan(path: str | Path, scan_id: str | None = None, site: str = "") -> Scan:
    """Read a CT scan and bring it into canonical orientation.

    Args:
        path: NIfTI or NRRD file, DICOM file, or folder that holds one DICOM series.
        scan_id: Name of the scan; the file's or folder's name if None.
        site: Where it was made.

    Returns:
        The scan in HU, with the grid of its file and what was repaired.

    Raises:
        ValueError: The file is missing, of another kind, or not a CT in HU with a sound geometry.
    """
    source = Path(path)
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder; expected a NIfTI, NRRD or DICOM file or a DICOM folder")
    repairs: tuple[str, ...] = ()
    if _is_volume_file(source):
        values, source_affine = _read_volume(source)
    elif is_slice_image(source):
        raise ValueError(f"{source}: an 8-bit slice image has no HU; declare grey_low_hu and grey_high_hu for it")
    else:
        values, source_affine, repairs = read_dicom(source)
    hu_ijk, value_repairs = check_hu(values, str(source))
    try:
        hu, affine = to_canonical(hu_ijk, source_affine)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    grid = Grid((hu_ijk.shape[0], hu_ijk.shape[1], hu_ijk.shape[2]), source_affine)
    return Scan(hu, affine, grid, scan_id or _stem(source), site, repairs + value_repairs)


def read_mask(path: str | Path, scan: Scan) -> npt.NDArray[np.int16]:
    """Read a mask and check that it lies on the scan's grid.

    Args:
        path: NIfTI or NRRD file in any axis order; for slice images, an image or a folder of images of the same names.
        scan: The scan it belongs to.

    Returns:
        int16 (Z, Y, X), the stored values on the scan's canonical grid.

    Raises:
        ValueError: The file is missing or of another kind, values are not small integers, or the grid is another one.
    """
    source = Path(path)
    if not source.exists():
        raise ValueError(f"{source}: no such mask; expected a NIfTI or NRRD file, or images for slice images")
    if scan.slice_names:
        return read_image_mask(source, scan)
    if not _is_volume_file(source):
        raise ValueError(f"{source}: a mask of this kind cannot be read; expected a NIfTI or NRRD file")
    values, source_affine = _read_volume(source)
    limits = np.iinfo(np.int16)
    whole = np.isfinite(values).all() and (np.rint(values) == values).all()
    if not whole or values.min() < limits.min or values.max() > limits.max:
        raise ValueError(
            f"{source}: the mask holds values that are not small whole numbers; expected class codes or 0 / 1"
        )
    try:
        mask, affine = to_canonical(values.astype(np.int16), source_affine)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    check_same_grid(mask.shape, affine, scan.hu.shape, scan.affine, str(source))
    return mask


def read_pattern_mask(path: str | Path, scan: Scan) -> npt.NDArray[np.int8]:
    """Read a mask of the class codes -1..10 of paper L3; 255, as 8-bit files store it, is -1.

    Args:
        path: As for `read_mask`.
        scan: The scan it belongs to.

    Returns:
        int8 (Z, Y, X) on the scan's canonical grid.

    Raises:
        ValueError: As for `read_mask`, or another value is found.
    """
    codes = read_mask(path, scan)
    codes[codes == UNLABELLED_IN_8_BIT] = UNLABELLED
    if codes.min() < MIN_CODE or codes.max() > MAX_CODE:
        raise ValueError(f"{path}: pattern codes from {codes.min()} to {codes.max()}; expected {MIN_CODE}..{MAX_CODE}")
    return codes.astype(np.int8)


def _is_volume_file(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(NIFTI_SUFFIXES + NRRD_SUFFIXES)


def _stem(path: Path) -> str:
    return re.sub(r"(\.nii)?(\.gz)?$", "", path.name) if path.is_file() and ".nii" in path.name else path.stem


def _read_volume(path: Path) -> Volume:
    return _read_nifti(path) if path.name.lower().endswith(NIFTI_SUFFIXES) else _read_nrrd(path)


def _read_nifti(path: Path) -> Volume:
    try:
        with LoggingOutputSuppressor():
            image: Any = nibabel.load(path)
        # Loading turns impossible voxel sizes into 1 mm, so they must be looked up in the header as it is stored.
        with ImageOpener(str(path)) as file:
            stored = type(image.header).from_fileobj(file, check=False)
    except (ImageFileError, HeaderDataError, OSError, EOFError) as error:
        raise ValueError(f"{path}: not a readable NIfTI file ({_first_line(error)}); export it again") from error
    _check_nifti_header(path, image, np.asarray(stored["pixdim"][1:4], dtype=np.float64))
    shape = tuple(image.shape)
    try:
        proxy: Any = image.dataobj
        # Stored integers are kept as they are; scaled ones need no more than single precision.
        plain = (proxy.slope, proxy.inter) == (1.0, 0.0)
        values = np.asarray(proxy.get_unscaled() if plain else image.get_fdata(dtype=np.float32, caching="unchanged"))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = _first_line(error)
        raise ValueError(f"{path}: the voxels cannot be read ({reason}); the file is cut off or damaged") from error
    return values.reshape(shape[:3]), np.asarray(image.affine, dtype=np.float64)


def _check_nifti_header(path: Path, image: Any, sizes: npt.NDArray[np.float64]) -> None:
    header = image.header
    shape = tuple(image.shape)
    if len(shape) < 3 or any(count != 1 for count in shape[3:]) or 0 in shape:
        raise ValueError(f"{path}: has shape {shape}; expected one volume with three axes")
    if header.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{path}: voxels are of type {header.get_data_dtype()}; expected real numbers")
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise ValueError(f"{path}: pixdim gives voxel sizes {sizes.tolist()}; expected three sizes above 0 mm")
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise ValueError(f"{path}: lengths are in {header.get_xyzt_units()[0]}; expected mm")
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = header.get_qform() if header["qform_code"] > 0 else None
    if sform is None and qform is None:
        raise ValueError(
            f"{path}: has neither sform nor qform, so left and right are unknown; export it with an orientation"
        )
    lengths = np.linalg.norm(image.affine[:3, :3], axis=0)
    if not np.allclose(lengths, sizes, rtol=0.01):
        raise ValueError(
            f"{path}: pixdim says {sizes.tolist()} mm but the affine {lengths.tolist()} mm; expected the same"
        )
    if sform is not None and qform is not None:
        far = np.array([[0, 0, 0, 1], [*(count - 1 for count in shape[:3]), 1]], dtype=np.float64).T
        distance = float(np.abs((sform - qform) @ far).max())
        if distance > 0.5 * sizes.min():
            raise ValueError(
                f"{path}: sform and qform place voxels up to {distance:.1f} mm apart; expected one geometry"
            )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read_nrrd(path: Path) -> Volume:
    header = _nrrd_header(path)
    signs = NRRD_SIGNS.get(header.get("space", "").lower())
    vectors = _nrrd_vectors(header.get("space directions", ""))
    origin = _nrrd_vectors(header.get("space origin", ""))
    if header.get("dimension") != "3" or signs is None or vectors.shape != (3, 3) or origin.shape != (1, 3):
        found = {key: header.get(key) for key in ("dimension", "space", "space directions", "space origin")}
        raise ValueError(f"{path}: the NRRD header says {found}; expected three axes with space, directions and origin")
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs) @ vectors.T
    affine[:3, 3] = np.asarray(signs) * origin[0]
    try:
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: not a readable NRRD file ({reason}); export it again") from error
    return values.transpose(2, 1, 0), affine


def _nrrd_header(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(4096).strip(), b""):
            key, colon, value = line.decode("latin-1").partition(":")
            if colon and not line.startswith(b"#"):
                fields[key.strip().lower()] = value.strip()
    return fields


def _nrrd_vectors(text: str) -> npt.NDArray[np.float64]:
    vectors = re.findall(r"\(([^)]*)\)", text)
    try:
        return np.array([[float(part) for part in vector.split(",")] for vector in vectors], dtype=np.float64)
    except ValueError:
        return np.empty((0, 3))
