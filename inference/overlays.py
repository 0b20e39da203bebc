"""What outputs draw over the CT: which voxels, under which name, in which colour."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ct.colours import COLOUR_OF, COLOUR_OF_GROUP
from ct.patterns import NAME_OF_GROUP, OPACITY_GROUPS
from inference.result import Masks, masks_by_group

LUNGS, GLASS, DENSE = 1, OPACITY_GROUPS[0], OPACITY_GROUPS[-1]  # groups of paper L3
PARTS = ("infection", "consolidation")  # masks, each inside the one before


@dataclass(frozen=True)
class Finding:
    """Something that is measured.

    Attributes:
        key: What its measurements' names begin with.
        name: What people call it.
        colour: "#rrggbb".
    """

    key: str
    name: str
    colour: str


GROUPED = [Finding(f"group_{group}", NAME_OF_GROUP[group], COLOUR_OF_GROUP[group]) for group in OPACITY_GROUPS]
ALL_GROUPS = Finding("infection", "all opacities", COLOUR_OF["infection"])
NESTED = [Finding(name, name, COLOUR_OF[name]) for name in PARTS]


def findings_of(masks: Masks) -> list[Finding]:
    """What was looked for, the whole before its parts."""
    return [ALL_GROUPS, *GROUPED] if "groups" in masks else [one for one in NESTED if one.key in masks]


def findings_in(columns: Collection[str]) -> list[Finding]:
    """The findings whose volumes a table has as columns, the whole before its parts."""
    grouped = any(f"{one.key}_ml" in columns for one in GROUPED)
    return [one for one in ([ALL_GROUPS, *GROUPED] if grouped else NESTED) if f"{one.key}_ml" in columns]


def layers_of(masks: Masks) -> dict[int, str]:
    """What `labels` shows: the name of each group that occurs in it as a colour."""
    if "groups" in masks:
        return {LUNGS: "outline of the lungs"} | {group: NAME_OF_GROUP[group] for group in OPACITY_GROUPS}
    if "consolidation" in masks:
        return {LUNGS: "outline of the lungs", GLASS: "infection without consolidation", DENSE: "consolidation"}
    return {LUNGS: "outline of the lungs", GLASS: "infection"}


def labels(masks: Masks, plane: tuple[Any, ...]) -> NDArray[np.uint8]:
    """One plane of a scan as groups: 0 is left free, 1 the outline of the lungs, the others are filled.

    Args:
        masks: (Z, Y, X) by name, of a `Result`.
        plane: The index of a plane, with one number and slices.

    Returns:
        uint8 (rows, columns).
    """
    lung = masks["lungs"][plane] > 0
    shown = (lung & ~ndimage.binary_erosion(lung)).astype(np.uint8)
    for group, mask in masks_by_group({name: mask[plane] for name, mask in masks.items()}).items():
        shown[mask] = group
    return shown


def colours_of(masks: Masks) -> dict[int, str]:
    """The colour of each group of `labels`, "#rrggbb": the first is the infection where groups are not told apart."""
    return COLOUR_OF_GROUP if "groups" in masks else COLOUR_OF_GROUP | {GLASS: COLOUR_OF["infection"]}
