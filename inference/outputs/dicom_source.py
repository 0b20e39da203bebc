"""Slices of the DICOM series that a scan was read from, for objects that refer to them."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.config import IGNORE
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, CTImageStorage, generate_uid
from pydicom.valuerep import DA, TM, PersonName, format_number_as_ds

from ct.files.dicom.tags import read_dataset
from ct.files.dicom.volume import LPS_TO_RAS
from ct.refusal import Refusal
from ct.scan import Grid, Scan

# Tags of patient and study that all objects of a study share.
SHARED_TAGS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
)
UID_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
MAX_UID = 64
SEXES = ("M", "F", "O")


@dataclass(frozen=True, eq=False)
class SourceSlice:
    """One slice of the source.

    Attributes:
        sop_class: SOP class of the file that holds it.
        sop_instance: SOP instance of the file.
        frame_number: Its frame in an enhanced file, from 1; None in a file of one slice.
        stand_in: A single CT slice with its identity and its place on the scan's grid, without pixels. Its
            SOPInstanceUID is `sop_instance` for a file of one slice and a new UID for a frame.
        replaced: Tags of the source's UIDs that had to be replaced.
    """

    sop_class: UID
    sop_instance: UID
    frame_number: int | None
    stand_in: Dataset
    replaced: tuple[str, ...]


def source_slices(scan: Scan) -> tuple[SourceSlice, ...]:
    """Describe the DICOM slices of a scan, in the order of its file grid.

    UIDs stay as the archive knows them, also with leading zeros, which the standard forbids. Other tags of patient and
    study that are missing or invalid are left empty, and invalid UIDs are replaced, so that the results of an odd
    source can be written.

    Args:
        scan: The scan, read from DICOM.

    Returns:
        A slice for each index of the last axis of `scan.source`.

    Raises:
        ValueError: A file cannot be read any more.
    """
    headers = {file: _header(file) for file in {frame.file for frame in scan.frames}}
    shared, replaced = _identity(headers[scan.frames[0].file])
    slices = []
    for index, frame in enumerate(scan.frames):
        header = headers[frame.file]
        meta = header.file_meta
        sop_class = UID(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or CTImageStorage)
        uid = _text(header, "SOPInstanceUID") or _text(meta, "MediaStorageSOPInstanceUID")
        instance = _uid(uid)
        number = frame.index + 1 if "NumberOfFrames" in header else None
        stand_in = _placed(scan.source, index)
        stand_in.update(shared)
        stand_in.SOPClassUID = CTImageStorage
        stand_in.SOPInstanceUID = instance if number is None else generate_uid()
        replaced_here = replaced if _is_usable(uid) else (*replaced, "SOPInstanceUID")
        slices.append(SourceSlice(sop_class, instance, number, stand_in, replaced_here))
    return tuple(slices)


def _header(file: Path) -> FileDataset:
    try:
        return read_dataset(file)
    except Refusal as error:
        text = (
            "{file}: cannot be read any more; the files have changed since the scan was read; run the prediction again"
        )
        raise Refusal(text, file=file) from error


def _placed(grid: Grid, index: int) -> Dataset:
    """Return a slice placed by the scan's grid, which is even and orthogonal where the source's tags need not be."""
    lps = LPS_TO_RAS @ grid.affine
    column_mm, row_mm, slice_mm = np.linalg.norm(lps[:3, :3], axis=0)
    directions = np.concatenate([lps[:3, 0] / column_mm, lps[:3, 1] / row_mm])
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.Columns, dataset.Rows = grid.shape[:2]
    dataset.ImagePositionPatient = [_decimal(value) for value in (lps @ [0, 0, index, 1])[:3]]
    dataset.ImageOrientationPatient = [_decimal(value) for value in directions]
    dataset.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimal(slice_mm)
    return dataset


def _decimal(value: float) -> str:
    return format_number_as_ds(float(np.round(value, 9)) + 0.0)


def _identity(header: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Return the tags that objects of the study share, and the tags of UIDs that were replaced."""
    shared = Dataset()
    for tag in SHARED_TAGS:
        setattr(shared, tag, _text(header, tag))
    for tag in UID_TAGS:
        setattr(shared, tag, _uid(_text(header, tag)))
    shared.PatientSex = shared.PatientSex if shared.PatientSex in SEXES else ""
    for tag, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        setattr(shared, tag, _valid(getattr(shared, tag), kind))
    return shared, tuple(tag for tag in UID_TAGS if not _is_usable(_text(header, tag)))


def _text(header: Dataset, tag: str) -> str:
    try:
        value = header.get(tag)
        if isinstance(value, MultiValue):
            value = value[0] if value else ""
        # A name keeps the bytes of its own character set; as text it can be written in another.
        return "=".join(value.components).rstrip("=") if isinstance(value, PersonName) else str(value or "")
    except Exception:  # Damaged bytes make pydicom raise nearly every class there is; such a tag is as good as missing.
        return ""


def _uid(text: str) -> UID:
    """Return a UID unchanged; replace an invalid one, as some anonymizers write, by a valid one derived from it.

    Archives refuse objects with an invalid UID, and outputs of one study must still share theirs.
    """
    text = text.strip(" \0")
    return (
        UID(text, validation_mode=IGNORE) if _is_usable(text) else generate_uid(entropy_srcs=[text] if text else None)
    )


def _is_usable(text: str) -> bool:
    """Tell whether archives take a UID: digits and dots. Leading zeros are wrong but common, and archives keep them."""
    text = text.strip(" \0")
    return len(text) <= MAX_UID and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is not None


def _valid(text: str, kind: type[DA] | type[TM]) -> str:
    """Return a date or time unchanged, "" where it cannot be parsed and would keep a result from being written."""
    try:
        parsed: datetime.date | datetime.time | None = kind(text)
    except (ValueError, NotImplementedError, OverflowError):
        return ""
    return "" if parsed is None else text
