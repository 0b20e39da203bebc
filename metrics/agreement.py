"""Agreement of readers (paper L3, section 3): votes, maps and overlap counts of several readers' group maps.

Every function takes the maps (R, ...) of R readers of the same pixels, whatever the trailing shape: a slice, a scan,
several slices. Counts add up over slices and scans; figures are views of the sums. A pixel that a reader left
unlabelled (-1) counts nowhere for that reader. What is undefined is NaN, never 0 or 1.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ct.classes import L3, UNLABELLED

Groups = NDArray[np.int8]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Figures = NDArray[np.float64]


class Calls(NamedTuple):
    """Labels of each reader for one finding.

    Attributes:
        positive: bool (R, ...), the reader calls the finding; False where the pixel is unlabelled.
        labelled: bool (R, ...), the reader labelled the pixel.
    """

    positive: Bools
    labelled: Bools


class Disagreement(NamedTuple):
    """Sums over the contested pixels: labelled by two readers or more, of whom at least one calls them opaque.

    Divided by `pixels` they are shares and the mean entropy.

    Attributes:
        pixels: Number of contested pixels.
        agreed: Number of those that all readers call opaque.
        agreed_group: Number of those to which all readers give the same group.
        entropy: Sum of their entropy in nats.
    """

    pixels: int
    agreed: int
    agreed_group: int
    entropy: float


def calls_of(groups: Groups, finding: Collection[int] = L3.opacities) -> Calls:
    """Return the calls of a finding by each reader.

    Args:
        groups: int8 (R, ...) group codes -1..4.
        finding: Group codes of the finding; by default opacity, groups 2 to 4.
    """
    return Calls(np.isin(groups, list(finding)), groups != UNLABELLED)


def overlap_counts(first: Bools, second: Bools, counted: Bools) -> Counts:
    """Return int64 (3,): pixels of both maps, of the first and of the second, among the counted pixels."""
    first, second = first & counted, second & counted
    return np.array([np.count_nonzero(first & second), np.count_nonzero(first), np.count_nonzero(second)], np.int64)


def iou(counts: Counts) -> Figures:
    """Return the intersection over union of counts (..., 3), float64 (...).

    Unlike `metrics.overlap.iou` it is symmetric, since no reader is the truth: NaN only where neither calls anything.
    """
    both = counts[..., 0]
    return _ratio(both, counts[..., 1] + counts[..., 2] - both)


def relative_volume(counts: Counts) -> Figures:
    """Return RV of paper L3, first over second volume, of counts (..., 3); NaN where the second is empty."""
    return _ratio(counts[..., 1], counts[..., 2])


def _ratio(numerator: Counts, denominator: Counts) -> Figures:
    ratio = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def pairwise_counts(calls: Calls) -> Counts:
    """Return int64 (R, R, 3): `overlap_counts` of each pair of readers over the pixels that both labelled."""
    # Eight pixels to a byte: a dozen readers have 78 pairs.
    labelled = np.packbits(calls.labelled.reshape(len(calls.labelled), -1), axis=1)
    positive = np.packbits(calls.positive.reshape(len(calls.positive), -1), axis=1) & labelled
    both = np.stack([np.bitwise_count(row & positive).sum(1, dtype=np.int64) for row in positive])
    first = np.stack([np.bitwise_count(row & labelled).sum(1, dtype=np.int64) for row in positive])
    return np.stack([both, first, first.T], axis=-1)


def average_counts(calls: Calls, with_self: bool, model: Bools | None = None) -> Counts:
    """Return the overlap of each reader with the average reader, whose map is positive where the mean map is >= 0.5.

    Whether or not the reader is part of the average, the pixels counted are those that this reader and at least one
    other labelled, so that the two figures can be compared.

    Args:
        calls: (R, ...).
        with_self: Whether the reader who is compared is part of the average.
        model: bool (...), compared in each reader's stead with the same average over the same pixels.

    Returns:
        int64 (R, 3).
    """
    all_votes = calls.positive.sum(0, dtype=np.int16)
    all_voters = calls.labelled.sum(0, dtype=np.int16)
    counts = np.zeros((len(calls.labelled), 3), np.int64)
    for reader, (positive, labelled) in enumerate(zip(*calls, strict=True)):
        others = all_voters - labelled
        votes, voters = (all_votes, all_voters) if with_self else (all_votes - positive, others)
        compared = positive if model is None else model
        counts[reader] = overlap_counts(compared, 2 * votes >= voters, labelled & (others > 0))
    return counts


def average_map(calls: Calls) -> Bools:
    """Return bool (...): the average reader, positive where the mean map is >= 0.5; False where nobody labelled."""
    voters = calls.labelled.sum(0, dtype=np.int16)
    return (2 * calls.positive.sum(0, dtype=np.int16) >= voters) & (voters > 0)


def votes_of(groups: Groups) -> NDArray[np.uint8]:
    """Return uint8 (5, ...): how many of the R readers (at most 255) chose each group; all 0 where nobody labelled."""
    assert len(groups) <= np.iinfo(np.uint8).max, "more readers than uint8 can count"
    return np.stack([(groups == group).sum(0, dtype=np.uint8) for group in L3.indices])


def mean_map(votes: NDArray[np.uint8], finding: Collection[int] = L3.opacities) -> Figures:
    """Return float64 (...): share of the readers who call the finding among those who labelled the pixel."""
    voters = votes.sum(0, dtype=np.int16)
    share = np.full(voters.shape, np.nan)
    np.divide(votes[list(finding)].sum(0, dtype=np.int16), voters, out=share, where=voters > 0)
    return share


def deviation_map(votes: NDArray[np.uint8], finding: Collection[int] = L3.opacities) -> Figures:
    """Return float64 (...): standard deviation (over R, not R - 1) of the readers' 0 / 1 maps of the finding."""
    share = mean_map(votes, finding)
    return np.sqrt(share * (1 - share))


def entropy_map(votes: NDArray[np.uint8]) -> Figures:
    """Return float64 (...): Shannon entropy in nats of the readers' groups; NaN where fewer than two read."""
    share = np.stack([mean_map(votes, (group,)) for group in L3.indices])
    # 0 * log(0) is 0; shares of NaN stay NaN.
    entropy: Figures = -(share * np.log(np.where(share == 0, 1, share))).sum(0)
    return np.where(votes.sum(0, dtype=np.int16) > 1, entropy + 0.0, np.nan)


def disagreement(votes: NDArray[np.uint8]) -> Disagreement:
    """Return the sums over the contested pixels of votes (5, ...)."""
    voters, opaque = votes.sum(0, dtype=np.int16), votes[list(L3.opacities)].sum(0, dtype=np.int16)
    contested = (opaque > 0) & (voters > 1)
    return Disagreement(
        int(np.count_nonzero(contested)),
        int(np.count_nonzero(contested & (opaque == voters))),
        int(np.count_nonzero(contested & (votes.max(0) == voters))),
        float(entropy_map(votes)[contested].sum()),
    )
