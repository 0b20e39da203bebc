"""Series of DICOM files, and the rules that choose the one chest CT volume among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ct.files.dicom.acquisitions import find_mixture, listed_tags
from ct.files.dicom.frames import Frame, frames_of
from ct.files.dicom.tags import Tags, read_dataset
from ct.refusal import Refusal, Sentence, Word, sentence_of, word_of

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
CHEST_WORDS = ("CHEST", "THORA", "LUNG")
PLANES = ("sagittal", "coronal", "axial")
SAME_PLACE_MM = 1e-3
# Values of Modality beside CT, and of colours in PhotometricInterpretation, that may be public.
# fmt: off
MODALITIES = (
    "CR", "DX", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "REG",
    "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SC", "SEG", "SR", "US", "XA",
)
# fmt: on
COLOURS = ("PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Longer lists are cut, with a count of what is not shown.
MAX_LISTED = 12

LOCALIZER = Sentence("localizer")
OPEN_UNIT = Sentence("RescaleType says that the unit is unspecified (US); the values were taken for HU and checked")


@dataclass(eq=False)
class Series:
    """The files of one series.

    Attributes:
        number: SeriesNumber, for people.
        description: SeriesDescription, for people.
        patient: PatientID, only compared, never shown.
        body_part: BodyPartExamined in capitals.
        example: One file, relative to the folder.
        frames: Its CT slices.
        others: Number of files that are no CT slice, by what they are.
        notes: What was assumed while reading the headers.
        problem: Why frames cannot be read; None if all can.
        broken: Number of slices that cannot be read, where 2 stands for the unknown number in a multi-frame file.
        acquisition: Which of several mixed acquisitions it is, and by which tags they differ; None for a whole
            series.
    """

    number: str
    description: str
    patient: str
    body_part: str
    example: str
    frames: list[Frame] = field(default_factory=list)
    others: Counter[Sentence] = field(default_factory=Counter)
    notes: set[Sentence] = field(default_factory=set)
    problem: Sentence | None = None
    broken: int = 0
    acquisition: Sentence | None = None

    @property
    def plane(self) -> str:
        """Return axial, coronal, sagittal or "" (unknown), by the axis that is nearest to the slices' normal."""
        if not self.frames:
            return ""
        normal = np.cross(*self.frames[0].vectors)
        return PLANES[int(np.abs(normal).argmax())]

    @property
    def places(self) -> list[float]:
        """Return the sorted distinct places of the slices along their normal, mm."""
        along = sorted(self._along)
        return along[:1] + [b for a, b in pairwise(along) if b - a > SAME_PLACE_MM]

    @property
    def place_of_frames(self) -> list[int]:
        """Return for each slice the index of its place in `places`."""
        starts = np.array(self.places)
        return [int(np.searchsorted(starts, at, side="right")) - 1 for at in self._along]

    @property
    def _along(self) -> list[float]:
        normal = np.cross(*self.frames[0].vectors) if self.frames else np.zeros(3)
        return [float(frame.position_mm @ normal) for frame in self.frames]

    @property
    def is_volume(self) -> bool:
        """Return whether it holds CT slices at two places or more; slices that cannot be read count as places."""
        return len(self.places) + self.broken > 1

    @property
    def described(self) -> Sentence:
        """Return a line for lists: number, description, slices, spacing, an example file."""
        contents = [Sentence("{count} x {kind}", kind=kind, count=count) for kind, count in sorted(self.others.items())]
        if self.problem:
            contents.append(Sentence("CT slices that cannot be read"))
        elif self.frames:
            places, plane = self.places, word_of(self.plane, PLANES)
            template = "{count} {plane} CT slices" if len(self.frames) > 1 else "{count} {plane} CT slice"
            contents.append(Sentence(template, count=len(self.frames), plane=plane))
            spacing = Sentence("{step:.2f} mm apart", step=np.median(np.diff(places))) if len(places) > 1 else None
            contents.append(spacing or Sentence("at one place"))
        return Sentence(
            "series {number} {description!r}{acquisition} ({slices}, for example {example})",
            number=int(self.number) if self.number.isdecimal() else self.number or Word("?"),
            description=self.description[:60],
            acquisition=Sentence(", {which}", which=self.acquisition) if self.acquisition else Sentence(""),
            slices=Sentence.joined(", ", contents),
            example=self.example,
        )


