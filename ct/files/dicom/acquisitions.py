"""Acquisitions mixed within one DICOM series, recognised by tags whose values alternate along the stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag, Tag

from ct.refusal import Sentence, word_of

Traits = Mapping[str, str]

# The tube current follows the body, and can alternate by itself; it cannot show more acquisitions than this.
MODULATED_TAGS = (
    "XRayTubeCurrent",
    "XRayTubeCurrentInmA",
    "ExposureTime",
    "ExposureTimeInms",
    "Exposure",
    "ExposureInmAs",
)
MOST_BY_MODULATED_TAGS = 3
# Tags in which acquisitions, phases and reconstructions differ. Numbers and times may grow within an acquisition: they
# separate acquisitions where all values of one lie before all of the next.
GROWING_TAGS = (
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "FrameAcquisitionNumber",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
)
CONSTANT_TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "SeriesTime",
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionUID",
    "IrradiationEventUID",
    "AcquisitionDate",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
    "ImageType",
    "FrameType",
    "ImageComments",
    "FrameComments",
    "DerivationDescription",
    "ConvolutionKernel",
    "FilterType",
    "ReconstructionDiameter",
    "SliceThickness",
    "KVP",
    *MODULATED_TAGS,
    "RevolutionTime",
    "SpiralPitchFactor",
    "ScanOptions",
    "AcquisitionType",
    "ContrastBolusAgent",
    "ContrastBolusAgentPhase",
    "ContrastBolusStartTime",
    "PatientPosition",
    "TableHeight",
)
# Where enhanced files keep these tags (PS3.3, C.7.6.16.2 and C.8.15.3).
FUNCTIONAL_GROUPS = (
    "FrameContentSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "IrradiationEventIdentificationSequence",
    "CTImageFrameTypeSequence",
    "CTAcquisitionTypeSequence",
    "CTAcquisitionDetailsSequence",
    "CTTableDynamicsSequence",
    "CTReconstructionSequence",
    "CTExposureSequence",
    "CTXRayDetailsSequence",
    "ContrastBolusUsageSequence",
    "PixelMeasuresSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)
MAX_LISTED = 4

_NAMES: dict[BaseTag, str] = {Tag(tag_for_keyword(name) or 0): name for name in (*GROWING_TAGS, *CONSTANT_TAGS)}


@dataclass(frozen=True)
class Mixture:
    """Several acquisitions in one series, whose slices alternate.

    Attributes:
        count: Number of acquisitions; slices k, k + count, k + 2 count ... along the stack are one of them.
        tags: The tags in which they differ.
    """

    count: int
    tags: tuple[str, ...]


def traits_of(datasets: Iterable[pydicom.Dataset]) -> dict[str, str]:
    """Return the tags that describe an acquisition, as stored: nothing is converted, for speed and for odd values.

    Args:
        datasets: The header of a slice, or the items of functional groups that hold for a frame.

    Returns:
        The text of each tag that is present, for comparing only.
    """
    traits = {}
    for dataset in datasets:
        for tag in dataset.keys() & _NAMES.keys():
            element = dataset.get_item(tag)
            stored = "" if element is None else element.value
            text = stored.decode("latin-1") if isinstance(stored, bytes) else str(stored)
            traits[_NAMES[tag]] = text.strip(" \0")
    return traits


def find_mixture(traits: Sequence[Traits]) -> Mixture | None:
    """Find out whether slices of several acquisitions alternate.

    A tag that merely differs proves nothing: it may grow from slice to slice, change from block to block or follow the
    body. Acquisitions are mixed where every k-th slice belongs together: a tag has one value in all slices of a group
    and another in each other group, or it grows and the ranges of the groups do not overlap.

    Args:
        traits: The traits of one slice for each place, sorted along the stack.

    Returns:
        The mixture, or None for slices of one acquisition.
    """
    counts = {}
    for name in dict.fromkeys(name for slice_traits in traits for name in slice_traits):
        values = [slice_traits.get(name, "") for slice_traits in traits]
        if len(set(values)) > 1:
            most = MOST_BY_MODULATED_TAGS if name in MODULATED_TAGS else len(values)
            counts[name] = _alternating(values, name in GROWING_TAGS, most)
    mixed = [count for count in counts.values() if count]
    if not mixed:
        return None
    return Mixture(min(mixed), tuple(name for name in _NAMES.values() if counts.get(name) == min(mixed)))


def differing_tags(first: Traits, second: Traits) -> tuple[str, ...]:
    """Return the names of the tags in which two slices differ."""
    return tuple(name for name in _NAMES.values() if first.get(name) != second.get(name))


def listed_tags(tags: Sequence[str]) -> Sentence:
    """Return names of tags as a sentence lists them; long lists are cut."""
    listed = Sentence.joined(", ", [Sentence("{tag}", tag=word_of(tag, _NAMES.values())) for tag in tags[:MAX_LISTED]])
    more = len(tags) - MAX_LISTED
    return Sentence("{listed} and {more} more tags", listed=listed, more=more) if more > 0 else listed


def _alternating(values: Sequence[str], growing: bool, most: int) -> int:
    """Return the smallest k for which every k-th value belongs together and apart from the others, 0 for none."""
    most = min(most, len(values) // 2)
    numbers = _numbers(values)
    distinct = len(np.unique(numbers))
    for count in range(2, most + 1) if growing else range(max(2, distinct), min(distinct, most) + 1):
        # The last row is completed from the one before, so that every column holds the values of one group.
        rest = numbers[len(numbers) - count :][: -len(numbers) % count]
        table = np.concatenate([numbers, rest]).reshape(-1, count)
        low, high = table.min(axis=0), table.max(axis=0)
        order = np.argsort(low)
        if (high[order][:-1] < low[order][1:]).all() and (growing or np.array_equal(low, high)):
            return count
    return 0


def _numbers(values: Sequence[str]) -> npt.NDArray[np.float64]:
    try:
        numbers = np.array(values, dtype=np.float64)
    except ValueError:
        numbers = np.array([np.nan])
    # Other values are ordered as text, which fits dates and times of one format.
    return numbers if np.isfinite(numbers).all() else np.unique(values, return_inverse=True)[1].astype(np.float64)
