"""Frames of a DICOM CT file, plain or enhanced multi-frame, and their place in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from ct.files.dicom.acquisitions import FUNCTIONAL_GROUPS, Traits, traits_of
from ct.files.dicom.tags import PLAIN_SYNTAXES, Tags, keyword, one_sentence
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
        unit_is_open: Whether the header says that the unit of the values is unspecified.
        traits: What the header says of the acquisition, see `ct.files.dicom.acquisitions`.
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


def frames_of(header: Tags) -> list[Frame]:
    """Find the frames of one CT file.

    Args:
        header: The tags of the file.

    Returns:
        One frame for a plain CT slice, all frames of an enhanced one.

    Raises:
        ValueError: Not grey CT pixels in Hounsfield units with a place in the patient, or a header that cannot be true.
    """
    _check_pixels(header)
    shared = header.items("SharedFunctionalGroupsSequence")
    per_frame = header.items("PerFrameFunctionalGroupsSequence")
    count = 1 if header.value("NumberOfFrames") is None else header.whole_number("NumberOfFrames")
    if count != (len(per_frame) or 1):
        raise Refusal(
            "{file}: holds {count} frames but the places of {places} (PerFrameFunctionalGroupsSequence); "
            "expected one for each; export it as enhanced CT or as one file per slice",
            file=header.file,
            count=count,
            places=len(per_frame),
        )
    _check_size(header, count)
    groups = [[item] for item in per_frame] or [[]]
    common = _traits([header], shared)
    return [
        _frame(index, header, [*group, *shared, header], common | _traits([], group))
        for index, group in enumerate(groups)
    ]


def _traits(plain: Sequence[Tags], grouped: Sequence[Tags]) -> dict[str, str]:
    """Return the traits that stand at the top of some datasets and in the functional groups of others."""
    items = [item for tags in grouped for group in FUNCTIONAL_GROUPS for item in tags.items(group)]
    return traits_of(tags.dataset for tags in (*plain, *items))


def _check_pixels(header: Tags) -> None:
    """Refuse pixels whose meaning is not plainly grey = HU."""
    photometric = "".join(header.words("PhotometricInterpretation")) or "missing"
    if photometric != "MONOCHROME2" or header.whole_number("SamplesPerPixel") != 1:
        raise Refusal(
            "{file}: PhotometricInterpretation is {photometric}; expected MONOCHROME2 with one sample per "
            "pixel, as CT has (readers disagree on inverting others); export it as plain CT",
            file=header.file,
            photometric=photometric,
        )
    allocated, stored = (header.whole_number(tag) for tag in ("BitsAllocated", "BitsStored"))
    high = stored - 1 if header.value("HighBit") is None else header.whole_number("HighBit")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1:
        raise Refusal(
            "{file}: BitsAllocated, BitsStored and HighBit are {allocated}, {stored} and {high}; expected "
            "for example 16, 12 and 11; export it again",
            file=header.file,
            allocated=allocated,
            stored=stored,
            high=high,
        )


def _check_size(header: Tags, count: int) -> None:
    """Refuse a header that promises more pixels than the file can hold, before any array of that size is made."""
    rows, columns = (header.whole_number(tag) for tag in ("Rows", "Columns"))
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
        raise Refusal(
            "{file}: Rows and Columns are {rows} and {columns}; expected 1..{most}; export it again",
            file=header.file,
            rows=rows,
            columns=columns,
            most=MAX_SIDE,
        )
    capacity = header.file.stat().st_size * (1 if _syntax(header) in NATIVE else MAX_COMPRESSION)
    needed = rows * columns * count * header.whole_number("BitsAllocated") // 8
    if needed > capacity:
        raise Refusal(
            "{file}: {count} x {rows} x {columns} pixels need {needed} bytes but the file can hold {capacity}; "
            "it is cut off or damaged; export it again",
            file=header.file,
            count=count,
            rows=rows,
            columns=columns,
            needed=needed,
            capacity=capacity,
        )


def _syntax(header: Tags) -> str:
    with one_sentence(header.file, "TransferSyntaxUID cannot be read"):
        return str(header.dataset.file_meta.TransferSyntaxUID)


def _frame(index: int, header: Tags, levels: Sequence[Tags], traits: Traits) -> Frame:
    """Read one frame, whose tags stand at several levels: its own item, the shared one, the top of the file."""

    def numbers(tag: str, count: int) -> npt.NDArray[np.float64]:
        return _level_of(tag, levels).numbers(tag, count)

    unit = _checked_unit(header, levels)
    frame = Frame(
        file=header.file,
        index=index,
        rows=header.whole_number("Rows"),
        columns=header.whole_number("Columns"),
        position_mm=numbers("ImagePositionPatient", 3),
        vectors=numbers("ImageOrientationPatient", 6).reshape(2, 3),
        spacing_mm=numbers("PixelSpacing", 2),
        slope=float(numbers("RescaleSlope", 1)[0]),
        intercept=float(numbers("RescaleIntercept", 1)[0]),
        padding=_padding(header),
        image_type=_level_of("FrameType", levels).words("FrameType") or header.words("ImageType"),
        needs_gdcm=_syntax(header) not in DECODED_BY_PYDICOM,
        unit_is_open=unit in UNSPECIFIED,
        traits=traits,
    )
    _check_geometry(frame, header)
    return frame


def _level_of(tag: str, levels: Sequence[Tags]) -> Tags:
    """Return the first level that holds a tag of a frame; the last, which is the top of the file, where none does."""
    for level in levels[:-1]:
        for item in level.items(MACROS[tag]):
            if item.value(tag) is not None:
                return item
    return levels[-1]


def _checked_unit(header: Tags, levels: Sequence[Tags]) -> str:
    """Return RescaleType, "" where it is missing; refuse what cannot be HU."""
    unit = "".join(_level_of("RescaleType", levels).words("RescaleType"))
    # In CT the tag may be left out where the unit is HU, and only there (PS3.3, C.8.2.1). ITK and GDCM write US
    # ("unspecified") beside HU: for single CT images the checks of values decide. Enhanced CT names its unit.
    accepted = ("HU", "", *(UNSPECIFIED if "NumberOfFrames" not in header else ()))
    if unit not in accepted:
        raise Refusal(
            "{file}: RescaleType is {unit!r}; expected 'HU'; export it in Hounsfield units", file=header.file, unit=unit
        )
    return unit


def _check_geometry(frame: Frame, header: Tags) -> None:
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
    if header.value("GantryDetectorTilt") is not None:
        tilt = float(header.numbers("GantryDetectorTilt", 1)[0])
    if abs(tilt) > MAX_TILT_TAG_DEGREES:
        raise Refusal(
            "{file}: GantryDetectorTilt is {tilt:g} degrees; expected 0 (a tilted gantry shears the stack); "
            "resample the series to upright slices first",
            file=frame.file,
            tilt=tilt,
        )


def _padding(header: Tags) -> tuple[int, int] | None:
    if header.value("PixelPaddingValue") is None:
        return None
    low = _stored(header, "PixelPaddingValue")
    limited = header.value("PixelPaddingRangeLimit") is not None
    high = _stored(header, "PixelPaddingRangeLimit") if limited else low
    return min(low, high), max(low, high)


def _stored(header: Tags, tag: str) -> int:
    """Read a value of PixelData's own type; files often write -2000 as unsigned 63536, and implicit VR leaves bytes."""
    value = header.value(tag)
    with one_sentence(header.file, "{tag} cannot be read", tag=keyword(tag)):
        number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
    bits = header.whole_number("BitsStored")
    number %= 1 << bits
    signed = header.whole_number("PixelRepresentation") == 1
    return number - (1 << bits) if signed and number >= 1 << (bits - 1) else number
