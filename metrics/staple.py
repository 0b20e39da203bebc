"""STAPLE: consensus of readers, weighted by their agreement with it (SimpleITK's implementations).

Warfield, Zou and Wells, IEEE TMI 2004; for several labels Rohlfing, Russakoff and Maurer, IEEE TMI 2004. Neither knows
where a pixel lies, so any selection of pixels can be given; which pixels are given matters, since a wide empty
background makes every reader specific. With two readers the consensus is barely determined.
"""

from typing import Any, NamedTuple

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from ct.classes import UNLABELLED

sitk: Any = SimpleITK  # its annotations are incomplete
# Readers who agree at all converge within a few dozen iterations; SimpleITK's own limit is never.
MAX_ITERATIONS = 1000
_UNDECIDED = 255


class Consensus(NamedTuple):
    """A binary consensus.

    Attributes:
        probability: float64 (...), that the pixel is truly positive.
        sensitivity: float64 (R,), of each reader against the consensus; NaN where nobody calls anything.
        specificity: float64 (R,), likewise; NaN where everybody calls everything.
        converged: False if `MAX_ITERATIONS` ended the estimation.
    """

    probability: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    converged: bool


def staple(positive: NDArray[np.bool_]) -> Consensus:
    """Compute STAPLE of binary maps.

    Args:
        positive: bool (R, ...), pixels that all R readers labelled.

    Returns:
        The consensus; where all readers call nothing, or everything, it is their common map.
    """
    readers = len(positive)
    if not positive.any() or positive.all():
        # SimpleITK returns NaN everywhere here: without both kinds of pixels its prior is 0 or 1.
        sensitivity = np.full(readers, 1.0 if positive.any() else np.nan)
        specificity = np.full(readers, np.nan if positive.all() else 1.0)
        return Consensus(positive[0].astype(np.float64), sensitivity, specificity, True)
    estimator = sitk.STAPLEImageFilter()
    estimator.SetForegroundValue(1)
    estimator.SetMaximumIterations(MAX_ITERATIONS)
    probability = sitk.GetArrayFromImage(estimator.Execute(_images(positive)))
    return Consensus(
        probability.reshape(positive.shape[1:]),
        np.array(estimator.GetSensitivity()),
        np.array(estimator.GetSpecificity()),
        estimator.GetElapsedIterations() < MAX_ITERATIONS,
    )


def multi_label_staple(groups: NDArray[np.int8]) -> NDArray[np.int8]:
    """Compute multi-label STAPLE of group maps.

    Args:
        groups: int8 (R, ...) group codes 0..4, pixels that all R readers labelled.

    Returns:
        int8 (...), the consensus group, -1 where two groups are equally probable.
    """
    if groups[0].size == 0:
        return groups[0]
    estimator = sitk.MultiLabelSTAPLEImageFilter()
    estimator.SetLabelForUndecidedPixels(_UNDECIDED)
    estimator.SetMaximumNumberOfIterations(MAX_ITERATIONS)
    label = sitk.GetArrayFromImage(estimator.Execute(_images(groups))).reshape(groups.shape[1:])
    return np.where(label == _UNDECIDED, UNLABELLED, label).astype(np.int8)


def _images(maps: NDArray[np.generic]) -> list[Any]:
    assert maps.min() >= 0, "STAPLE takes pixels that every reader labelled"
    return [sitk.GetImageFromArray(groups.reshape(1, -1).astype(np.uint8)) for groups in maps]
