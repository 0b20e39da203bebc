"""What is known of a scan once it is segmented: every output is written from this."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct.classes import ClassSet
from ct.refusal import Sentence
from ct.scan import Scan
from pages.page import counted

Masks = dict[str, NDArray[np.bool_] | NDArray[np.uint8]]
Measurements = dict[str, float | None]


NOT_SAID = "the checkpoint does not say how many scans it was trained on, nor how good it was on validation"


@dataclass(frozen=True)
class Member:
    """What a checkpoint says of how a model came about and how good it is.

    Attributes:
        training_scans: Scans that it was trained on; None where the checkpoint does not say.
        training_patients: Patients of these.
        training_sites: Sites of these.
        validation_dice: By finding, the mean Dice over the validation scans that have it; None where none has it. Empty
            where the checkpoint does not say.
        validation_scans: By finding, how many these are.
        names: What people call these findings.
    """

    training_scans: int | None = None
    training_patients: int | None = None
    training_sites: int | None = None
    validation_dice: Mapping[str, float | None] = field(default_factory=dict)
    validation_scans: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """How it came about and how good it is, in a line."""
        if self.training_scans is None and not self.validation_dice:
            return NOT_SAID
        return f"{self._training}; validation: {', '.join(self._figures) or 'none'}"

    @property
    def _training(self) -> str:
        if self.training_scans is None:
            return "trained on an unknown number of scans"
        sites = "" if self.training_sites is None else f" of {counted(self.training_sites, 'site')}"
        return f"trained on {counted(self.training_scans, 'scan')}{sites}"

    @property
    def _figures(self) -> list[str]:
        shown = []
        for finding, dice in self.validation_dice.items():
            scans = counted(self.validation_scans.get(finding, 0), "scan")
            known = dice is not None and math.isfinite(dice)
            figure = f"{dice:.2f} over {scans}" if known else "undefined (no scan has it)"
            shown.append(f"{self.names.get(finding, finding)} Dice {figure}")
        return shown


@dataclass(frozen=True)
class ModelCard:
    """Which model answered, for whoever reads the output later, and how good it is.

    Attributes:
        task: "infection", "consolidation" or "opacity".
        experiment: Name of the experiment that trained it.
        checkpoints_sha256: One for each member of the ensemble.
        flips: Flips of the image over which predictions were averaged too; 1 is none.
        size: Pixels of a side of the slices that the network sees.
        version: Of this project.
        members: What each checkpoint says of its training and validation, in the order of their hashes.
    """

    task: str
    experiment: str
    checkpoints_sha256: tuple[str, ...]
    flips: int
    size: int
    version: str
    members: tuple[Member, ...] = ()

    @property
    def card_line(self) -> str:
        """How good the model is and what it was trained on, in a line: every output shows it."""
        if len(self.members) < 2:
            return self.members[0].line if self.members else NOT_SAID
        return "; ".join(f"model {number}: {member.line}" for number, member in enumerate(self.members, 1))


@dataclass(frozen=True, eq=False)
class Result:
    """A segmented scan.

    Attributes:
        name: What outputs call it; never taken from the source's headers.
        source: Where the scan was read from. It may bear a patient's name: no output but the private list of sources
            repeats it.
        scan: The scan, in canonical orientation.
        masks: (Z, Y, X) on the scan's canonical grid: bool `lungs`, `infection` and, for stage 2, `consolidation`, each
            inside the one before; for the multi-class task its unions, and uint8 `groups`, indices of leaves.
        measurements: By name, units in names; None where it is undefined or needs an unknown spacing.
        lung_source: "file", "classical" or "lungmask".
        warnings: What is odd about the lungs, and what nobody knows of the model, a sentence each.
        flags: Why the result may be wrong although nothing failed, a sentence each; every output shows them.
        model: The model.
        classes: What the model looks for.
    """

    name: str
    source: Path
    scan: Scan
    masks: Masks
    measurements: Mapping[str, float | None]
    lung_source: str
    warnings: tuple[Sentence, ...]
    flags: tuple[str, ...]
    model: ModelCard
    classes: ClassSet
