"""Findings and coloured overlays of the masks of a result, shared by all outputs."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ct.classes import LUNGS, ClassSet, Concept, Finding, Leaf
from ct.colours import LOBE_COLOURS
from ct.lungs.fissure_shapes import LOBES
from inference.result import Masks

OUTLINE = 1  # label of the lungs' outline; 0 is transparent, overlays follow


@dataclass(frozen=True)
class Lobe:
    """A lobe, for people and for DICOM.

    Attributes:
        key: Its key in measurements.
        name: Its name in legends.
        colour: "#rrggbb".
        concept: Its code.
    """

    key: str
    name: str
    colour: str
    concept: Concept


# In the order of `LOBES`.
LOBE_LEGEND = tuple(
    Lobe(key, key.replace("_", " "), colour, Concept("SCT", code, meaning))
    for key, colour, (code, meaning) in zip(
        LOBES,
        LOBE_COLOURS,
        (
            ("42400003", "Upper lobe of right lung"),
            ("72481006", "Middle lobe of right lung"),
            ("266005", "Lower lobe of right lung"),
            ("44714003", "Upper lobe of left lung"),
            ("41224006", "Lower lobe of left lung"),
        ),
        strict=True,
    )
)


@dataclass(frozen=True, eq=False)
class Overlay:
    """Voxels that outputs paint in one colour; apart from the lungs, which lie below, overlays share no voxel.

    Attributes:
        name: Its name in legends.
        colour: "#rrggbb".
        concept: Its code in DICOM objects; None where the class set has none.
        key: Prefix of its measurements' names.
        mask: bool, of the shape of the masks.
    """

    name: str
    colour: str
    concept: Concept | None
    key: str
    mask: NDArray[np.bool_]


def findings_of(masks: Masks, classes: ClassSet) -> tuple[Finding, ...]:
    """Return the findings that masks hold, the whole before its parts.

    Args:
        masks: By name, as in `inference.result.Result`.
        classes: The model's class set.
    """
    return (
        classes.multiclass_findings
        if "groups" in masks
        else tuple(finding for finding in classes.findings if finding.key in masks)
    )


def findings_in(columns: Collection[str], classes: ClassSet) -> tuple[Finding, ...]:
    """Return the findings whose volumes a table has as columns, the whole before its parts."""
    by_key = {finding.key: finding for finding in (*classes.multiclass_findings, *classes.findings)}
    return tuple(finding for key, finding in by_key.items() if f"{key}_ml" in columns)


def mask_of(masks: Masks, classes: ClassSet, key: str) -> NDArray[np.bool_]:
    """Return the mask of a finding or leaf: bool, of the shape of the masks."""
    return masks[key] > 0 if key in masks else np.isin(masks["groups"], classes.indices_of(key))


def overlays_of(masks: Masks, classes: ClassSet) -> list[Overlay]:
    """Return an overlay of each foreground leaf, or of each finding without the next one nested inside it.

    Args:
        masks: As for `findings_of`, or one plane of each.
        classes: As for `findings_of`.
    """
    if "groups" in masks:
        return [_overlay(classes.leaves[index], masks["groups"] == index) for index in classes.foreground]
    nested = findings_of(masks, classes)
    rings = [
        _overlay(_without(outer, inner, classes), (masks[outer.key] > 0) & (masks[inner.key] == 0))
        for outer, inner in pairwise(nested)
    ]
    return [*rings, *(_overlay(finding, masks[finding.key] > 0) for finding in nested[-1:])]


def _without(outer: Finding, inner: Finding, classes: ClassSet) -> Leaf:
    """Return the leaf that remains of a finding without another one inside it."""
    (remaining,) = set(classes.indices_of(outer.key)) - set(classes.indices_of(inner.key))
    return classes.leaves[remaining]


def _overlay(finding: Leaf | Finding, mask: NDArray[np.bool_]) -> Overlay:
    return Overlay(finding.name, finding.colour, finding.concept, finding.key, mask)


def lungs_overlay(masks: Masks, classes: ClassSet) -> Overlay:
    """Return the overlay of the lungs, which lies below the others."""
    return _overlay(classes.leaves[classes.indices_of(LUNGS)[0]], masks["lungs"] > 0)


def all_overlays(masks: Masks, classes: ClassSet) -> list[Overlay]:
    """Return the lungs, where masks have them, and `overlays_of` the masks."""
    return [*([lungs_overlay(masks, classes)] if LUNGS in masks else []), *overlays_of(masks, classes)]


def label_map(masks: Masks, classes: ClassSet, plane: tuple[Any, ...]) -> NDArray[np.uint8]:
    """Return the label map of one plane of a scan: 0 is transparent, 1 the outline of the lungs, 2.. the overlays.

    Args:
        masks: (Z, Y, X) by name, of a `Result`.
        classes: As for `findings_of`.
        plane: The index of the plane into (Z, Y, X): an integer and two slices.

    Returns:
        uint8 (rows, columns).
    """
    lung = masks["lungs"][plane] > 0
    labels = (lung & ~ndimage.binary_erosion(lung)).astype(np.uint8) * OUTLINE
    planes = {name: mask[plane] for name, mask in masks.items()}
    for label, overlay in enumerate(overlays_of(planes, classes), start=OUTLINE + 1):
        labels[overlay.mask] = label
    return labels


def legend_of(masks: Masks, classes: ClassSet) -> list[tuple[str, str]]:
    """Return name and colour of each label of a label map, from 1 on."""
    voxel = {name: mask[:1, :1, :1] for name, mask in masks.items()}  # names and colours need no more
    outline = lungs_overlay(voxel, classes).colour
    return [("outline of the lungs", outline), *((each.name, each.colour) for each in overlays_of(voxel, classes))]
