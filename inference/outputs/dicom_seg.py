"""DICOM SEG of a segmented DICOM scan: segments for the lungs, findings and lobes, on the source's own slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription, SegmentsOverlapValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ct.classes import ClassSet, Concept
from ct.colours import rgb_of
from ct.files.dicom.tags import keyword
from ct.lungs.fissure_shapes import LOBES
from ct.refusal import Sentence
from ct.scan import to_source
from inference.outputs.dicom_source import SourceSlice, source_slices
from inference.overlays import LOBE_LEGEND, all_overlays
from inference.result import Masks, ModelCard, Result

PRODUCT = "Ground Glass"
# Far above the numbers that scanners give to their own series of a study.
SERIES_NUMBER = 8001
UTF_8 = "ISO_IR 192"
LUNG = Code("39607008", "SCT", "Lung")
# Of a leaf without a concept in its class set.
OPACITY = Code("112001", "DCM", "Opacity")


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment of DICOM SEG.

    Attributes:
        label: Its name for people.
        code: Its code, SegmentedPropertyType.
        colour: "#rrggbb".
        key: Prefix of its measurements' names.
        labels: (Z, Y, X) on the scan's canonical grid; several segments may share one array.
        value: Value of its voxels in `labels`.
        in_lungs: Whether it lies inside the lungs.
    """

    label: str
    code: Code
    colour: str
    key: str
    labels: NDArray[np.bool_] | NDArray[np.int8]
    value: int
    in_lungs: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return its voxels: bool (Z, Y, X)."""
        return np.asarray(self.labels == self.value)

    @property
    def is_anatomy(self) -> bool:
        """Tell whether it is a part of the body, not a finding."""
        return self.code == LUNG or self.key in LOBES


def find_segments(masks: Masks, classes: ClassSet, lobes: NDArray[np.int8] | None = None) -> list[Segment]:
    """Turn masks into segments: the lungs, findings that share no voxel, and the lobes.

    Args:
        masks: As in `inference.result.Result`.
        classes: The model's class set.
        lobes: As in `inference.result.Result`.

    Returns:
        The lungs, then the overlays of `inference.overlays`, then the lobes where they are known.
    """
    outside = {classes.leaves[index].key for index in classes.outside}
    segments = [
        Segment(each.name, _code(each.concept), each.colour, each.key, each.mask, 1, each.key not in outside)
        for each in all_overlays(masks, classes)
    ]
    if lobes is None:
        return segments
    numbered = enumerate(LOBE_LEGEND, 1)
    return segments + [
        Segment(lobe.name, _code(lobe.concept), lobe.colour, lobe.key, lobes, number, True) for number, lobe in numbered
    ]


def _code(concept: Concept | None) -> Code:
    return OPACITY if concept is None else Code(concept.value, concept.scheme, concept.meaning)


def write_segmentation(result: Result, path: str | Path) -> tuple[Sentence, ...]:
    """Write the masks of a scan that was read from DICOM as DICOM SEG (binary, Segmentation Storage).

    Frames lie on the scan's grid, carry the patient's identity and refer to the slices (or frames) of the source.

    Args:
        result: The segmented scan, read from DICOM.
        path: The file to write.

    Returns:
        A warning if UIDs of the source could not be kept, so that an archive may not show the results with the scan.

    Raises:
        ValueError: A file of the source cannot be read any more.
    """
    slices = source_slices(result.scan)
    segments = find_segments(result.masks, result.classes, result.lobes)
    segmentation = _nested(segments)(
        source_images=[each.stand_in for each in slices],
        pixel_array=_labels(result, segments),
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(segments, result.model),
        content_label="LUNG_OPACITY",
        content_description="FLAGGED, see ImageComments" if result.flags else "Lungs and opacities",
        **new_series("segmentation", SERIES_NUMBER, result),
    )
    segmentation.SegmentsOverlap = "YES"
    segmentation.ImageComments = " ".join([*result.flags, f"Model: {result.model.card_line}."])
    _refer_to_source(segmentation, slices)
    segmentation.save_as(path)
    replaced = dict.fromkeys(tag for each in slices for tag in each.replaced)
    if not replaced:
        return ()
    return (
        Sentence(
            "{tags} of the source cannot be passed on (expected up to 64 digits and dots): segmentation.dcm and "
            "measurements.dcm carry other UIDs in their place, so an archive may not show them with the scan",
            tags=Sentence.joined(", ", [Sentence("{tag}", tag=keyword(tag)) for tag in replaced]),
        ),
    )


def new_series(kind: str, number: int, result: Result) -> dict[str, Any]:
    """Return the arguments of highdicom that make an object a series of its own and name its manufacturer.

    Args:
        kind: Its content for SeriesDescription, which also says when a result is flagged, since worklists show it.
        number: SeriesNumber.
        result: The segmented scan.
    """
    return {
        "series_instance_uid": highdicom.UID(),
        "series_number": number,
        "series_description": f"{PRODUCT} {kind}" + (" (FLAGGED: may be wrong)" if result.flags else ""),
        "sop_instance_uid": highdicom.UID(),
        "instance_number": 1,
        "manufacturer": PRODUCT,
        "manufacturer_model_name": PRODUCT,
        "software_versions": result.model.version,
        "device_serial_number": "1",
        "specific_character_set": UTF_8,
    }


def algorithm_parameters(model: ModelCard) -> dict[str, str]:
    """Return the model's identity and validation figures by name."""
    ensemble = {f"checkpoint_{n}_sha256": digest for n, digest in enumerate(model.checkpoints_sha256, start=1)}
    settings = {"task": model.task, "experiment": model.experiment, "flips": str(model.flips), "size": str(model.size)}
    return settings | ensemble | {"card": model.card_line}


