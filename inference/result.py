"""Result of segmenting a scan, from which every output is written."""

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

NO_CARD = "the checkpoint does not say how many scans it was trained on, nor how good it was on validation"


@dataclass(frozen=True)
class Member:
    """Training and validation of one checkpoint of a model.

    Attributes:
        training_scans: Number of training scans; None where the checkpoint does not say.
        training_patients: Number of their patients.
        training_sites: Number of their sites.
        validation_dice: By finding, the mean Dice over the validation scans that have it; None where none has it. Empty
            where the checkpoint does not say.
        validation_scans: By finding, the number of these scans.
        names: By finding, its name for people.
    """

    training_scans: int | None = None
    training_patients: int | None = None
    training_sites: int | None = None
    validation_dice: Mapping[str, float | None] = field(default_factory=dict)
    validation_scans: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """Training and validation in a line."""
        if self.training_scans is None and not self.validation_dice:
            return NO_CARD
        return f"{self._training}; validation: {', '.join(self._figures) or 'none'}"

    @property
    def _training(self) -> str:
        if self.training_scans is None:
            return "trained on an unknown number of scans"
        sites = "" if self.training_sites is None else f" of {counted(self.training_sites, 'site')}"
        return f"trained on {counted(self.training_scans, 'scan')}{sites}"

    @property
    def _figures(self) -> list[str]:
        figures = []
        for finding, dice in self.validation_dice.items():
            scans = counted(self.validation_scans.get(finding, 0), "scan")
            defined = dice is not None and math.isfinite(dice)
            figure = f"{dice:.2f} over {scans}" if defined else "undefined (no scan has it)"
            figures.append(f"{self.names.get(finding, finding)} Dice {figure}")
        return figures


@dataclass(frozen=True)
class ModelCard:
    """Identity, training and validation of the model, for every reader of an output.

    Attributes:
        task: "infection", "consolidation" or "opacity".
        experiment: Name of the experiment that trained it.
        checkpoints_sha256: A hash for each member of the ensemble.
        flips: Number of mirrored images over which predictions were averaged; 1 is the image alone.
        size: Side of the network's slices in pixels.
        version: Version of this project.
        members: Training and validation of each checkpoint, in the order of their hashes.
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
        """Training and validation of all members in a line, which every output shows."""
        if len(self.members) < 2:
            return self.members[0].line if self.members else NO_CARD
        return "; ".join(f"model {number}: {member.line}" for number, member in enumerate(self.members, 1))


@dataclass(frozen=True, eq=False)
class Result:
    """A segmented scan.

    Attributes:
        name: Its name in outputs; never taken from the source's headers.
        source: Path that the scan was read from. It may contain a patient's name: no output but the private list of
            sources repeats it.
        scan: The scan, in canonical orientation.
        masks: (Z, Y, X) on the scan's canonical grid: bool `lungs`, `infection` and, for stage 2, `consolidation`, each
            inside the one before; for the multi-class task its unions, and uint8 `groups`, indices of leaves.
        measurements: By name, with units in names; None where undefined or without a known spacing.
        lung_source: "file", "classical" or "lungmask".
        warnings: Sentences on what is odd about the scan, its lungs or its source, and on what is unknown about the
            model or its calibration.
        flags: Sentences on why the result may be wrong although nothing failed; every output shows them.
        model: The model.
        classes: The model's class set.
        lobes: int8 (Z, Y, X) on the scan's canonical grid, 0 outside the lungs, 1 .. 5 in the order of
            `ct.lungs.fissure_shapes.LOBES`; None where the lobes are unknown.
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
    lobes: NDArray[np.int8] | None = None
