"""A DICOM CT file -> its frames and their place in the patient; of plain and of enhanced multi-frame CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from ct.files.dicom.acquisitions import FUNCTIONAL_GROUPS, Traits, traits_of
from ct.files.dicom.tags import PLAIN_SYNTAXES, keyword, numbers, one_sentence, value, whole_number, words
from ct.refusal import Refusal

# Where enhanced files keep the tags that single frames have at the top (PS3.3, C.7.6.16 and C.8.15.3).
MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
}
NATIVE = frozenset(map(str, PLAIN_SYNTAXES.values()))
DECODED_BY_PYDICOM = NATIVE | {str(DeflatedExplicitVRLittleEndian), str(RLELossless)}
# CT scanners write 256 to 2048 pixels a side; a larger one is a damaged header that would exhaust the memory.
MAX_SIDE = 8192
# No lossless coding of a CT slice comes near this; more is a damaged header, too.
MAX_COMPRESSION = 2000
# Noise of 1e-3 in each element moves lengths and angles of the two vectors by up to about 3.5e-3.
VECTOR_TOLERANCE = 5e-3
MAX_TILT_TAG_DEGREES = 0.5
UNSPECIFIED = ("US", "UNSPECIFIED")


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice of a CT series, without its pixels.

    Attributes:
        file: Where it is stored.
        index: Its number within the file, from 0.
        rows: Pixels along a column.
        columns: Pixels along a row.
        position_mm: (3,) centre of the first pixel, LPS+.
        vectors: (2, 3) directions in which the column index and the row index grow, LPS+.
        spacing_mm: (2,) distance between rows, and between columns.
        slope: HU per stored unit.
        intercept: HU of stored 0.
        padding: Lowest and highest stored value that mean "no pixel here"; None where none is declared.
        image_type: ImageType, or FrameType where the file has it.
        needs_gdcm: Whether the pixels are coded in a way that only gdcm decodes.
        unit_is_open: Whether the file says that the unit of its values is unspecified.
        traits: What it says of its acquisition, see `ct.files.dicom.acquisitions`.
    """

    file: Path
    index: int
    rows: int
    columns: int
    position_mm: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float64]
    spacing_mm: npt.NDArray[np.float64]
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    image_type: tuple[str, ...]
    needs_gdcm: bool
    unit_is_open: bool
    traits: Traits


def frames_of(file: Path, header: pydicom.FileDataset) -> list[Frame]:
    """Find the frames of one CT file.

    Args:
        file: The file.
        header: Its tags.

    Returns:
        One frame for a plain CT slice, all frames of an enhanced one.

    Raises:
        ValueError: Not grey CT pixels in Hounsfield units with a place in the patient, or a header that cannot be true.
    """
    _check_pixels(file, header)
    shared = _items(file, header, "SharedFunctionalGroupsSequence")
    per_frame = _items(file, header, "PerFrameFunctionalGroupsSequence")
    count = 1 if value(file, header, "NumberOfFrames") is None else whole_number(file, header, "NumberOfFrames")
    if count != (len(per_frame) or 1):
        raise Refusal(
            "{file}: holds {count} frames but the places of {places} (PerFrameFunctionalGroupsSequence); "
            "expected one for each; export it as enhanced CT or as one file per slice",
            file=file,
            count=count,
            places=len(per_frame),
        )
    _check_size(file, header, count)
    groups = [[item] for item in per_frame] or [[]]
    common = traits_of([header, *_grouped(file, shared)])
    return [
        _frame(file, index, header, [*group, *shared, header], common | traits_of(_grouped(file, group)))
        for index, group in enumerate(groups)
    ]


