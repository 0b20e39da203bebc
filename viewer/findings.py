"""Layers of a result and of what a reader drew, and how well both agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct.classes import LUNGS, ClassSet
from ct.files.read import read_mask, read_pattern_mask
from ct.scan import Scan
from inference.layers import Layer, layers_of, lungs_of
from inference.outputs.scan_numbers import shown_ml
from inference.result import Masks


def all_layers(masks: Masks, classes: ClassSet) -> list[Layer]:
    """Return the lungs, where a truth has them, and the layers of `inference.layers`."""
    return [*([lungs_of(masks, classes)] if LUNGS in masks else []), *layers_of(masks, classes)]


def read_truth(scan: Scan, patterns: Path | None, infection: Path | None, like: Masks, classes: ClassSet) -> Masks:
    """What a reader drew, as the masks of a result.

    Args:
        scan: The scan.
        patterns: Mask of pattern codes, if there is one.
        infection: Mask of the infection, if there is one.
        like: Masks of a result: its truth has the same.
        classes: What they show.

    Returns:
        `infection` and, where patterns are known and `like` has them, `consolidation` or `groups`; empty without files.

    Raises:
        ValueError: A file cannot be used.
    """
    if patterns is None:
        return {} if infection is None else {"infection": read_mask(infection, scan) > 0}
    codes = read_pattern_mask(patterns, scan, classes=classes)
    truth: Masks = {each.key: classes.shows(each.key, codes) > 0 for each in classes.findings if each.key in like}
    if "groups" in like:
        leaves = classes.leaves_of(codes)
        truth["groups"] = np.where(np.isin(leaves, classes.sought), leaves, 0).astype(np.uint8)
    return truth


def agreement(truth: NDArray[np.bool_], prediction: NDArray[np.bool_], scan: Scan) -> str:
    """Dice of two masks (Z, Y, X) of a scan in words: a reader who drew nothing leaves it undefined."""
    true, predicted = int(truth.sum()), int(prediction.sum())
    if true:
        return f"{2 * int((truth & prediction).sum()) / (true + predicted):.2f}"
    marked = shown_ml(predicted * scan.voxel_ml) if scan.spacing_known else f"{predicted} voxels"
    return f"undefined (the reader drew none, the model {marked if predicted else 'none either'})"
