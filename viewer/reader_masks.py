"""Masks of a reader in the classes of a result, their overlays and their agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct.classes import ClassSet
from ct.files.read import read_mask, read_pattern_mask
from ct.scan import Scan
from inference.outputs.scan_numbers import shown_ml
from inference.result import Masks


def read_truth(scan: Scan, patterns: Path | None, infection: Path | None, like: Masks, classes: ClassSet) -> Masks:
    """Read the masks of a reader in the classes of a result.

    Args:
        scan: The scan.
        patterns: Mask of pattern codes, if there is one.
        infection: Mask of the infection, if there is one.
        like: The masks of the result.
        classes: The model's class set.

    Returns:
        `infection` and, where patterns are known and `like` has them, `consolidation` or `groups`; empty without files.

    Raises:
        ValueError: A file cannot be used.
    """
    if patterns is None:
        return {} if infection is None else {"infection": read_mask(infection, scan) > 0}
    codes = read_pattern_mask(patterns, scan, classes=classes)
    findings = [finding.key for finding in classes.findings if finding.key in like]
    truth: Masks = {key: classes.mask_of(key, codes) > 0 for key in findings}
    if "groups" in like:
        leaves = classes.leaves_of(codes)
        truth["groups"] = np.where(np.isin(leaves, classes.foreground), leaves, 0).astype(np.uint8)
    return truth


def agreement(truth: NDArray[np.bool_], prediction: NDArray[np.bool_], scan: Scan) -> str:
    """Return the Dice of two masks (Z, Y, X) of a scan as text; an empty mask of the reader leaves it undefined."""
    true, predicted = int(truth.sum()), int(prediction.sum())
    if true:
        return f"{2 * int((truth & prediction).sum()) / (true + predicted):.2f}"
    volume = shown_ml(predicted * scan.voxel_ml) if scan.spacing_known else f"{predicted} voxels"
    return f"undefined (the reader drew none, the model {volume if predicted else 'none either'})"
