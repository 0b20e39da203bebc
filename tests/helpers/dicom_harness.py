"""DICOM series for tests: a small one, and the ways to change it (tags, transfer syntax, one enhanced file)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, EnhancedCTImageStorage, generate_uid

from ct.files.dicom.export import write_dicom_series
from ct.files.dicom.volume import read_dicom
from ct.refusal import Sentence
from ct.scan import Affine, to_canonical

# Tags that enhanced files keep in functional groups, by group.
PLACE = {"PlanePositionSequence": ["ImagePositionPatient"]}
SHARED = {
    "PlaneOrientationSequence": ["ImageOrientationPatient"],
    "PixelMeasuresSequence": ["PixelSpacing", "SliceThickness"],
    "PixelValueTransformationSequence": ["RescaleSlope", "RescaleIntercept", "RescaleType"],
}


def affine(z_mm: float = 5.0) -> Affine:
    matrix = np.diag([-0.75, -0.5, z_mm, 1.0])
    matrix[:3, 3] = (120.0, 130.5, -211.25)
    return matrix


def ct(slices: int = 6, seed: int = 0) -> NDArray[np.int16]:
    """Return int16 HU (slices, 12, 10), different everywhere, with air."""
    hu = np.random.default_rng(seed).integers(-1024, 800, (slices, 12, 10)).astype(np.int16)
    hu[:, 0, 0] = -1000
    return hu


def write_series(folder: Path, hu: NDArray[np.int16] | None = None, **tags: object) -> Path:
    """Write a series of a patient, with tags changed in every file."""
    write_dicom_series(ct() if hu is None else hu, affine(), folder, patient_id="p1")
    edit(folder, lambda dataset: set_tags(dataset, tags))
    return folder


def set_tags(dataset: Dataset, tags: Mapping[str, object]) -> None:
    """Set tags; None deletes, a callable makes the new value of the dataset."""
    for tag, value in tags.items():
        if value is None:
            delattr(dataset, tag)
        else:
            setattr(dataset, tag, value(dataset) if callable(value) else value)


def edit(folder: Path, change: Callable[[Dataset], object], only: int | None = None) -> None:
    """Change the datasets of a series, or of its file number `only`."""
    for number, file in enumerate(sorted(folder.glob("*.dcm"))):
        if only is None or number == only:
            dataset = pydicom.dcmread(file)
            change(dataset)
            dataset.save_as(file)


def read(path: Path) -> tuple[NDArray[Any], Affine, tuple[Sentence, ...]]:
    """Read with `read_dicom`: canonical HU (Z, Y, X), affine and repairs."""
    voxels, source, repairs, _ = read_dicom(path)
    hu, canonical = to_canonical(voxels, source)
    return hu, canonical, repairs


def store_signed(dataset: Dataset) -> None:
    """Store HU itself as signed numbers, intercept 0."""
    stored = dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, "0"
    dataset.PixelData = stored.astype("<i2").tobytes()


def change_syntax(file: Path, syntax: str) -> None:
    """Rewrite a single frame in another transfer syntax, by gdcm's name of it (which changes the place of others)."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def enhance(
    files: Sequence[Path],
    target: Path,
    sop_class: UID = EnhancedCTImageStorage,
    own: Sequence[str] = (*PLACE, *SHARED),
) -> Path:
    """Put single frames into one enhanced multi-frame file.

    Args:
        files: The frames, in the order in which they are stored.
        target: The enhanced file.
        sop_class: Its SOP class.
        own: The groups that are written for each frame; the others are shared.
    """
    frames = [pydicom.dcmread(file) for file in files]
    enhanced = pydicom.dcmread(files[0])
    groups = PLACE | SHARED
    for tag in (tag for tags in groups.values() for tag in tags):
        delattr(enhanced, tag)
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = sop_class
    enhanced.SOPInstanceUID = enhanced.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    enhanced.NumberOfFrames = len(frames)
    enhanced.SharedFunctionalGroupsSequence = Items([_item(frames[0], {g: groups[g] for g in groups if g not in own})])
    enhanced.PerFrameFunctionalGroupsSequence = Items([_item(f, {g: groups[g] for g in own}) for f in frames])
    if frames[0].file_meta.TransferSyntaxUID.is_compressed:
        enhanced.PixelData = encapsulate([get_frame(frame.PixelData, 0, number_of_frames=1) for frame in frames])
    else:
        enhanced.PixelData = b"".join(frame.PixelData for frame in frames)
    target.parent.mkdir(parents=True, exist_ok=True)
    enhanced.save_as(target)
    return target


def _item(frame: Dataset, groups: dict[str, list[str]]) -> Dataset:
    item = Dataset()
    for group, tags in groups.items():
        inner = Dataset()
        for tag in tags:
            setattr(inner, tag, frame[tag].value)
        setattr(item, group, Items([inner]))
    return item