def _nested(segments: Sequence[Segment]) -> type[Segmentation]:
    """Return a Segmentation class for the array of `_labels`, in which segments overlap.

    highdicom takes overlapping segments only as one array each, and sums them in 64 bits to detect the overlap: 0.8 GiB
    more for 300 slices of 512 x 512.
    """
    findings = [segment for segment in segments if segment.key not in LOBES]
    finding, lobe = np.arange(256) % (len(findings) + 1), np.arange(256) // (len(findings) + 1)
    inside = [number for number, segment in enumerate(findings, start=1) if segment.in_lungs]
    held = np.stack([np.isin(finding, inside), *(finding == number for number in range(2, len(findings) + 1))])
    held = np.concatenate([held, [lobe == number for number in range(1, len(LOBES) + 1)]]).astype(np.uint8)

    class NestedSegmentation(Segmentation):
        @classmethod
        def _check_and_cast_pixel_array(
            cls, pixel_array: Any, *_: object, **__: object
        ) -> tuple[Any, SegmentsOverlapValues]:
            return pixel_array, SegmentsOverlapValues.YES  # values are no numbers of segments, as highdicom expects

        @staticmethod
        def _get_segment_pixel_array(
            pixel_array: NDArray[Any], segment_number: int, *_: object, **__: object
        ) -> NDArray[np.uint8]:
            return np.asarray(held[segment_number - 1][pixel_array])

    return NestedSegmentation


def _labels(result: Result, segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Return uint8 (slice, row, column) in the source's order.

    1 is lung without a finding, 2.. a finding; each lobe adds its number times one more than there are of these.
    """
    findings = [segment for segment in segments if segment.key not in LOBES]
    labels = findings[0].mask.astype(np.uint8)
    for number, segment in enumerate(findings[1:], start=2):
        labels[segment.mask] = number
    if result.lobes is not None:
        labels += result.lobes.view(np.uint8) * np.uint8(len(findings) + 1)
    return to_source(labels, result.scan.source).transpose(2, 1, 0)


def _descriptions(segments: Sequence[Segment], model: ModelCard) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=PRODUCT,
        version=model.version,
        family=codes.DCM.ArtificialIntelligence,
        parameters=algorithm_parameters(model),
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=(
                codes.SCT.AnatomicalStructure if segment.is_anatomy else codes.SCT.MorphologicallyAbnormalStructure
            ),
            segmented_property_type=segment.code,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=highdicom.UID(),
            tracking_id=segment.label,
            anatomic_regions=[LUNG] if segment.in_lungs and not segment.is_anatomy else None,
            display_color=CIELabColor.from_rgb(*rgb_of(segment.colour)),
        )
        for number, segment in enumerate(segments, start=1)
    ]


def _refer_to_source(segmentation: Dataset, slices: Sequence[SourceSlice]) -> None:
    """Refer to the files and frames of the source where highdicom refers to their stand-ins."""
    slice_of = {str(each.stand_in.SOPInstanceUID): each for each in slices}
    # Frames of several segments share one item, which must be changed once only.
    items = {
        id(reference): reference
        for frame in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
        for reference in derivation.SourceImageSequence
    }
    for reference in items.values():
        source = slice_of[str(reference.ReferencedSOPInstanceUID)]
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.sop_class, source.sop_instance
        if source.frame_number is not None:
            reference.ReferencedFrameNumber = source.frame_number
    files = dict.fromkeys((each.sop_class, each.sop_instance) for each in slices)
    segmentation.SourceImageSequence = [_reference(*file) for file in files]
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_reference(*file) for file in files]


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, sop_instance
    return reference