def read_series(path: Path, files: Iterable[Path]) -> list[Series]:
    """Read the headers of files and group them by SeriesInstanceUID, and by acquisition where a series mixes several.

    Args:
        path: The source, for relative names.
        files: DICOM files.

    Returns:
        The series in the order of their first file.

    Raises:
        ValueError: A file cannot be read.
    """
    series_of_uid: dict[str, Series] = {}
    for file in files:
        header = Tags(file, read_dataset(file))
        uid = header.text("SeriesInstanceUID")
        if uid not in series_of_uid:
            number, description, patient = map(header.text, ("SeriesNumber", "SeriesDescription", "PatientID"))
            body_part = " ".join(header.words("BodyPartExamined"))
            series_of_uid[uid] = Series(number, description, patient, body_part, _relative(path, file))
        _add(series_of_uid[uid], header)
    return [part for series in series_of_uid.values() for part in _acquisitions(path, series)]


def _relative(path: Path, file: Path) -> str:
    return file.name if file == path else str(file.relative_to(path))


def _acquisitions(path: Path, series: Series) -> list[Series]:
    """Take a series apart whose slices belong to several acquisitions in turn, each a series of its own."""
    place_of = series.place_of_frames
    first_at = {place: frame for frame, place in reversed(list(zip(series.frames, place_of, strict=True)))}
    mixture = find_mixture([first_at[place].traits for place in sorted(first_at)])
    if series.problem or mixture is None:
        return [series]
    parts = []
    for number in range(mixture.count):
        frames = [f for f, place in zip(series.frames, place_of, strict=True) if place % mixture.count == number]
        template = "acquisition {number} of {count} by {tags}"
        acquisition = Sentence(template, number=number + 1, count=mixture.count, tags=listed_tags(mixture.tags))
        patient = frames[0].traits.get("PatientID", series.patient)
        example = _relative(path, frames[0].file)
        part = replace(series, patient=patient, example=example, frames=frames, acquisition=acquisition)
        parts += _acquisitions(path, part)
    return parts


def _add(series: Series, header: Tags) -> None:
    kind = _other_kind(header)
    if kind:
        series.others[kind] += 1
        return
    if not header.text("Modality"):
        series.notes.add(Sentence("Modality is missing; SOPClassUID says CT"))
    try:
        frames = frames_of(header)
    except ValueError as error:
        series.problem = series.problem or sentence_of(error)
        series.broken += 2 if "NumberOfFrames" in header else 1
        return
    if any(frame.unit_is_open for frame in frames):
        series.notes.add(OPEN_UNIT)
    for frame in frames:
        if "LOCALIZER" in frame.image_type:
            series.others[LOCALIZER] += 1
        else:
            series.frames.append(frame)


def _other_kind(header: Tags) -> Sentence | None:
    """Say what a file is if it is no CT slice; None if it is one."""
    meta = Tags(header.file, header.dataset.file_meta)
    sop_class = header.text("SOPClassUID") or meta.text("MediaStorageSOPClassUID")
    modality = header.text("Modality").upper()
    has_image = header.text("Rows") != ""
    if not (sop_class or modality) or (sop_class in CT_CLASSES and not has_image):
        raise Refusal(
            "{file}: not a readable DICOM file (its tags end before Rows or SOPClassUID); it is cut off or "
            "damaged, so a slice may be lost; export it again",
            file=header.file,
        )
    name = UID(sop_class).name
    image_type = header.words("ImageType")
    colours = "".join(header.words("PhotometricInterpretation"))
    description = f"{name} {header.text('SeriesDescription')} {' '.join(image_type)}".lower()
    if any(word in description for word in ("dose report", "dose sr storage", "dose_info")):
        return Sentence("dose report")
    if "secondary capture" in name.lower() or "SCREEN SAVE" in image_type:
        return Sentence("secondary capture")
    if modality not in ("", "CT"):
        return Sentence("{modality} object (Modality)", modality=word_of(modality, MODALITIES))
    if not modality and sop_class not in CT_CLASSES:
        return Sentence("object whose Modality is missing")
    if colours != "" and not colours.startswith("MONOCHROME"):
        return Sentence("{colours} colour image", colours=word_of(colours, COLOURS))
    if "LOCALIZER" in image_type:
        return LOCALIZER
    return None if has_image else Sentence("object without an image")


