"""Real files of the phantom: NIfTI in any axis order and DICOM series, all without a trace of the clock."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

CANONICAL_AXES = "LPS"
RESCALE_INTERCEPT = -1024


def phantom_affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Affine (4, 4) of the canonical (x, y, z) array into RAS+ mm, with the patient's centre near the origin.

    Args:
        shape: (Z, Y, X).
        spacing_mm: (z, y, x).
    """
    z_mm, y_mm, x_mm = spacing_mm
    affine = np.diag([-x_mm, -y_mm, z_mm, 1.0])
    affine[:3, 3] = [(shape[2] - 1) / 2 * x_mm, (shape[1] - 1) / 2 * y_mm, -400.0]
    return affine


def write_nifti(volume: NDArray[np.generic], spacing_mm: tuple[float, float, float], axes: str, path: Path) -> None:
    """Write a canonical (Z, Y, X) volume as NIfTI whose array axes run towards `axes` (for instance "RAS", "SLA")."""
    array = np.ascontiguousarray(volume.transpose(2, 1, 0))
    image = nib.Nifti1Image(array, phantom_affine(volume.shape, spacing_mm))  # type: ignore[no-untyped-call]
    start, goal = (nib.orientations.axcodes2ornt(tuple(codes)) for codes in (CANONICAL_AXES, axes))  # type: ignore[no-untyped-call]
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, goal))  # type: ignore[no-untyped-call]
    turned.set_qform(turned.affine, code=1)
    turned.set_sform(turned.affine, code=1)
    turned.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(turned, path)


def write_dicom_series(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], patient_id: str, site: str, folder: Path
) -> None:
    """Write a canonical (Z, Y, X) volume in HU as one uncompressed DICOM file per slice, numbered from head to foot.

    The patient is invented; identifiers are derived from patient and site, so the same scan gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = phantom_affine(hu.shape, spacing_mm)
    for number in range(1, hu.shape[0] + 1):
        z = hu.shape[0] - number
        corner = affine @ np.array([0.0, 0.0, z, 1.0])
        position = [-corner[0], -corner[1], corner[2]]
        dataset = _slice_dataset(number, position, spacing_mm, patient_id, site)
        _set_pixels(dataset, hu[z])
        dataset.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)


def _slice_dataset(
    number: int, position: list[float], spacing_mm: tuple[float, float, float], patient_id: str, site: str
) -> FileDataset:
    key = f"ground-glass-phantom/{site}/{patient_id}"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[key, "image", str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["ground-glass-phantom"])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _set_patient(dataset, key, patient_id, site)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[key, "series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[key, "frame"])
    dataset.PositionReferenceIndicator = ""
    dataset.SeriesNumber = 2
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SliceLocation = f"{position[2]:.6f}"
    dataset.PixelSpacing = [f"{spacing_mm[1]:.8f}", f"{spacing_mm[2]:.8f}"]
    dataset.SliceThickness = f"{spacing_mm[0]:.6f}"
    return dataset


def _set_patient(dataset: FileDataset, key: str, patient_id: str, site: str) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = f"Phantom^{patient_id}"
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = "19600101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[key, "study"])
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Chest CT"
    dataset.SeriesDescription = "Lung 1.25 soft"
    for date in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, date, "20200401")
    for time in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, time, "120000")
    dataset.Modality = "CT"
    dataset.Manufacturer = "Ground Glass phantom"
    dataset.InstitutionName = f"Site {site}"
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientPosition = "HFS"
    dataset.KVP = "120"
    dataset.ConvolutionKernel = "SYNTHETIC"


def _set_pixels(dataset: FileDataset, hu: NDArray[np.int16]) -> None:
    stored = (hu.astype(np.int32) - RESCALE_INTERCEPT).clip(0, 4095).astype("<u2")
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = str(RESCALE_INTERCEPT)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "-600", "1500"
    dataset.PixelData = stored.tobytes()
