"""DICOM structured report (TID 1500) of a scan's measurements, beside its DICOM SEG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import highdicom
import pydicom
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import HIGHEST, HIGHEST_OF_LOBE, SUM
from inference.outputs.dicom_seg import LUNG, PRODUCT, Segment, algorithm_parameters, find_segments, new_series
from inference.result import ModelCard, Result

SERIES_NUMBER = 8002
CT_OF_CHEST = Code("169069000", "SCT", "CT of chest")
QUALITATIVE = Code("C0034375", "UMLS", "Qualitative Evaluations")
MILLILITRE = Code("ml", "UCUM", "milliliter")
SCHEME = "99GRGLASS"
SCHEME_ITEM = CodingSchemeIdentificationItem(
    designator=SCHEME, name="Concepts of the Ground Glass software", responsible_organization=PRODUCT
)
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
DENSITIES: dict[str, tuple[Code, Code]] = {
    "haa_percent": (Code("haa_percent", SCHEME, "High attenuation areas, -600 to -250 HU"), codes.UCUM.Percent),
    "laa_950_percent": (Code("laa_950_percent", SCHEME, "Low attenuation areas, below -950 HU"), codes.UCUM.Percent),
    "percentile_15_hu": (Code("percentile_15_hu", SCHEME, "15th percentile of HU"), HOUNSFIELD),
}


def _with_ends(key: str, concept: str, name: str, highest: int) -> dict[str, tuple[Code, Code]]:
    """Return by their keys the codes and units of a score and of both ends of its interval.

    Args:
        key: Key of the score.
        concept: Value of its code.
        name: What it scores.
        highest: The highest score.
    """
    ends = {"": f"0 to {highest}", "_low": "lower end of the 90 % interval", "_high": "upper end of the 90 % interval"}
    return {
        f"{key}{end}": (Code(f"{concept}{end}", SCHEME, f"{name}, {meaning}"), codes.UCUM.NoUnits)
        for end, meaning in ends.items()
    }


# Measurements of the whole lungs by key. No public coding scheme has these concepts.
LUNG_MEASUREMENTS: dict[str, tuple[Code, Code]] = {
    "infection_ml": (Code("infection_ml", SCHEME, "Volume of infected lung"), MILLILITRE),
    "severity_score": (Code("severity_score", SCHEME, "Infected share of the lung volume"), codes.UCUM.NoUnits),
    "consolidation_score": (
        Code("consolidation_score", SCHEME, "Consolidated share of the lung volume"),
        codes.UCUM.NoUnits,
    ),
    "wal_percent": (Code("wal_percent", SCHEME, "Well-aerated lung"), codes.UCUM.Percent),
    **_with_ends(SUM, SUM, "CT severity score", HIGHEST[SUM]),
    **{f"lung_{key}": each for key, each in DENSITIES.items()},
}
# Measurements of a lobe, by key without that of the lobe.
LOBE_MEASUREMENTS: dict[str, tuple[Code, Code]] = {
    "infection_ml": (Code("infection_ml", SCHEME, "Volume of infected lung"), MILLILITRE),
    "infection_share": (Code("infection_share", SCHEME, "Infected share of the lobe's volume"), codes.UCUM.NoUnits),
    **_with_ends("score", "lobe_score", "CT severity score of the lobe", HIGHEST_OF_LOBE),
    **DENSITIES,
}


def write_measurements_report(result: Result, segmentation_path: str | Path, path: str | Path) -> None:
    """Write the measurements of a scan as Comprehensive SR, template TID 1500.

    A group for each segment holds its volume; that of the lungs also holds the infected volume and the scores.
    Undefined values are left out. Flags are texts among the qualitative evaluations. Patient, study and references are
    those of the segmentation.

    Args:
        result: The segmented scan.
        segmentation_path: Its DICOM SEG, by `inference.outputs.dicom_seg.write_segmentation`.
        path: The file to write.
    """
    segmentation = pydicom.dcmread(segmentation_path, stop_before_pixels=True)
    report = MeasurementReport(
        observation_context=_observer(result.model),
        procedure_reported=CT_OF_CHEST,
        imaging_measurements=list(_groups(result, segmentation)),
        title=codes.DCM.ImagingMeasurementReport,
    )
    if result.flags:
        report[0].ContentSequence.append(_flags(result.flags))
    structured = ComprehensiveSR(
        evidence=[segmentation, *_sources(segmentation)],
        content=report[0],
        is_complete=True,
        coding_schemes=[SCHEME_ITEM],
        **new_series("measurements", SERIES_NUMBER, result),
    )
    structured.save_as(path)


def _groups(result: Result, segmentation: Dataset) -> Iterator[VolumetricROIMeasurementsAndQualitativeEvaluations]:
    series = segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID
    segments = find_segments(result.masks, result.classes, result.lobes)
    for segment, item in zip(segments, segmentation.SegmentSequence, strict=True):
        measurements = list(_measurements(result, segment))
        if not measurements:
            continue
        yield VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=item.TrackingUID, identifier=item.TrackingID),
            referenced_segment=ReferencedSegment(
                segmentation.SOPClassUID,
                segmentation.SOPInstanceUID,
                int(item.SegmentNumber),
                source_series=SourceSeriesForSegmentation(series),
            ),
            finding_type=segment.code,
            finding_sites=[FindingSite(LUNG)] if segment.in_lungs and segment.key not in LOBES else None,
            algorithm_id=_algorithm(result.model),
            measurements=measurements,
        )


def _measurements(result: Result, segment: Segment) -> Iterator[Measurement]:
    if result.scan.spacing_known:
        yield Measurement(codes.SCT.Volume, int(segment.mask.sum()) * result.scan.voxel_ml, MILLILITRE)
    concepts = LUNG_MEASUREMENTS if segment.code == LUNG else {}
    if segment.key in LOBES:
        concepts = {f"{segment.key}_{key}": concept for key, concept in LOBE_MEASUREMENTS.items()}
    for key, (name, unit) in concepts.items():
        value = result.measurements.get(key)
        if value is not None:
            yield Measurement(name, value, unit)


def _algorithm(model: ModelCard) -> AlgorithmIdentification:
    parameters = [f"{name}: {value}" for name, value in algorithm_parameters(model).items()]
    return AlgorithmIdentification(name=PRODUCT, version=model.version, parameters=parameters)


def _observer(model: ModelCard) -> ObservationContext:
    # Each version of the software is one observer, with one UID everywhere.
    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[PRODUCT, model.version]), name=PRODUCT, model_name=PRODUCT
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _flags(flags: Sequence[str]) -> ContainerContentItem:
    container = ContainerContentItem(name=CodedConcept.from_code(QUALITATIVE), relationship_type=CONTAINS)
    texts = [TextContentItem(CodedConcept.from_code(codes.DCM.Comment), flag.strip(), CONTAINS) for flag in flags]
    container.ContentSequence = highdicom.sr.ContentSequence(texts)
    return container


CONTAINS = RelationshipTypeValues.CONTAINS


def _sources(segmentation: Dataset) -> Iterator[Dataset]:
    """Yield the source's files with the tags that evidence needs."""
    for series in segmentation.ReferencedSeriesSequence:
        for reference in series.ReferencedInstanceSequence:
            source = Dataset()
            source.StudyInstanceUID, source.SeriesInstanceUID = segmentation.StudyInstanceUID, series.SeriesInstanceUID
            source.SOPClassUID = reference.ReferencedSOPClassUID
            source.SOPInstanceUID = reference.ReferencedSOPInstanceUID
            yield source