def _grouped(file: Path, holders: Sequence[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """Return the items of the functional groups in which traits may stand."""
    return [item for holder in holders for tag in FUNCTIONAL_GROUPS for item in _items(file, holder, tag)]


def _items(file: Path, header: pydicom.Dataset, tag: str) -> list[pydicom.Dataset]:
    found = value(file, header, tag)
    with one_sentence(file, "{tag} cannot be read", tag=keyword(tag)):
        return [] if found is None else list(found)


def _check_pixels(file: Path, header: pydicom.Dataset) -> None:
    """Refuse pixels whose meaning is not plainly grey = HU."""
    photometric = "".join(words(file, header, "PhotometricInterpretation")) or "missing"
    if photometric != "MONOCHROME2" or whole_number(file, header, "SamplesPerPixel") != 1:
        raise Refusal(
            "{file}: PhotometricInterpretation is {photometric}; expected MONOCHROME2 with one sample per "
            "pixel, as CT has (readers disagree on inverting others); export it as plain CT",
            file=file,
            photometric=photometric,
        )
    allocated, stored = (whole_number(file, header, tag) for tag in ("BitsAllocated", "BitsStored"))
    high = stored - 1 if value(file, header, "HighBit") is None else whole_number(file, header, "HighBit")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1:
        raise Refusal(
            "{file}: BitsAllocated, BitsStored and HighBit are {allocated}, {stored} and {high}; expected "
            "for example 16, 12 and 11; export it again",
            file=file,
            allocated=allocated,
            stored=stored,
            high=high,
        )


def _check_size(file: Path, header: pydicom.FileDataset, count: int) -> None:
    """Refuse a header that promises more pixels than the file can hold, before anything is made of that size."""
    rows, columns = (whole_number(file, header, tag) for tag in ("Rows", "Columns"))
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
        raise Refusal(
            "{file}: Rows and Columns are {rows} and {columns}; expected 1..{most}; export it again",
            file=file,
            rows=rows,
            columns=columns,
            most=MAX_SIDE,
        )
    held = file.stat().st_size * (1 if _syntax(file, header) in NATIVE else MAX_COMPRESSION)
    needed = rows * columns * count * whole_number(file, header, "BitsAllocated") // 8
    if needed > held:
        raise Refusal(
            "{file}: {count} x {rows} x {columns} pixels need {needed} bytes but the file can hold {held}; "
            "it is cut off or damaged; export it again",
            file=file,
            count=count,
            rows=rows,
            columns=columns,
            needed=needed,
            held=held,
        )


def _syntax(file: Path, header: pydicom.FileDataset) -> str:
    with one_sentence(file, "TransferSyntaxUID cannot be read"):
        return str(header.file_meta.TransferSyntaxUID)


def _frame(
    file: Path, index: int, header: pydicom.FileDataset, holders: Sequence[pydicom.Dataset], traits: Traits
) -> Frame:
    def held(tag: str, count: int) -> npt.NDArray[np.float64]:
        return numbers(file, _holder(file, holders, tag), tag, count)

    unit = _checked_unit(file, header, holders)
    frame = Frame(
        file=file,
        index=index,
        rows=whole_number(file, header, "Rows"),
        columns=whole_number(file, header, "Columns"),
        position_mm=held("ImagePositionPatient", 3),
        vectors=held("ImageOrientationPatient", 6).reshape(2, 3),
        spacing_mm=held("PixelSpacing", 2),
        slope=float(held("RescaleSlope", 1)[0]),
        intercept=float(held("RescaleIntercept", 1)[0]),
        padding=_padding(file, header),
        image_type=words(file, _holder(file, holders, "FrameType"), "FrameType") or words(file, header, "ImageType"),
        needs_gdcm=_syntax(file, header) not in DECODED_BY_PYDICOM,
        unit_is_open=unit in UNSPECIFIED,
        traits=traits,
    )
    _check_geometry(frame, header)
    return frame


def _holder(file: Path, holders: Sequence[pydicom.Dataset], tag: str) -> pydicom.Dataset:
    """Return the dataset that says `tag` of this frame: the frame's own item, the shared one, or the file's top."""
    for holder in holders[:-1]:
        for item in _items(file, holder, MACROS[tag]):
            if value(file, item, tag) is not None:
                return item
    return holders[-1]


def _checked_unit(file: Path, header: pydicom.Dataset, holders: Sequence[pydicom.Dataset]) -> str:
    """Return RescaleType, "" where it is missing; refuse what cannot be HU."""
    unit = "".join(words(file, _holder(file, holders, "RescaleType"), "RescaleType"))
    # In CT the tag may be left out where the unit is HU, and only there (PS3.3, C.8.2.1). ITK and GDCM write US
    # ("unspecified") beside HU: for single CT images the checks of values decide. Enhanced CT names its unit.
    taken = ("HU", "", *(UNSPECIFIED if "NumberOfFrames" not in header else ()))
    if unit not in taken:
        raise Refusal(
            "{file}: RescaleType is {unit!r}; expected 'HU'; export it in Hounsfield units", file=file, unit=unit
        )
    return unit


def _check_geometry(frame: Frame, header: pydicom.Dataset) -> None:
    at_right_angles = np.allclose(frame.vectors @ frame.vectors.T, np.eye(2), rtol=0, atol=VECTOR_TOLERANCE)
    if not at_right_angles or frame.spacing_mm.min() <= 0 or frame.slope == 0:
        raise Refusal(
            "{file}: ImageOrientationPatient {vectors}, PixelSpacing {spacing_mm} or RescaleSlope {slope:g} "
            "is impossible; expected unit vectors at right angles, sizes above 0 mm and a slope other than "
            "0; export it again",
            file=frame.file,
            vectors=frame.vectors.ravel().tolist(),
            spacing_mm=frame.spacing_mm.tolist(),
            slope=frame.slope,
        )
    tilt = 0.0
    if value(frame.file, header, "GantryDetectorTilt") is not None:
        tilt = float(numbers(frame.file, header, "GantryDetectorTilt", 1)[0])
    if abs(tilt) > MAX_TILT_TAG_DEGREES:
        raise Refusal(
            "{file}: GantryDetectorTilt is {tilt:g} degrees; expected 0 (a tilted gantry shears the stack); "
            "resample the series to upright slices first",
            file=frame.file,
            tilt=tilt,
        )


def _padding(file: Path, header: pydicom.Dataset) -> tuple[int, int] | None:
    if value(file, header, "PixelPaddingValue") is None:
        return None
    low = _stored(file, header, "PixelPaddingValue")
    limited = value(file, header, "PixelPaddingRangeLimit") is not None
    high = _stored(file, header, "PixelPaddingRangeLimit") if limited else low
    return min(low, high), max(low, high)


def _stored(file: Path, header: pydicom.Dataset, tag: str) -> int:
    """Read a value of PixelData's own type; files often write -2000 as unsigned 63536, and implicit VR leaves bytes."""
    found = value(file, header, tag)
    with one_sentence(file, "{tag} cannot be read", tag=keyword(tag)):
        number = int.from_bytes(found, "little") if isinstance(found, bytes) else int(found)
    bits = whole_number(file, header, "BitsStored")
    number %= 1 << bits
    signed = whole_number(file, header, "PixelRepresentation") == 1
    return number - (1 << bits) if signed and number >= 1 << (bits - 1) else number
