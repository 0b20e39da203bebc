"""DICOM CT series -> voxels and affine; the geometry is decided from the tags, the library only decodes the pixels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom

from ct.checks import check_stack
from ct.scan import Affine

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEEDED_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
# Tags that must be the same in every slice of a series, and how far numbers may differ.
SHARED_TAGS = {"Rows": 0.0, "Columns": 0.0, "PixelSpacing": 1e-4, "ImageOrientationPatient": 1e-3}


def read_dicom(path: Path) -> tuple[npt.NDArray[np.float32], Affine, tuple[str, ...]]:
    """Read one DICOM file or a folder that holds one CT series.

    Args:
        path: The file or folder.

    Returns:
        float32 HU in file order (column, row, slice), slices sorted along their normal; the (4, 4) affine to RAS+ mm;
        and a sentence for each thing that was left out.

    Raises:
        ValueError: Not one complete, upright, even CT series in Hounsfield units.
    """
    with warnings.catch_warnings():
        # Odd values in tags that are not used here are none of the user's concern.
        warnings.simplefilter("ignore")
        return _read_series(path)


def _read_series(path: Path) -> tuple[npt.NDArray[np.float32], Affine, tuple[str, ...]]:
    files, repairs = _dicom_files(path)
    headers = [_read(file, stop_before_pixels=True) for file in files]
    for file, header in zip(files, headers, strict=True):
        _check_header(file, header)
    _check_series(path, files, headers)
    rows, columns = (
        np.asarray(headers[0].ImageOrientationPatient, dtype=np.float64)[part] for part in ([0, 1, 2], [3, 4, 5])
    )
    normal = np.cross(rows, columns)
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    if len(files) > 1:
        check_stack(positions, normal, str(path))
        step = (positions[-1] - positions[0]) / (len(files) - 1)
    else:
        step = normal * _lone_thickness(files[0], headers[0])
    affine = np.eye(4)
    row_mm, column_mm = (float(value) for value in headers[0].PixelSpacing)
    # ImageOrientationPatient starts with the direction of a row, along which the column index grows.
    affine[:3, :] = np.stack([rows * column_mm, columns * row_mm, step, positions[0]], axis=1)
    voxels = np.stack([_read_hu(files[index]) for index in order], axis=-1)
    return voxels.transpose(1, 0, 2), LPS_TO_RAS @ affine, repairs


def _dicom_files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    if path.is_file():
        return [path], ()
    visible = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    files = [file for file in visible if file.name != "DICOMDIR" and is_dicom(file)]
    if not files:
        raise ValueError(f"{path}: no DICOM file in this folder; expected a folder that holds one CT series")
    left_out = len(visible) - len(files)
    return files, (f"{left_out} files in the folder that are not DICOM images were left out",) if left_out else ()


def _read(file: Path, **options: Any) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(file, **options)
    except (InvalidDicomError, EOFError) as error:
        raise ValueError(f"{file}: not a readable DICOM file ({error}); export it again") from error


def _check_header(file: Path, header: pydicom.Dataset) -> None:
    """Refuse what is not a plain CT slice in Hounsfield units with a place in the patient."""
    expected = {"Modality": "CT", "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1}
    for tag, value in expected.items():
        found = header.get(tag)
        if found != value:
            shown = "missing" if found in (None, "") else repr(found)
            raise ValueError(
                f"{file}: {tag} is {shown}; expected {value!r}; only CT slices in Hounsfield units can be read"
            )
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ValueError(
            f"{file}: holds {header.NumberOfFrames} frames; expected one slice per file; export it as plain CT"
        )
    if "LOCALIZER" in header.get("ImageType", []):
        raise ValueError(f"{file}: is a localizer (ImageType); expected an axial slice; remove it from the series")
    for tag in NEEDED_TAGS:
        if header.get(tag) in (None, ""):
            raise ValueError(
                f"{file}: {tag} is missing; without it the voxels have no place or no unit; export it again"
            )
    if header.get("RescaleType", "HU") not in ("HU", "US", ""):
        raise ValueError(f"{file}: RescaleType is {header.RescaleType!r}; expected 'HU'; export it in Hounsfield units")
    vectors = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    if not np.allclose(vectors @ vectors.T, np.eye(2), atol=1e-3) or min(header.PixelSpacing) <= 0:
        raise ValueError(
            f"{file}: ImageOrientationPatient {list(header.ImageOrientationPatient)} or PixelSpacing "
            f"{list(header.PixelSpacing)} is impossible; expected unit vectors at right angles and sizes above 0 mm"
        )


def _check_series(path: Path, files: list[Path], headers: list[pydicom.Dataset]) -> None:
    series = {str(header.get("SeriesInstanceUID")) for header in headers}
    if len(series) > 1:
        raise ValueError(f"{path}: holds {len(series)} series; expected one; put each series into a folder of its own")
    for tag, tolerance in SHARED_TAGS.items():
        values = np.array([np.ravel(header[tag].value) for header in headers], dtype=np.float64)
        difference = np.abs(values - values[0]).max(axis=1)
        worst = int(difference.argmax())
        if difference[worst] > tolerance:
            raise ValueError(
                f"{files[worst]}: {tag} is {values[worst].tolist()}; expected {values[0].tolist()} as in "
                f"{files[0].name}; all slices of a series must agree"
            )


def _lone_thickness(file: Path, header: pydicom.Dataset) -> float:
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        value = abs(float(header.get(tag) or 0))
        if value > 0:
            return value
    raise ValueError(f"{file}: SliceThickness is missing; a single slice has no other measure of its thickness")


def _read_hu(file: Path) -> npt.NDArray[np.float32]:
    dataset = _read(file)
    try:
        stored = dataset.pixel_array
    except (ValueError, AttributeError, RuntimeError, NotImplementedError) as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID", "unknown")
        name = getattr(syntax, "name", syntax)
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file}: the pixels ({name}) cannot be decoded: {reason}; export it uncompressed") from error
    return stored.astype(np.float32) * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)
