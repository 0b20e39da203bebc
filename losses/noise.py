"""Reader noise model n(x, c) of paper L3: distribution of another reader's label, given the label of one reader.

Paper L3 observes S_obs = S_mean + n(x, c), where the noise depends on the class and the place relative to the border,
and takes its moments from a study in which several readers label the same slices. A form that such a study identifies:
let c be the observed class of a pixel, k the class across the nearest border and d the distance to that border; then
another reader chooses j with the probability

    q_j = (1 - w_ck(d)) A_c(j) + w_ck(d) A_k(j),

where A_c is the confusion deep inside a region of class c and w_ck falls with d. Both are estimated from ordered pairs
of DIFFERENT readers: compared with a mean that contains them, readers look better than they are. A reader's label is
one-hot, so its second moment equals its first and the deviation around q is sqrt(q (1 - q)); the same holds for the
deviation of several readers around their mean.
"""

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from machine.whole_file import whole_file

Counts = NDArray[np.int64]
Curves = NDArray[np.float64]

HALF_MM_BINS = 256
# Distances are pooled in bins that widen with depth: near the border much changes within a millimetre.
BIN_EDGES_MM = np.array([0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 60, 128])
# A curve or a confusion with fewer pixel pairs falls back to a coarser pool.
MIN_COUNT = 500
INTERIOR_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Moments of the label that another reader would give.

    Attributes:
        mean: float64 (C, C, 256, C): q_j by observed class c, class k across the border and distance in half mm.
        mixing: float64 (C, C, 256): w_ck.
        count: int64 (C, C): pixel pairs behind each curve.
        correlation_mm: Standard deviation of the Gaussian whose blur of white noise has the residuals' correlation.
        class_correlation: float64 (C, C) of the standardised residuals of the classes.
    """

    mean: Curves
    mixing: Curves
    count: Counts
    correlation_mm: float
    class_correlation: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write all arrays into one .npz file, whole or not at all."""
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "NoiseModel":
        """Read what `save` wrote.

        Raises:
            ValueError: The file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is no reader noise model ({error}); make one with: make noise-model") from error
        return cls(**arrays | {"correlation_mm": float(arrays["correlation_mm"])})


def count_pairs(
    labels: NDArray[np.int8], neighbour: NDArray[np.uint8], half_mm: NDArray[np.uint8], classes: int
) -> Counts:
    """Count pairs of labels of different readers, by the first label and its place.

    Args:
        labels: (R, H, W) classes of one slice by R readers, -1 where unlabelled.
        neighbour: (R, H, W) class across the nearest border in that reader's map; the pixel's own where there is none.
        half_mm: (R, H, W) distance to that border in half millimetres, 255 and more alike.
        classes: C.

    Returns:
        (C, C, 256, C): [c, k, d, j] = pixels that a reader labels c, with k across a border d away, and another j.
    """
    counts = np.zeros(classes * classes * HALF_MM_BINS * classes, dtype=np.int64)
    places = (labels.astype(np.int64) * classes + neighbour) * HALF_MM_BINS + half_mm
    for reader, other in permutations(range(len(labels)), 2):
        both = (labels[reader] >= 0) & (labels[other] >= 0)
        counts += np.bincount(places[reader][both] * classes + labels[other][both], minlength=len(counts))
    return counts.reshape(classes, classes, HALF_MM_BINS, classes)


def fit_noise_model(
    counts: Counts, correlation_mm: float = 0.0, class_correlation: NDArray[np.float64] | None = None
) -> NoiseModel:
    """Estimate the curves from pair counts (see the module's docstring).

    A pair (c, k) with fewer than MIN_COUNT pixel pairs takes the curve of its class c over all k; a class with fewer
    takes the curve over all pairs. A class that nobody used is taken as certain.

    Args:
        counts: (C, C, 256, C) of `count_pairs`, summed over slices.
        correlation_mm: See NoiseModel.
        class_correlation: See NoiseModel; the identity if None.

    Returns:
        The model.

    Raises:
        ValueError: There are fewer than MIN_COUNT pixel pairs in all.
    """
    classes = len(counts)
    if counts.sum() < MIN_COUNT:
        raise ValueError(
            f"the reader study has {counts.sum()} pixel pairs; expected at least {MIN_COUNT}: slices that two or more "
            f"readers labelled (column 'readers' of cohort.csv)"
        )
    interior = np.stack([_interior(counts[c], c) for c in range(classes)])
    per_pair = {
        (c, k): _mixing_counts(counts[c, k], interior[c], interior[k]) for c in range(classes) for k in range(classes)
    }
    mixing = np.zeros((classes, classes, HALF_MM_BINS))
    all_pairs = _add([part for (c, k), part in per_pair.items() if c != k])
    for c in range(classes):
        of_class = _add([per_pair[c, k] for k in range(classes) if k != c])
        for k in range(classes):
            if k != c:
                pools = [per_pair[c, k], of_class, all_pairs]
                mixing[c, k] = _curve(next((pool for pool in pools if pool[2].sum() >= MIN_COUNT), all_pairs))
    w = mixing[..., None]
    mean = (1 - w) * interior[:, None, None] + w * interior[None, :, None]
    correlation = np.eye(classes) if class_correlation is None else class_correlation
    return NoiseModel(mean, mixing, counts.sum((2, 3)), correlation_mm, correlation)


def residual_correlation(
    labels: NDArray[np.int8], mean: NDArray[np.float64], lags_px: int = 12
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums from which the correlation of the noise is estimated; they add up over slices and readers.

    Args:
        labels: (H, W) of another reader, -1 where unlabelled.
        mean: (C, H, W) q of the model for one reader's map.
        lags_px: Number of lags along rows and columns.

    Returns:
        Sums of products at each lag (lags_px,), numbers of pairs (lags_px,), and the (C, C) sum over pixels of products
        of standardised residuals.
    """
    classes = len(mean)
    valid = labels >= 0
    deviation = np.sqrt(mean * (1 - mean))
    # Where the model is nearly certain, a rare surprise divided by a tiny deviation would outweigh everything else.
    doubtful = (deviation > 0.2) & valid
    one_hot = labels[None] == np.arange(classes)[:, None, None]
    residual = np.where(doubtful, (one_hot - mean) / np.where(doubtful, deviation, 1), 0.0)
    products, pairs = np.zeros(lags_px), np.zeros(lags_px)
    for lag in range(lags_px):
        for axis in (1, 2):
            length = residual.shape[axis] - lag
            if length > 0:
                here, there = (np.take(residual, np.arange(s, s + length), axis) for s in (0, lag))
                both = np.take(doubtful, np.arange(length), axis) & np.take(
                    doubtful, np.arange(lag, lag + length), axis
                )
                products[lag] += (here * there).sum()
                pairs[lag] += both.sum()
    flat = residual.reshape(classes, -1)
    return products, pairs, flat @ flat.T


def correlation_length_mm(products: NDArray[np.float64], pairs: NDArray[np.float64], pixel_mm: float) -> float:
    """Fit exp(-h^2 / 4 s^2), the correlation of white noise blurred by a Gaussian of deviation s, and return s in mm.

    Args:
        products: (L,) sums of products of residuals at lags of 0 .. L-1 pixels.
        pairs: (L,) numbers of pairs.
        pixel_mm: Pixel size.

    Returns:
        s in mm, 0 where the residuals do not correlate.
    """
    correlation = (products / np.maximum(pairs, 1)) / max(products[0] / max(pairs[0], 1), 1e-12)
    lag_mm = np.arange(len(products)) * pixel_mm
    # Only the near part is Gaussian; beyond it, different lesions of one slice are compared.
    near = np.cumprod(correlation > 0.2).astype(bool) & (lag_mm > 0)
    if not near.any():
        return 0.0
    slope = -(lag_mm[near] ** 2 * np.log(correlation[near])).sum() / (lag_mm[near] ** 4).sum()
    return float(np.sqrt(1 / (4 * slope))) if slope > 0 else 0.0


def _interior(counts: Counts, own: int) -> NDArray[np.float64]:
    """Return A_c: the labels of others in the deepest quarter of the pixels (C, 256, C) that a reader labels `own`."""
    by_depth = counts.sum(0)
    total = by_depth.sum()
    if total < MIN_COUNT:
        return np.eye(counts.shape[-1])[own]
    beyond = by_depth[::-1].sum(1).cumsum()[::-1]
    deepest = int(np.flatnonzero(beyond >= INTERIOR_SHARE * total)[-1])
    inside = by_depth[deepest:].sum(0)
    return np.asarray(inside / inside.sum())


def _mixing_counts(counts: Counts, own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return per distance bin numerator and denominator of the least-squares w, and the number of pairs; (3, bins).

    w minimises |n / N - A_c - w (A_k - A_c)|^2, summed over whatever is pooled with weights N.
    """
    edges = (BIN_EDGES_MM[:-1] * 2).astype(int)
    binned = np.add.reduceat(counts, edges, axis=0).astype(np.float64)
    number = binned.sum(1)
    direction = other - own
    numerator = (binned - number[:, None] * own) @ direction
    return np.stack([numerator, number * (direction @ direction), number])


def _add(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.sum(parts, axis=0))


def _curve(pool: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return w at every half mm: falling with distance, linear between the centres of the bins."""
    numerator, denominator, number = pool
    seen = denominator > 0
    if not seen.any():
        return np.zeros(HALF_MM_BINS)
    raw = np.clip(numerator[seen] / denominator[seen], 0, 1)
    falling = isotonic_regression(raw, weights=number[seen], increasing=False).x
    centres = ((BIN_EDGES_MM[:-1] + BIN_EDGES_MM[1:]) / 2)[seen]
    return np.asarray(np.interp(np.arange(HALF_MM_BINS) / 2 + 0.25, centres, falling))
