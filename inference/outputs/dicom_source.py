"""The DICOM series that a scan was read from, slice by slice, for objects that refer to it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.config import IGNORE
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, CTImageStorage, generate_uid
from pydicom.valuerep import DA, TM, PersonName, format_number_as_ds

from ct.files.dicom.frames import Frame
from ct.files.dicom.tags import read_dataset
from ct.files.dicom.volume import LPS_TO_RAS
from ct.refusal import Refusal
from ct.scan import Grid, Scan

# Tags of the patient and the study that every object of the study repeats.
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
            SOPInstanceUID is `sop_instance` for a file of one slice and an UID of its own for a frame.
        replaced: Tags of the source's UIDs in whose place others had to be put.
    """

    sop_class: UID
    sop_instance: UID
    frame_number: int | None
    stand_in: Dataset
    replaced: tuple[str, ...]


def source_slices(scan: Scan) -> tuple[SourceSlice, ...]:
    """Describe the DICOM slices of a scan, in the order of its file grid.

    UIDs are passed on as the archive knows them, also with leading zeros, which the standard forbids. What else tags of
    the identity lack or cannot say in DICOM is left empty, or replaced if it is an UID, so that the results of an odd
    source can be written.

    Args:
        scan: The scan, read from DICOM.

    Returns:
        One for each slice, in the order of the last axis of `scan.source`.

    Raises:
        ValueError: A file cannot be read any more.
    """
    return _with_headers(scan.frames, scan.source)


def _with_headers(frames: Sequence[Frame], grid: Grid) -> tuple[SourceSlice, ...]:
    headers = {file: _header(file) for file in {frame.file for frame in frames}}
    shared, replaced = _identity(headers[frames[0].file])
    found = []
    for index, frame in enumerate(frames):
        header = headers[frame.file]
        meta = header.file_meta
        sop_class = UID(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or CTImageStorage)
        written = _text(header, "SOPInstanceUID") or _text(meta, "MediaStorageSOPInstanceUID")
        instance = _uid(written)
        number = frame.index + 1 if "NumberOfFrames" in header else None
        stand_in = _placed(grid, index)
        stand_in.update(shared)
        stand_in.SOPClassUID = CTImageStorage
        stand_in.SOPInstanceUID = instance if number is None else generate_uid()
        odd = replaced if _is_usable(written) else (*replaced, "SOPInstanceUID")
        found.append(SourceSlice(sop_class, instance, number, stand_in, odd))
    return tuple(found)


def _header(file: Path) -> FileDataset:
    try:
        return read_dataset(file)
    except Refusal as error:
        text = (
            "{file}: cannot be read any more; the files have changed since the scan was read; run the prediction again"
        )
        raise Refusal(text, file=file) from error


def _placed(grid: Grid, index: int) -> Dataset:
    """Place a slice where the scan's grid has it: even and square to the patient, which written tags need not be."""
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
    """Return the tags that the study's objects share, and which of its UIDs were replaced."""
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
    """Return a UID as it is; for one that is none, as some anonymizers write, a valid one that follows from it.

    Archives refuse what carries an invalid UID, and outputs of one study must still agree on theirs.
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
    """Return a date or time as it is; one that nobody can read is dropped, lest it keep a result from being written."""
    try:
        parsed: datetime.date | datetime.time | None = kind(text)
    except (ValueError, NotImplementedError, OverflowError):
        return ""
    return "" if parsed is None else text
