"""Voxels and affine of a DICOM CT; the geometry is decided from the tags, the libraries only decode the pixels."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ct.checks import AIR_HU
from ct.files.dicom.acquisitions import differing_tags, listed_tags
from ct.files.dicom.file_set import find_dicom_files
from ct.files.dicom.frames import Frame
from ct.files.dicom.pixels import decode_frames
from ct.files.dicom.series import SAME_PLACE_MM, choose_series, read_series
from ct.files.dicom.tags import keyword, one_sentence
from ct.grid_checks import check_stack
from ct.refusal import Refusal, Sentence
from ct.scan import Affine

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
Voxels = npt.NDArray[np.int16] | npt.NDArray[np.int32]

# How far the slices of a series may differ: noise of 1e-3 in each direction, either way, and rounding of the spacing.
SHARED = {"rows": 0.0, "columns": 0.0, "vectors": 2.5e-3, "spacing_mm": 1e-4}
TAG_NAMES = {
    "rows": "Rows",
    "columns": "Columns",
    "vectors": "ImageOrientationPatient",
    "spacing_mm": "PixelSpacing",
}
COPY_SHIFT_MM = 1e-2
# Positions written with one decimal are off by up to 0.05 mm, as are the two ends that they are compared with.
ROUNDING_MM = 0.1
INT16 = np.iinfo(np.int16)


def read_dicom(path: Path) -> tuple[Voxels, Affine, tuple[Sentence, ...], tuple[Frame, ...]]:
    """Read the one CT volume in a DICOM file, or in a folder with its sub-folders.

    Single frames and enhanced multi-frame CT are read, in files of any names and order, compressed or not. A folder may
    hold other things beside the volume. A candidate is a series of CT images (SOP class CT, Enhanced CT or Legacy
    Converted Enhanced CT, or Modality CT) at two places at least that are no localizers, secondary captures, dose
    reports or colour images. Where several are candidates and all are of one patient, three rules are applied in this
    order, each to what the one before has left:

    1. If BodyPartExamined of one names the chest, thorax or lungs, those that name another part are left out.
    2. If one is axial, coronal and sagittal ones are left out.
    3. If one is ORIGINAL (ImageType), those that are DERIVED are left out.

    If more than one remains, the folder is refused with their list. An identical copy of a slice is left out.

    Args:
        path: The file or folder.

    Returns:
        HU in file order (column, row, slice), slices sorted along their normal, int16, or int32 where values need it;
        the (4, 4) affine to RAS+ mm; a sentence for each thing that was changed or left out; and the frame behind each
        slice, of identical copies the first by file.

    Raises:
        ValueError: Not one complete, upright, even CT volume in Hounsfield units.
    """
    with warnings.catch_warnings():
        # Odd values in tags that are not used here do not concern the user.
        warnings.simplefilter("ignore")
        files, left_out = find_dicom_files(path)
        series, choice = choose_series(path, read_series(path, files))
        stack = _stack(path, series.frames)
        voxels, repairs = _fill(stack)
    return voxels.transpose(2, 1, 0), LPS_TO_RAS @ stack.affine, left_out + choice + repairs, _first_frames(stack)


@dataclass(frozen=True, eq=False)
class _Stack:
    """The frames of a volume, sorted along their normal; the slice of each (copies share one); the affine to LPS+."""

    frames: list[Frame]
    slices: list[int]
    affine: Affine


def _first_frames(stack: _Stack) -> tuple[Frame, ...]:
    """Return the frame of each slice, of copies the first by file and index."""
    frame_of: dict[int, Frame] = {}
    pairs = zip(stack.frames, stack.slices, strict=True)
    for frame, number in sorted(pairs, key=lambda pair: (pair[0].file, pair[0].index)):
        frame_of.setdefault(number, frame)
    return tuple(frame_of[number] for number in sorted(frame_of))


def _stack(path: Path, frames: list[Frame]) -> _Stack:
    for name, tolerance in SHARED.items():
        _check_shared(frames, name, tolerance)
    # The nearest pair of unit vectors at right angles removes the noise that each slice's own pair may have.
    u, _, vt = np.linalg.svd(np.mean([frame.vectors for frame in frames], axis=0), full_matrices=False)
    vectors = u @ vt
    normal = np.cross(vectors[0], vectors[1])
    along = np.array([frame.position_mm @ normal for frame in frames])
    order = np.argsort(along, kind="stable")
    slices = np.concatenate([[0], np.cumsum(np.diff(along[order]) > SAME_PLACE_MM)])
    in_order = [frames[index] for index in order]
    positions = np.array([in_order[index].position_mm for index in np.unique(slices, return_index=True)[1]])
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + np.outer(np.arange(len(positions)), step)
    if np.abs(positions - even).max() <= ROUNDING_MM:
        positions = even
    check_stack(positions, normal, str(path))
    row_mm, column_mm = frames[0].spacing_mm
    affine = np.eye(4)
    # ImageOrientationPatient starts with the direction of a row, along which the column index grows.
    affine[:3, :] = np.stack([vectors[0] * column_mm, vectors[1] * row_mm, step, positions[0]], axis=1)
    return _Stack(in_order, slices.tolist(), affine)


def _check_shared(frames: list[Frame], name: str, tolerance: float) -> None:
    values = np.array([np.ravel(getattr(frame, name)) for frame in frames], dtype=np.float64)
    difference = np.abs(values - values[0]).max(axis=1)
    worst = int(difference.argmax())
    if difference[worst] > tolerance:
        raise Refusal(
            "{file}: {tag} is {value}; expected {first} as in {example}; all slices of a series must agree",
            file=frames[worst].file,
            tag=keyword(TAG_NAMES[name]),
            value=values[worst].tolist(),
            first=values[0].tolist(),
            example=frames[0].file.name,
        )


def _fill(stack: _Stack) -> tuple[Voxels, tuple[Sentence, ...]]:
    """Decode into one array (slice, row, column) that is made once, so that no slice is held twice."""
    first = stack.frames[0]
    slice_of = dict(zip(stack.frames, stack.slices, strict=True))
    shape = (stack.slices[-1] + 1, first.rows, first.columns)
    with one_sentence(first.file, "a volume of {shape} voxels does not fit into the memory", shape=shape):
        voxels: Voxels = np.empty(shape, dtype=np.int16)
    frame_of: dict[int, Frame] = {}
    counts: Counter[str] = Counter()
    for frame, hu, padding in decode_frames(stack.frames):
        plane, fractions = _rounded(hu, frame)
        counts += Counter(fractions=fractions, padding=padding)
        number = slice_of[frame]
        if number in frame_of:
            _check_copy(frame_of[number], frame, np.array_equal(voxels[number], plane))
            counts["copies"] += 1
            continue
        if voxels.dtype == np.int16 and (plane.min() < INT16.min or plane.max() > INT16.max):
            voxels = voxels.astype(np.int32)
        voxels[number] = plane
        frame_of[number] = frame
    return voxels, _sentences(counts)


def _rounded(hu: npt.NDArray[np.float64], frame: Frame) -> tuple[npt.NDArray[np.int32], int]:
    """Round HU; also return the number of those with a fraction."""
    if not (np.abs(hu) <= np.iinfo(np.int32).max).all():
        raise Refusal(
            "{file}: RescaleSlope {slope:g} and RescaleIntercept {intercept:g} give values up to "
            "{highest:g}; expected HU; export it again",
            file=frame.file,
            slope=frame.slope,
            intercept=frame.intercept,
            highest=np.abs(hu).max(),
        )
    plane = np.rint(hu)
    return plane.astype(np.int32), int((plane != hu).sum())


def _check_copy(original: Frame, copy: Frame, same_pixels: bool) -> None:
    if same_pixels and np.linalg.norm(original.position_mm - copy.position_mm) <= COPY_SHIFT_MM:
        return
    text = "{example} (frame {number})"
    first, second = (Sentence(text, example=frame.file.name, number=frame.index + 1) for frame in (original, copy))
    tags = differing_tags(original.traits, copy.traits)
    also = Sentence(" (also in {tags})", tags=listed_tags(tags)) if tags else Sentence("")
    raise Refusal(
        "{file}: two slices lie at the same place ({place}) but differ: {first} and {second}{also}; expected one "
        "there; two phases or reconstructions are mixed; put each into a folder of its own",
        file=copy.file,
        place=copy.position_mm.tolist(),
        first=first,
        second=second,
        also=also,
    )


def _sentences(counts: Counter[str]) -> tuple[Sentence, ...]:
    copies, padding, fractions = (counts[name] for name in ("copies", "padding", "fractions"))
    sentences = []
    if copies:
        sentences.append(Sentence("{count} identical copies of slices were left out", count=copies))
    if padding:
        text = "{count} voxels of padding (PixelPaddingValue) were set to {air} HU"
        sentences.append(Sentence(text, count=padding, air=AIR_HU))
    if fractions:
        sentences.append(Sentence("{count} voxels with fractions of a HU were rounded", count=fractions))
    return tuple(sentences)
