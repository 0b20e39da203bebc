"""Export of a scan as a DICOM series of uncompressed CT slices, in any orientation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ct.files.dicom.volume import LPS_TO_RAS
from ct.refusal import Refusal
from ct.scan import Affine, grid_facing, to_source

STORED_OFFSET_HU = -1024


def write_dicom_series(
    hu_zyx: npt.NDArray[np.int16],
    affine: Affine,
    folder: str | Path,
    patient_id: str = "anonymous",
    description: str = "",
    axcodes: str = "LPS",
) -> None:
    """Write a canonical scan as a DICOM series of uncompressed CT slices, one file each.

    Args:
        hu_zyx: int16 (Z, Y, X), HU from -1024 to 31743.
        affine: (4, 4) of canonical (x, y, z) to RAS+ mm, axes along the patient's.
        folder: Where to write; made if missing.
        patient_id: Goes into PatientID and, hashed, into the UIDs, so that the same input gives the same files.
        description: SeriesDescription.
        axcodes: Where the column index, the row index and the slices grow to: three of R/L, A/P, S/I. "LPS" is axial;
            readers sort slices by place, so the last letter only says how the files are numbered (backwards).

    Raises:
        ValueError: HU below -1024 or above 31743, or `axcodes` does not name each body axis once.
    """
    if hu_zyx.min() < STORED_OFFSET_HU or int(hu_zyx.max()) - STORED_OFFSET_HU > np.iinfo(np.int16).max:
        raise Refusal(
            "{folder}: HU from {lowest} to {highest}; expected -1024..31743",
            folder=folder,
            lowest=hu_zyx.min(),
            highest=hu_zyx.max(),
        )
    grid = grid_facing(hu_zyx.shape, affine, axcodes)
    planes = np.ascontiguousarray(to_source(hu_zyx, grid).transpose(2, 1, 0))
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    lps = LPS_TO_RAS @ grid.affine
    content = hashlib.sha256(planes.tobytes()).hexdigest()
    uids = {name: generate_uid(entropy_srcs=[patient_id, content, name]) for name in ("study", "series", "frame")}
    # Axial files are numbered from head to foot, as scanners do; readers must sort by position.
    for number, index in enumerate(reversed(range(len(planes))), start=1):
        dataset = _ct_slice(planes[index], lps, index)
        dataset.PatientID = dataset.PatientName = patient_id
        dataset.SeriesDescription = description
        dataset.InstanceNumber = number
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
        dataset.FrameOfReferenceUID = uids["frame"]
        uid = generate_uid(entropy_srcs=[content, patient_id, str(number)])
        _save_dicom(dataset, uid, target / f"IM{number:04d}.dcm")


def _ct_slice(hu: npt.NDArray[np.int16], lps: Affine, index: int) -> Dataset:
    column_mm, row_mm, slice_mm = np.linalg.norm(lps[:3, :3], axis=0)
    position = lps @ [0, 0, index, 1]
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
