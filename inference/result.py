"""What is known of a scan once it is segmented: every output is written from this."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct.patterns import OPACITY_GROUPS
from ct.scan import Scan

Masks = dict[str, NDArray[np.bool_] | NDArray[np.uint8]]
Measurements = dict[str, float | None]


@dataclass(frozen=True)
class ModelCard:
    """Which model answered, for whoever reads the output later.

    Attributes:
        task: "infection", "consolidation" or "opacity".
        experiment: Name of the experiment that trained it.
        checkpoints_sha256: One for each member of the ensemble.
        flips: Flips of the image over which predictions were averaged too; 1 is none.
        size: Pixels of a side of the slices that the network sees.
        version: Of this project.
    """

    task: str
    experiment: str
    checkpoints_sha256: tuple[str, ...]
    flips: int
    size: int
    version: str


@dataclass(frozen=True, eq=False)
class Result:
    """A segmented scan.

    Attributes:
        name: What outputs call it; never taken from the source's headers.
        source: Where the scan was read from. It may bear a patient's name: no output but the private list of sources
            repeats it.
        scan: The scan, in canonical orientation.
        masks: (Z, Y, X) on the scan's canonical grid: bool `lungs`, `infection` and, for stage 2, `consolidation`, each
            inside the one before; for the multi-class task uint8 `groups` (codes of `ct.patterns.GROUPS`).
        measurements: By name, units in names; None where it is undefined or needs an unknown spacing.
        lung_source: "file", "classical" or "lungmask".
        warnings: What is odd about the lungs, a sentence each.
        flags: Why the result may be wrong although nothing failed, a sentence each; every output shows them.
        model: The model.
    """

    name: str
    source: Path
    scan: Scan
    masks: Masks
    measurements: Mapping[str, float | None]
    lung_source: str
    warnings: tuple[str, ...]
    flags: tuple[str, ...]
    model: ModelCard


def masks_by_group(masks: Masks) -> dict[int, NDArray[np.bool_]]:
    """What was found as groups of `ct.patterns` that share no voxel: what outputs fill, each in its group's colour.

    Args:
        masks: As in `Result`, or one plane of each.

    Returns:
        bool by group: the groups 2 to 4; or infection as the first of them, without consolidation, which is the last.
    """
    if "groups" in masks:
        return {group: masks["groups"] == group for group in OPACITY_GROUPS}
    infection = masks["infection"] > 0
    if "consolidation" not in masks:
        return {OPACITY_GROUPS[0]: infection}
    dense = masks["consolidation"] > 0
    return {OPACITY_GROUPS[0]: infection & ~dense, OPACITY_GROUPS[-1]: dense}
