"""A layer for each class that a scan's masks show: its name, its colour and its voxels; and the truth as the same."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ct.colours import rgb_of
from ct.files.read import read_mask, read_pattern_mask
from ct.patterns import GROUPS, NAME_OF_GROUP, OPACITY_GROUPS, groups_of
from ct.scan import Scan
from inference.outputs.scan_numbers import shown_ml
from inference.overlays import colours_of
from inference.result import Masks, masks_by_group

LUNGS, GROUND_GLASS, CONSOLIDATION = GROUPS[1], OPACITY_GROUPS[0], OPACITY_GROUPS[-1]


class Layer(NamedTuple):
    """Voxels of one class.

    Attributes:
        name: As users read it.
        rgb: Its colour, 0 to 255 each.
        mask: bool (Z, Y, X) on the scan's canonical grid.
    """

    name: str
    rgb: tuple[int, int, int]
    mask: NDArray[np.bool_]


def layers_of(masks: Masks) -> list[Layer]:
    """Layers that do not overlap, the lungs apart, in the colours of the groups.

    Args:
        masks: Of a result; also a truth without lungs.
    """
    names, colours = dict(NAME_OF_GROUP), colours_of(masks)
    if "groups" not in masks:
        names[GROUND_GLASS] = "infection without consolidation" if "consolidation" in masks else "infection"
    layers = {LUNGS: masks["lungs"] > 0} if "lungs" in masks else {}
    layers |= masks_by_group(masks)
    return [Layer(names[group], rgb_of(colours[group]), np.asarray(mask)) for group, mask in layers.items()]


def read_truth(scan: Scan, patterns: Path | None, infection: Path | None, like: Masks) -> Masks:
    """What a reader drew, as the masks of a result.

    Args:
        scan: The scan.
        patterns: Mask of pattern codes, if there is one.
        infection: Mask of the infection, if there is one.
        like: Masks of a result: its truth is of the same classes.

    Returns:
        `infection` and, where patterns are known and `like` has them, `consolidation` or `groups`; empty without files.

    Raises:
        ValueError: A file cannot be used.
    """
    if patterns is None:
        return {} if infection is None else {"infection": read_mask(infection, scan) > 0}
    groups = groups_of(read_pattern_mask(patterns, scan)).clip(0).astype(np.uint8)
    truth: Masks = {"infection": np.isin(groups, OPACITY_GROUPS)}
    if "groups" in like:
        truth["groups"] = np.where(truth["infection"], groups, 0).astype(np.uint8)
    if "consolidation" in like:
        truth["consolidation"] = groups == CONSOLIDATION
    return truth


def agreement(truth: NDArray[np.bool_], prediction: NDArray[np.bool_], scan: Scan) -> str:
    """Dice of two masks (Z, Y, X) of a scan in words: a reader who drew nothing leaves it undefined."""
    true, predicted = int(truth.sum()), int(prediction.sum())
    if true:
        return f"{2 * int((truth & prediction).sum()) / (true + predicted):.2f}"
    marked = shown_ml(predicted * scan.voxel_ml) if scan.spacing_known else f"{predicted} voxels"
    return f"undefined (the reader drew none, the model {marked if predicted else 'none either'})"