def choose_series(path: Path, series: list[Series]) -> tuple[Series, tuple[Sentence, ...]]:
    """Choose the chest CT volume by the rules of `ct.files.dicom.volume.read_dicom`.

    Args:
        path: The source, for errors.
        series: All its series.

    Returns:
        The series, and a sentence for each thing that was left out.

    Raises:
        ValueError: None is a CT volume, more than one could be meant, or the one that is meant cannot be read.
    """
    candidates = [candidate for candidate in series if candidate.is_volume]
    if not candidates:
        raise Refusal.of(_not_a_volume(path, series))
    patients = len({candidate.patient for candidate in candidates})
    for rule in RULES if patients == 1 else ():
        candidates = [candidate for candidate in candidates if rule(candidate, candidates)]
    if len(candidates) > 1:
        mixed = any(candidate.acquisition for candidate in candidates)
        raise Refusal(
            "{path}: {count} CT volumes of {patients} patient{s} could be meant: {listed}; expected one; {advice}",
            path=path,
            count=len(candidates),
            patients=patients,
            s=Word("s" if patients > 1 else ""),
            listed=_listed(candidates),
            advice=Word(
                "export each acquisition as a series of its own, or only the wanted one"
                if mixed
                else "put the wanted series into a folder of its own"
            ),
        )
    chosen = candidates[0]
    if chosen.problem:
        raise Refusal.of(chosen.problem)
    rest = [other for other in series if other is not chosen]
    repairs = sorted(chosen.notes)
    if rest:
        repairs.append(Sentence("{series} was chosen; left out: {rest}", series=chosen.described, rest=_listed(rest)))
    template = "{count} x {kind} in the series left out"
    repairs += [Sentence(template, count=count, kind=kind) for kind, count in sorted(chosen.others.items())]
    return chosen, tuple(repairs)


def _not_a_volume(path: Path, series: list[Series]) -> Sentence:
    problems = [candidate.problem for candidate in series if candidate.problem]
    if problems:
        return problems[0]
    if len(series) == 1 and len(series[0].frames) == 1 and not series[0].others:
        return Sentence(
            "{path}: holds one slice{expected} a volume of at least two slices at different places; give the folder "
            "that holds the whole series",
            path=path,
            expected=Word(" whose Modality is missing; expected 'CT' and" if series[0].notes else "; expected"),
        )
    return Sentence(
        "{path}: is not a CT volume: found {listed}; expected at least two CT slices of one series at different places",
        path=path,
        listed=_listed(series),
    )


def _listed(series: list[Series]) -> Sentence:
    listed = Sentence.joined(", ", [listed.described for listed in series[:MAX_LISTED]])
    more = len(series) - MAX_LISTED
    return Sentence("{listed} and {more} more", listed=listed, more=more) if more > 0 else listed


def _keeps_chest(series: Series, candidates: list[Series]) -> bool:
    def names_chest(candidate: Series) -> bool:
        return any(word in candidate.body_part for word in CHEST_WORDS)

    return names_chest(series) or not series.body_part or not any(map(names_chest, candidates))


def _keeps_axial(series: Series, candidates: list[Series]) -> bool:
    return series.plane in ("", "axial") or all(candidate.plane != "axial" for candidate in candidates)


def _keeps_original(series: Series, candidates: list[Series]) -> bool:
    def origin(candidate: Series) -> str:
        return candidate.frames[0].image_type[0] if candidate.frames and candidate.frames[0].image_type else ""

    return origin(series) != "DERIVED" or all(origin(candidate) != "ORIGINAL" for candidate in candidates)


# A rule keeps what it cannot judge, so that a series is only left out for a reason that its own tags give.
RULES: tuple[Callable[[Series, list[Series]], bool], ...] = (_keeps_chest, _keeps_axial, _keeps_original)
