"""Masks of a result as findings and as layers: the one way from voxels to what people are told of them."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ct.classes import LUNGS, ClassSet, Concept, Finding, Leaf
from inference.result import Masks

OUTLINE = 1  # of a label map; 0 is left free, what is filled begins behind it


@dataclass(frozen=True, eq=False)
class Layer:
    """Voxels that outputs fill in one colour; no voxel is in two layers.

    Attributes:
        name: What people call it.
        colour: "#rrggbb".
        concept: What it is in DICOM objects; None where nobody coded it.
        key: What the names of its measurements begin with; a layer that is not measured has none.
        mask: bool, of the shape of the masks.
    """

    name: str
    colour: str
    concept: Concept | None
    key: str
    mask: NDArray[np.bool_]


def findings_of(masks: Masks, classes: ClassSet) -> tuple[Finding, ...]:
    """Return what was looked for, the whole before its parts.

    Args:
        masks: By name, as in `inference.result.Result`.
        classes: What their classes are.
    """
    return classes.told_apart if "groups" in masks else tuple(each for each in classes.findings if each.key in masks)


def findings_in(columns: Collection[str], classes: ClassSet) -> tuple[Finding, ...]:
    """Return the findings whose volumes a table has as columns, the whole before its parts."""
    keys = {each.key: each for each in (*classes.told_apart, *classes.findings)}
    return tuple(finding for key, finding in keys.items() if f"{key}_ml" in columns)


def mask_of(masks: Masks, classes: ClassSet, key: str) -> NDArray[np.bool_]:
    """Return where a finding or leaf is: bool, of the shape of the masks."""
    return masks[key] > 0 if key in masks else np.isin(masks["groups"], classes.indices_of(key))


def layers_of(masks: Masks, classes: ClassSet) -> list[Layer]:
    """Return what outputs fill: the leaves that are looked for, or each finding without the next inside it.

    Args:
        masks: As for `findings_of`, or one plane of each.
        classes: As for `findings_of`.
    """
    if "groups" in masks:
        return [_layer(classes.leaves[index], masks["groups"] == index) for index in classes.sought]
    nested = findings_of(masks, classes)
    rings = [
        _layer(_without(outer, inner, classes), (masks[outer.key] > 0) & (masks[inner.key] == 0))
        for outer, inner in pairwise(nested)
    ]
    return [*rings, *(_layer(finding, masks[finding.key] > 0) for finding in nested[-1:])]


def _without(outer: Finding, inner: Finding, classes: ClassSet) -> Leaf:
    """Return the leaf that is left of a finding without another one inside it."""
    (left,) = set(classes.indices_of(outer.key)) - set(classes.indices_of(inner.key))
    return classes.leaves[left]


def _layer(shown: Leaf | Finding, mask: NDArray[np.bool_]) -> Layer:
    return Layer(shown.name, shown.colour, shown.concept, shown.key, mask)


def lungs_of(masks: Masks, classes: ClassSet) -> Layer:
    """Return the lungs as a layer that lies below the others."""
    return _layer(classes.leaves[classes.indices_of(LUNGS)[0]], masks["lungs"] > 0)


def label_map(masks: Masks, classes: ClassSet, plane: tuple[Any, ...]) -> NDArray[np.uint8]:
    """Return one plane of a scan as numbers: 0 is left free, 1 the outline of the lungs, from 2 on the layers.

    Args:
        masks: (Z, Y, X) by name, of a `Result`.
        classes: As for `findings_of`.
        plane: The index of a plane, with one number and slices.

    Returns:
        uint8 (rows, columns).
    """
    lung = masks["lungs"][plane] > 0
    numbers = (lung & ~ndimage.binary_erosion(lung)).astype(np.uint8) * OUTLINE
    cut = {name: mask[plane] for name, mask in masks.items()}
    for number, layer in enumerate(layers_of(cut, classes), start=OUTLINE + 1):
        numbers[layer.mask] = number
    return numbers


def legend_of(masks: Masks, classes: ClassSet) -> list[tuple[str, str]]:
    """Return name and colour of what a label map shows, from 1 on."""
    lungs, *layers = lungs_of(masks, classes), *layers_of(_cornerstone(masks), classes)
    return [("outline of the lungs", lungs.colour), *((layer.name, layer.colour) for layer in layers)]


def _cornerstone(masks: Masks) -> Masks:
    """One voxel of each mask: names and colours do not depend on more."""
    return {name: mask[:1, :1, :1] for name, mask in masks.items()}
