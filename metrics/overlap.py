"""Overlap figures as views of a binary confusion table; pure numpy, any leading shape.

A table is (..., 3, 2) integers: rows = truth 0, truth 1, truth unknown; columns = prediction 0, 1. Pixels of unknown
truth enter no figure. All functions return float64 of the leading shape; where a figure is undefined it is NaN, never 0
or 1: everything but `fpr` for an empty truth, `fpr` where everything is truth.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.integer]
Figure = NDArray[np.float64]


class Counts(NamedTuple):
    """True and false positives and negatives, each of the table's leading shape."""

    tp: Table
    fp: Table
    fn: Table
    tn: Table


def counts(table: Table) -> Counts:
    """Return the four counts of a table (..., 3, 2)."""
    return Counts(table[..., 1, 1], table[..., 0, 1], table[..., 1, 0], table[..., 0, 0])


def table_of_counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the table (..., 3, 2), without unknown truth, of (..., 4) tp, fp, fn, tn: the inverse of `counts`."""
    tp, fp, fn, tn = np.moveaxis(counts, -1, 0)
    rows = [[tn, fp], [fn, tp], [np.zeros_like(tp), np.zeros_like(tp)]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _ratio(numerator: Table, denominator: Table, defined: NDArray[np.bool_]) -> Figure:
    figure = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=figure, where=defined)
    return figure


def dice(table: Table) -> Figure:
    """Return 2 TP / (2 TP + FP + FN)."""
    tp, fp, fn, _ = counts(table)
    return _ratio(2 * tp, 2 * tp + fp + fn, tp + fn > 0)


def iou(table: Table) -> Figure:
    """Return TP / (TP + FP + FN)."""
    tp, fp, fn, _ = counts(table)
    return _ratio(tp, tp + fp + fn, tp + fn > 0)


def relative_volume(table: Table) -> Figure:
    """Return RV of paper L3: (TP + FP) / (TP + FN), predicted over true volume."""
    tp, fp, fn, _ = counts(table)
    return _ratio(tp + fp, tp + fn, tp + fn > 0)


def tpr(table: Table) -> Figure:
    """Return the sensitivity, TP / (TP + FN)."""
    tp, _, fn, _ = counts(table)
    return _ratio(tp, tp + fn, tp + fn > 0)


def fpr(table: Table) -> Figure:
    """Return FP / (FP + TN): false positives over all pixels of the table's region that are not truth."""
    _, fp, _, tn = counts(table)
    return _ratio(fp, fp + tn, fp + tn > 0)


# The figures of one table pooled over all scans, as metrics.json names them.
POOLED: dict[str, Callable[[Table], Figure]] = {
    "dice_pooled": dice,
    "iou_pooled": iou,
    "relative_volume": relative_volume,
    "tpr": tpr,
    "fpr": fpr,
}
