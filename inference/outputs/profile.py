"""How much of the lungs is opaque, slice by slice along the body."""

import numpy as np
from numpy.typing import NDArray

from ct.classes import ClassSet, Finding
from inference.layers import mask_of
from inference.result import Masks, Result

LEAST_AREA = 0.05  # of the largest slice's lungs: where there is less lung, a share of it says little


def profile(masks: Masks, classes: ClassSet, finding: Finding) -> NDArray[np.float64]:
    """A finding's share of the lungs in per cent: float64 (Z,), NaN where a slice has hardly any lung."""
    lung = masks["lungs"].sum(axis=(1, 2), dtype=np.int64)
    found = mask_of(masks, classes, finding.key).sum(axis=(1, 2), dtype=np.int64)
    shares = np.full(len(lung), np.nan)
    enough = (lung > 0) & (lung >= LEAST_AREA * lung.max())
    shares[enough] = 100 * found[enough] / lung[enough]
    return shares


def heights(result: Result) -> NDArray[np.float64]:
    """Centimetres of every slice above the lowest one of the lungs, or slices where they have no distance: (Z,)."""
    lung = result.masks["lungs"].sum(axis=(1, 2), dtype=np.int64) > 0
    step = result.scan.spacing_mm[0] / 10 if result.scan.spacing_known else 1.0
    return np.asarray((np.arange(len(lung)) - int(np.argmax(lung))) * step, dtype=np.float64)
