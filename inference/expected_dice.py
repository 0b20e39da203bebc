"""Overlap that a model's own probabilities promise, where no reader has drawn anything."""

import numpy as np
from numpy.typing import NDArray


def expected_dice(probability: NDArray[np.floating], found: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice of a mask against a truth that is drawn from the probabilities, as a ratio of expectations.

    With p the probability of a pixel and M the mask: 2 sum_M p / (|M| + sum p). Small and faint findings, whose
    probabilities are neither 0 nor 1, have a low one. It is the model's own opinion: it ranks answers, and is no
    estimate of the Dice of a model that is sure and wrong (Li et al., "Estimating model performance under domain shifts
    with class-specific confidence scores", MICCAI 2022).

    Args:
        probability: (..., Y, X), 0 wherever the finding cannot lie.
        found: bool (..., Y, X), the mask made of it.

    Returns:
        (...), NaN where nothing is found.
    """
    agreed = np.where(found, probability, 0).sum((-2, -1), dtype=np.float64)
    promised = probability.sum((-2, -1), dtype=np.float64)
    size = found.sum((-2, -1))
    return np.divide(2 * agreed, size + promised, out=np.full(size.shape, np.nan), where=size > 0)
