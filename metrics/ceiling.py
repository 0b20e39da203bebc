"""Human ceiling, the agreement of a reader with the average of the others, and a model compared with it."""

from typing import NamedTuple

import numpy as np

from metrics.agreement import Counts, Figures, iou

CONFIDENCE = 0.95
RESAMPLES = 9999
FEWEST_SCANS = 2


class Comparison(NamedTuple):
    """A model beside the readers, each compared with the average of the other readers.

    Attributes:
        model: Mean over the readers k of IOU(model, average of all but k).
        human: Mean over the readers k of IOU(reader k, average of all but k).
        difference: model - human.
        low: Lower end of the 95 % interval of the difference; NaN with fewer than 2 scans.
        high: Its upper end.
        scans: Scans compared.
        readers: Readers in the means: those with both figures defined.
        resamples: Resamples behind the interval: those in which the difference is defined.
    """

    model: float
    human: float
    difference: float
    low: float
    high: float
    scans: int
    readers: int
    resamples: int


def human_ceiling(counts: Counts) -> tuple[float, int]:
    """Return the mean over the readers of IOU(reader, average of the others), leave-one-out.

    Args:
        counts: int64 (R, 3), `average_counts` without the reader, summed over the scans.

    Returns:
        (mean, readers for whom it is defined); NaN where it is defined for none.
    """
    figures = iou(counts)
    return float(_nan_mean(figures)), int(np.isfinite(figures).sum())


def compare_with_readers(human: Counts, model: Counts, seed: int = 0) -> Comparison:
    """Compare a model with the readers; interval by a paired percentile bootstrap over scans.

    Each resample draws whole scans with replacement, the model's and the readers' counts together, and pools them. A
    reader without a defined figure on either side is left out of both means. A dozen scans of very different size make
    the interval somewhat too narrow: in simulations it covered the truth in about 90 % of studies (BCa in no more).

    Args:
        human: int64 (S, R, 3), `average_counts` without the reader; 0 where a reader did not read a scan.
        model: int64 (S, R, 3), the same with the model in the reader's stead.
        seed: Seed of the resampling.

    Returns:
        The comparison.
    """
    scans = len(human)
    of_human, of_model = iou(human.sum(0)), iou(model.sum(0))
    defined = np.isfinite(of_human - of_model)
    low, high, resamples = np.nan, np.nan, 0
    if scans >= FEWEST_SCANS:
        draws = np.random.default_rng(seed).multinomial(scans, np.full(scans, 1 / scans), RESAMPLES)
        differences = _nan_mean(iou(np.tensordot(draws, model, 1)) - iou(np.tensordot(draws, human, 1)))
        differences = differences[np.isfinite(differences)]
        resamples = len(differences)
        if resamples:
            low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(
        float(_nan_mean(np.where(defined, of_model, np.nan))),
        float(_nan_mean(np.where(defined, of_human, np.nan))),
        float(_nan_mean(of_model - of_human)),
        float(low),
        float(high),
        scans,
        int(defined.sum()),
        resamples,
    )


def _nan_mean(figures: Figures) -> Figures:
    """Return the mean over the last axis of what is not NaN; NaN where all is, without NumPy's warning."""
    finite = np.isfinite(figures)
    number = finite.sum(-1)
    return np.where(number > 0, np.where(finite, figures, 0).sum(-1) / np.maximum(number, 1), np.nan)
