"""Scans and masks -> files: masks on the scan's own grid, scans as NIfTI in any orientation or as a DICOM series."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ct.read_dicom import LPS_TO_RAS
from ct.scan import Affine, Scan, grid_facing, to_source

STORED_OFFSET_HU = -1024


def write_mask(mask_zyx: npt.NDArray[np.integer] | npt.NDArray[np.bool_], scan: Scan, path: str | Path) -> None:
    """Write a mask as NIfTI (uint8) on the grid of the scan's own file.

    Args:
        mask_zyx: (Z, Y, X) on the scan's canonical grid, values 0..255.
        scan: The scan.
        path: Where to write; .nii or .nii.gz.

    Raises:
        ValueError: The shape is not the scan's, or a value does not fit.
    """
    if mask_zyx.size and (mask_zyx.min() < 0 or mask_zyx.max() > 255):
        raise ValueError(f"{path}: the mask has values {mask_zyx.min()}..{mask_zyx.max()}; expected 0..255")
    _save_nifti(to_source(mask_zyx.astype(np.uint8), scan.source), scan.source.affine, Path(path))


def write_slice_masks(
    mask_zyx: npt.NDArray[np.integer] | npt.NDArray[np.bool_], scan: Scan, folder: str | Path
) -> None:
    """Write a mask of slice images as PNG files of the same names and sizes (bool as 0 / 255).

    Args:
        mask_zyx: (Z, Y, X) on the scan's canonical grid.
        scan: A scan of slice images.
        folder: Where to write.

    Raises:
        ValueError: The scan is not made of slice images, or the shape is not the scan's.
    """
    if not scan.slice_names or mask_zyx.shape != scan.hu.shape:
        raise ValueError(
            f"{folder}: a mask of shape {mask_zyx.shape} for slice images of shape {scan.hu.shape}; expected the same"
        )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    scale = 255 if mask_zyx.dtype == np.bool_ else 1
    for name, plane in zip(scan.slice_names, mask_zyx.astype(np.uint8) * np.uint8(scale), strict=True):
        Image.fromarray(plane).save(target / f"{name}.png")


def write_scan_nifti(
    array_zyx: npt.NDArray[np.integer], affine: Affine, path: str | Path, axcodes: str = "LPS"
) -> None:
    """Write a canonical array as NIfTI, with the file's axes in any orientation.

    Args:
        array_zyx: (Z, Y, X) int8, uint8 or int16.
        affine: (4, 4) of canonical (x, y, z).
        path: Where to write; .nii or .nii.gz.
        axcodes: Where the file's axes i, j, k point to, for example "RAS" or "SLP".
    """
    grid = grid_facing(array_zyx.shape, affine, axcodes)
    _save_nifti(to_source(array_zyx, grid), grid.affine, Path(path))


def write_dicom_series(
    hu_zyx: npt.NDArray[np.int16],
    affine: Affine,
    folder: str | Path,
    patient_id: str = "anonymous",
    description: str = "",
) -> None:
    """Write a canonical scan as a DICOM series of uncompressed axial CT slices, one file each.

    Args:
        hu_zyx: int16 (Z, Y, X), HU from -1024 to 31743.
        affine: (4, 4) of canonical (x, y, z) to RAS+ mm, axes along the patient's.
        folder: Where to write; made if missing.
        patient_id: Goes into PatientID and, hashed, into the UIDs, so that the same input gives the same files.
        description: SeriesDescription.

    Raises:
        ValueError: HU below -1024 or above 31743.
    """
    if hu_zyx.min() < STORED_OFFSET_HU or int(hu_zyx.max()) - STORED_OFFSET_HU > np.iinfo(np.int16).max:
        raise ValueError(f"{folder}: HU from {hu_zyx.min()} to {hu_zyx.max()}; expected -1024..31743")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    lps = LPS_TO_RAS @ affine
    content = hashlib.sha256(hu_zyx.tobytes()).hexdigest()
    uids = {name: generate_uid(entropy_srcs=[patient_id, content, name]) for name in ("study", "series", "frame")}
    # Files numbered from head to foot, as scanners do; readers must sort by position.
    for number, z in enumerate(reversed(range(len(hu_zyx))), start=1):
        dataset = _ct_slice(hu_zyx[z], lps, z)
        dataset.PatientID = dataset.PatientName = patient_id
        dataset.SeriesDescription = description
        dataset.InstanceNumber = number
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
        dataset.FrameOfReferenceUID = uids["frame"]
        uid = generate_uid(entropy_srcs=[content, patient_id, str(number)])
        _save_dicom(dataset, uid, target / f"IM{number:04d}.dcm")


def _ct_slice(hu: npt.NDArray[np.int16], lps: Affine, z: int) -> Dataset:
    column_mm, row_mm, slice_mm = np.linalg.norm(lps[:3, :3], axis=0)
    position = lps @ [0, 0, z, 1]
    dataset = Dataset()
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.SliceThickness = _decimal(slice_mm)
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = [_decimal(value) for value in position[:3]]
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*(lps[:3, 0] / column_mm), *(lps[:3, 1] / row_mm))]
    dataset.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(STORED_OFFSET_HU), "1", "HU"
    dataset.PixelData = (hu.astype(np.int32) - STORED_OFFSET_HU).astype("<u2").tobytes()
    return dataset


def _decimal(value: float) -> str:
    # A DICOM decimal string holds at most 16 characters.
    return f"{float(value) + 0.0:.6f}"


def _save_dicom(dataset: Dataset, uid: UID, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid
    file = FileDataset(str(path), dataset, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(path, enforce_file_format=True)


def _save_nifti(array_ijk: npt.NDArray[np.integer], affine: Affine, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti: Any = nibabel.Nifti1Image
    image = nifti(array_ijk, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
