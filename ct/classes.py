"""Class sets: names, colours, codes, report terms and parts of what is looked for in a scan, in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ct.colours import BESIDE_CLASSES, PALETTE
from ct.refusal import Refusal, Sentence, Word, word_of
from ct.report_terms import ReportTerm, read_report_term, report_term
from machine.package import PROJECT

FOLDER = PROJECT / "experiments" / "classes"
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
UNLABELLED = -1
# A prepared mask holds a code in 8 bits; 255 of an 8-bit file is -1.
MOST_CODE = 127
LUNGS, INFECTION, CONSOLIDATION = "lungs", "infection", "consolidation"


@dataclass(frozen=True)
class Concept:
    """A coded concept, as DICOM objects name what a segment shows.

    Attributes:
        scheme: Coding scheme, such as SCT (SNOMED CT) or DCM.
        value: Code value.
        meaning: Code meaning.
    """

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Leaf:
    """A class of a voxel; no voxel has two.

    Attributes:
        key: What the names of its figures and measurements begin with.
        name: What people call it.
        codes: The codes of masks that belong to it, and the name of each.
        colour: "#rrggbb".
        in_lungs: Whether it lies inside the lungs; a leaf outside is looked for outside alone.
        concept: What it is in DICOM objects; None for what is no finding.
        reported_as: The terms that radiology reports have for it. They say nothing of voxels, so class sets that differ
            in them alone are equal: one that was stored before there were any is still that of its model.
    """

    key: str
    name: str
    codes: Mapping[int, str]
    colour: str
    in_lungs: bool = True
    concept: Concept | None = None
    reported_as: tuple[ReportTerm, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Finding:
    """A union of leaves that is measured, reported and judged as one.

    Attributes:
        key: What the names of its measurements begin with.
        name: What people call it.
        leaves: Keys of its leaves.
        colour: "#rrggbb".
        figures: What the names of its figures in metrics.json begin with.
        concept: What it is in DICOM objects.
    """

    key: str
    name: str
    leaves: tuple[str, ...]
    colour: str
    figures: str
    concept: Concept | None = None


@dataclass(frozen=True)
class ClassSet:
    """Leaves in the order of a network's channels, and findings, each inside those before it or beside them.

    Attributes:
        name: The name of its file.
        leaves: Background first, then the lungs, then what is looked for.
        findings: Outermost first.
    """

    name: str
    leaves: tuple[Leaf, ...]
    findings: tuple[Finding, ...]

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """The index of every leaf, as label maps of leaves hold it."""
        return tuple(range(len(self.leaves)))

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """Every code that a mask may hold but -1, in ascending order."""
        return tuple(sorted(code for leaf in self.leaves for code in leaf.codes))

    @cached_property
    def name_of_code(self) -> dict[int, str]:
        """The name of every code, -1 included."""
        return {UNLABELLED: "unlabelled"} | {code: name for leaf in self.leaves for code, name in leaf.codes.items()}

    @cached_property
    def opacities(self) -> tuple[int, ...]:
        """Indices of the leaves that belong to the outermost finding."""
        return self.indices_of(self.findings[0].key)

    @cached_property
    def foreground(self) -> tuple[int, ...]:
        """Indices of the leaves that belong to any finding."""
        keys = {key for finding in self.findings for key in finding.leaves}
        return tuple(index for index, leaf in enumerate(self.leaves) if leaf.key in keys)

    @cached_property
    def multiclass_findings(self) -> tuple[Finding, ...]:
        """What a model that tells the leaves apart reports: the unions of several, then each leaf of a finding."""
        unions = (finding for finding in self.findings if len(finding.leaves) > 1)
        leaves = (self.leaves[index] for index in self.foreground)
        single = (Finding(leaf.key, leaf.name, (leaf.key,), leaf.colour, leaf.key, leaf.concept) for leaf in leaves)
        return (*unions, *single)

    @property
    def outside(self) -> tuple[int, ...]:
        """Indices of the leaves that are looked for outside the lungs."""
        return tuple(index for index in self.foreground if not self.leaves[index].in_lungs)

    @property
    def reading(self) -> str:
        """Hash of what masks are read as: sets of one hash can share prepared scans."""
        infected = self.codes_of(INFECTION) if self.has(INFECTION) else ()
        return hashlib.sha256(repr((self.codes, infected)).encode()).hexdigest()[:8]

    @property
    def digest(self) -> str:
        """Hash of the codes of the leaves in their order: the name for what is derived from maps of leaves."""
        return hashlib.sha256(repr([sorted(leaf.codes) for leaf in self.leaves]).encode()).hexdigest()[:8]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every leaf and finding, and the keys of figures."""
        figures = (finding.figures for finding in self.findings)
        return (*(leaf.name for leaf in self.leaves), *(finding.name for finding in self.findings), *figures)

    @cached_property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Keys of the leaves of every finding, by its key and that of its figures, and of every leaf itself."""
        members: dict[str, tuple[str, ...]] = {leaf.key: (leaf.key,) for leaf in self.leaves}
        return members | {key: union.leaves for union in self.findings for key in (union.figures, union.key)}

    @cached_property
    def unions(self) -> dict[str, tuple[int, ...]]:
        """Indices of the leaves of all that a scan as a whole can be said to have: findings, then their leaves."""
        leaves = (self.leaves[index].key for index in self.foreground)
        return {key: self.indices_of(key) for key in (*(finding.key for finding in self.findings), *leaves)}

    def atoms(self, keys: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Return what a mask tells apart that draws some findings or leaves only: for every leaf, those like it.

        Args:
            keys: What it draws; keys of `members`. KeyError for another.
        """
        drawn = [set(self.indices_of(key)) for key in keys]
        place = [tuple(index in union for union in drawn) for index in self.indices]
        return tuple(tuple(other for other in self.indices if place[other] == place[index]) for index in self.indices)

    def name_of(self, key: str) -> str:
        """Return what people call a finding or leaf; a key of figures alone is its own name."""
        names = {leaf.key: leaf.name for leaf in self.leaves} | {union.key: union.name for union in self.findings}
        return names.get(key, key.replace("_", " "))

    def has(self, key: str) -> bool:
        """Tell whether there is a finding of a key."""
        return any(finding.key == key for finding in self.findings)

    def finding(self, key: str) -> Finding:
        """Return a finding by its key; KeyError where there is none."""
        return {finding.key: finding for finding in self.findings}[key]

    def indices_of(self, key: str) -> tuple[int, ...]:
        """Return the indices of the leaves of a key of `members`; KeyError where there is none."""
        return tuple(index for index, leaf in enumerate(self.leaves) if leaf.key in self.members[key])

    def codes_of(self, key: str) -> tuple[int, ...]:
        """Return the codes of a finding or leaf, in ascending order; KeyError where there is neither."""
        return tuple(sorted(code for index in self.indices_of(key) for code in self.leaves[index].codes))

    def terms_of(self, key: str) -> tuple[tuple[ReportTerm, ...], ...]:
        """Return the report terms of each leaf of a finding or leaf; KeyError where there is neither."""
        return tuple(self.leaves[index].reported_as for index in self.indices_of(key))

    def leaves_of(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
        """Turn codes into indices of leaves.

        Args:
            codes: Integers of any shape.

        Returns:
            int8 of the same shape; -1 where unlabelled.

        Raises:
            ValueError: A code is of no leaf.
        """
        index_of = {code: index for index, leaf in enumerate(self.leaves) for code in leaf.codes}
        return self._look_up(codes, index_of)

    def mask_of(self, key: str, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
        """Mark the codes of a finding or leaf as 1, -1 as -1 and all others as 0; as `leaves_of` otherwise."""
        marked = set(self.codes_of(key))
        return self._look_up(codes, {code: int(code in marked) for code in self.codes})

    def check_codes(self, codes: npt.NDArray[np.integer]) -> None:
        """Check that every code is one of this set, or -1.

        Raises:
            ValueError: A code is of no leaf.
        """
        self._look_up(codes, dict.fromkeys(self.codes, 0))

    def _look_up(self, codes: npt.NDArray[np.integer], value_of: Mapping[int, int]) -> npt.NDArray[np.int8]:
        no_code = np.iinfo(np.int8).min
        table = np.full(MOST_CODE - UNLABELLED + 1, no_code, dtype=np.int8)
        table[0] = UNLABELLED
        for code, value in value_of.items():
            table[code - UNLABELLED] = value
        in_table = not codes.size or (codes.min() >= UNLABELLED and codes.max() <= MOST_CODE)
        values = table[codes.astype(np.int16) - UNLABELLED] if in_table else np.full(1, no_code)
        if (values == no_code).any():
            raise Refusal(
                "found pattern codes from {lowest} to {highest}; expected the codes of the class set {name}: -1 "
                "(unlabelled) and {codes}",
                lowest=codes.min(),
                highest=codes.max(),
                name=word_of(self.name, NAMES),
                codes=Sentence.joined(", ", [Sentence("{code}", code=code) for code in self.codes]),
            )
        return values

    def plain(self) -> dict[str, Any]:
        """Return the set as plain values, for files that hold nothing else."""
        return {
            "name": self.name,
            "leaves": list(map(asdict, self.leaves)),
            "findings": list(map(asdict, self.findings)),
        }


def class_set(values: Mapping[str, Any]) -> ClassSet:
    """Make a class set of plain values, as `ClassSet.plain` gives them."""
    leaves = (
        Leaf(**{**leaf, "codes": _names(leaf["codes"]), "concept": _concept(leaf), "reported_as": _terms(leaf)})
        for leaf in values["leaves"]
    )
    findings = (
        Finding(**{**finding, "leaves": tuple(finding["leaves"]), "concept": _concept(finding)})
        for finding in values["findings"]
    )
    return ClassSet(values["name"], tuple(leaves), tuple(findings))


def _names(codes: Mapping[Any, str]) -> dict[int, str]:
    return {int(code): str(name) for code, name in codes.items()}


def _concept(values: Mapping[str, Any]) -> Concept | None:
    concept = values.get("concept")
    return Concept(**{key: str(value) for key, value in concept.items()}) if concept else None


def _terms(leaf: Mapping[str, Any]) -> tuple[ReportTerm, ...]:
    return tuple(map(report_term, leaf.get("reported_as", ())))


def read_class_set(place: str | Path) -> ClassSet:
    """Read a class set.

    Args:
        place: The name of a file of experiments/classes/, or the path of another one.

    Raises:
        ValueError: There is no such file, or it is no class set.
    """
    path = Path(place) if Path(place).suffix else FOLDER / f"{place}.yaml"
    if not path.is_file():
        raise Refusal(
            "{file}: no such class set; expected {names}, or the path of a file like those of experiments/classes",
            file=path,
            names=Word(", ".join(NAMES)),
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        leaves = [_with_terms(_with_colour(leaf, path), path) for leaf in content["leaves"]]
        findings = [{"figures": finding["key"], **_with_colour(finding, path)} for finding in content["findings"]]
        classes = class_set({"name": path.stem, "leaves": leaves, "findings": findings})
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            "{file}: no class set ({error}); expected leaves and findings as in experiments/classes/l3.yaml",
            file=path,
            error=error,
        ) from error
    _check(classes, path)
    return classes


def _with_colour(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    colour = values["colour"]
    if colour not in PALETTE:
        raise Refusal(
            "{file}: {colour} is no colour of the palette; expected one of {names}, which people with every kind of "
            "colour vision tell apart",
            file=path,
            colour=str(colour),
            names=Word(", ".join(PALETTE)),
        )
    return {**values, "colour": PALETTE[colour]}


def _with_terms(leaf: Mapping[str, Any], path: Path) -> dict[str, Any]:
    terms = leaf.get("reported_as", [])
    if not isinstance(terms, list):
        text = "{file}: reported_as is {terms}; expected a list of report terms, such as [ground_glass]"
        raise Refusal(text, file=path, terms=str(terms))
    return {**leaf, "reported_as": [asdict(read_report_term(term, path)) for term in terms]}


def _check(classes: ClassSet, path: Path) -> None:
    """Check that leaves exclude each other and findings are made of them."""
    keys = [leaf.key for leaf in classes.leaves]
    codes = [code for leaf in classes.leaves for code in leaf.codes]
    lacking = sorted({key for finding in classes.findings for key in finding.leaves} - set(keys))
    defects = {
        "the first leaf is not background or the second not lungs": keys[:2] != ["background", LUNGS],
        "two leaves or findings have one key": _repeats(keys) or _repeats([f.key for f in classes.findings]),
        "two leaves have one code": _repeats(codes),
        "a code is not within 0..127": any(not 0 <= code <= MOST_CODE for code in codes),
        "a finding has a leaf that is not listed": bool(lacking),
        "there is no finding, or one without a leaf": not classes.findings
        or not all(f.leaves for f in classes.findings),
    }
    for defect, present in defects.items():
        if present:
            text = "{file}: {defect}; expected leaves and findings as in experiments/classes/l3.yaml"
            raise Refusal(text, file=path, defect=word_of(defect, defects))


def _repeats(values: Sequence[Any]) -> bool:
    return len(set(values)) < len(values)


def _colours(classes: ClassSet) -> dict[str, str]:
    of_findings = {name: finding.colour for finding in classes.findings for name in (finding.key, finding.figures)}
    return {leaf.key: leaf.colour for leaf in classes.leaves} | of_findings


EM, L3 = (read_class_set(name) for name in ("em", "l3"))
# Those of the papers first: where two sets give one key different colours or report terms, the first one holds.
CLASS_SETS = (EM, L3, *(read_class_set(name) for name in NAMES if name not in ("em", "l3")))
# One colour for one thing: of every class set of the project, and of what is drawn beside classes.
COLOUR_OF: dict[str, str] = {
    key: colour for classes in reversed(CLASS_SETS) for key, colour in _colours(classes).items()
} | BESIDE_CLASSES
