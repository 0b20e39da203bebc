"""A description of a model's training set in numbers that a new scan can be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

HU_PER_BIN = 10
HU_EDGES = np.arange(-1020, 200, HU_PER_BIN)
FOLDS = 5
QUANTILES = (0.5, 1.0)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The training slices of a model, as its network and a histogram see them; nothing of a single scan.

    Attributes:
        scans: Scans that were looked at.
        slices: Slices of them that were.
        lung_histogram: (bins,) shares of the lungs' voxels, the mean over scans.
        feature_mean: (C,) mean of the network's deepest features, pooled over a slice.
        feature_covariance: (C, C) their covariance, shrunk (Ledoit and Wolf, J. Multivariate Anal. 2004).
        hu_distances: `QUANTILES` of `hu_distance` over training scans, each held against those of other patients.
        feature_distances: The same of `feature_distance`.
    """

    scans: int
    slices: int
    lung_histogram: FloatArray
    feature_mean: FloatArray
    feature_covariance: FloatArray
    hu_distances: FloatArray
    feature_distances: FloatArray

    @classmethod
    def describe(
        cls,
        histograms: npt.NDArray[np.int64],
        features: npt.NDArray[np.floating],
        scan: npt.NDArray[Any],
        patient: npt.NDArray[Any],
    ) -> TrainingSet:
        """Describe the training set.

        Distances are of patients held out: a fifth of them is compared with the others, five times. With a single
        patient all slices are compared with themselves, which makes them look nearer than they are.

        Args:
            histograms: int64 (N, bins), `lung_histogram` of every slice.
            features: (N, C), its features.
            scan: (N,), which scan it is of.
            patient: (N,), which patient.
        """
        counts, samples = histograms.astype(np.float64), features.astype(np.float64)
        fold = np.unique(patient, return_inverse=True)[1] % FOLDS
        distances = []
        for number in np.unique(fold):
            held_out = fold == number
            others = held_out if held_out.all() else ~held_out
            reference = cls._without_distances(counts[others], samples[others], scan[others])
            # One solution for all slices of the fold: for one scan at a time it takes as long.
            squared = np.full(len(samples), np.nan)
            squared[held_out] = reference._squared_distances(samples[held_out])
            for name in np.unique(scan[held_out]):
                slices = held_out & (scan == name)
                hu_distance = reference.hu_distance(counts[slices].sum(0))
                distances.append((hu_distance, float(np.sqrt(squared[slices].mean()))))
        hu_distances, feature_distances = np.quantile(distances, QUANTILES, axis=0).T
        described = cls._without_distances(counts, samples, scan)
        return replace(described, hu_distances=hu_distances, feature_distances=feature_distances)

    @classmethod
    def _without_distances(cls, histograms: FloatArray, features: FloatArray, scan: npt.NDArray[Any]) -> TrainingSet:
        names, number = np.unique(scan, return_inverse=True)
        per_scan = np.zeros((len(names), histograms.shape[1]))
        np.add.at(per_scan, number, histograms)
        share = (per_scan / np.maximum(per_scan.sum(1, keepdims=True), 1)).mean(0)
        unknown = np.full(len(QUANTILES), np.nan)
        return cls(len(names), len(features), share, features.mean(0), shrunk_covariance(features), unknown, unknown)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSet:
        """Rebuild from `to_dict`, whose arrays may have become anything that numpy reads."""
        arguments: dict[str, Any] = {field.name: values[field.name] for field in fields(cls)}
        for name in arguments.keys() - {"scans", "slices"}:
            arguments[name] = np.asarray(arguments[name])
        return cls(**arguments)

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and arrays by name; the covariance, by far the largest, in single precision."""
        return {**vars(self), "feature_covariance": self.feature_covariance.astype(np.float32)}

    def hu_distance(self, counts: npt.NDArray[Any]) -> float:
        """Return how many HU a voxel must change on average to turn one histogram of the lungs into the other.

        Args:
            counts: (bins,), `lung_histogram` of a scan.

        Returns:
            The earth mover's distance in HU.
        """
        share = np.asarray(counts, np.float64) / max(float(np.sum(counts)), 1.0)
        return float(np.abs(np.cumsum(share - self.lung_histogram)).sum() * HU_PER_BIN)

    def feature_distance(self, features: npt.NDArray[np.floating]) -> float:
        """Return how far the slices of a scan are from those of the training set.

        Args:
            features: (N, C), deepest features of its slices.

        Returns:
            Root of the mean of the slices' squared Mahalanobis distances, each divided by C: about 1 for slices of the
            training set itself.
        """
        return float(np.sqrt(self._squared_distances(features).mean()))

    def _squared_distances(self, features: npt.NDArray[np.floating]) -> FloatArray:
        """Return (N,): squared Mahalanobis distance of each slice, divided by C."""
        apart = np.asarray(features, np.float64) - self.feature_mean
        squared = np.einsum("nc,cn->n", apart, np.linalg.solve(self.feature_covariance, apart.T))
        return np.asarray(squared / apart.shape[1])


def lung_histogram(hu: npt.NDArray[np.int16], lung: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Count the voxels of the lungs by HU.

    Args:
        hu: int16, any shape.
        lung: bool, the same shape.

    Returns:
        int64 (len(HU_EDGES) + 1,): bins of 10 HU, the first and the last open.
    """
    return np.bincount(np.digitize(hu[lung], HU_EDGES), minlength=len(HU_EDGES) + 1)


def shrunk_covariance(features: FloatArray) -> FloatArray:
    """Estimate a covariance that can be inverted however few the samples are.

    Features are brought to one scale, and their correlation is drawn towards the identity by as much as Ledoit and Wolf
    (J. Multivariate Anal. 88, 2004) find best. A feature that never varied gets a tenth of the usual deviation: if it
    varies in a new scan, that is far from the training set, but not infinitely.

    Args:
        features: (N, C).

    Returns:
        (C, C), positive definite.
    """
    apart = features - features.mean(0)
    deviation = apart.std(0)
    smallest = 0.1 * (float(np.median(deviation)) or 1.0)
    deviation = np.maximum(deviation, smallest)
    apart = apart / deviation
    samples, count = apart.shape
    correlation = apart.T @ apart / samples
    mean_variance = np.trace(correlation) / count
    target = mean_variance * np.eye(count)
    spread = ((correlation - target) ** 2).sum()
    noise = max((((apart**2).T @ (apart**2)).sum() / samples - (correlation**2).sum()) / samples, 0.0)
    weight = min(noise, spread) / spread if spread > 0 else 0.0
    # Identical samples leave nothing to invert.
    floor = 1e-3 * max(mean_variance, 1e-3) * np.eye(count)
    return np.asarray(((1 - weight) * correlation + weight * target + floor) * np.outer(deviation, deviation))
