"""What a model was trained on, against SciPy and scikit-learn."""

import io

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from sklearn.covariance import LedoitWolf

from training.training_set import HU_EDGES, HU_PER_BIN, TrainingSet, lung_histogram, shrunk_covariance

BINS = len(HU_EDGES) + 1


def training_set(slices: int = 600, channels: int = 12, patients: int = 10) -> tuple[TrainingSet, np.ndarray]:
    """A training set of correlated features, and how they are mixed."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(channels, channels)) + 2 * np.eye(channels)
    scan = np.arange(slices) % (2 * patients)
    hu = rng.normal(-800, 60, (slices, 500)).astype(np.int16)
    histograms = np.stack([lung_histogram(of_slice, np.ones(500, bool)) for of_slice in hu])
    features = rng.normal(size=(slices, channels)) @ mix + 5
    return TrainingSet.describe(histograms, features, scan, scan // 2), mix


def test_a_histogram_counts_every_voxel_of_the_lungs_once() -> None:
    hu = np.array([[-3000, -1021, -1020, -801, -800, 189, 190, 3000]], np.int16)
    lung = np.ones(hu.shape, bool)
    lung[0, 3] = False
    counts = lung_histogram(hu, lung)
    by_hand = np.zeros(BINS, int)
    by_hand[[0, 0, 1, 1 + (220 // HU_PER_BIN), -2, -1, -1]] = [2, 2, 1, 1, 1, 2, 2]
    assert counts.tolist() == by_hand.tolist()


def test_the_distance_of_histograms_is_the_earth_movers() -> None:
    rng = np.random.default_rng(1)
    described, _ = training_set()
    counts = rng.integers(0, 100, BINS)
    centres = np.arange(BINS) * HU_PER_BIN
    expected = wasserstein_distance(centres, centres, described.lung_histogram, counts)
    assert described.hu_distance(counts) == pytest.approx(expected)
    assert described.hu_distance(np.roll(described.lung_histogram * 1e6, 7)) == pytest.approx(7 * HU_PER_BIN, rel=1e-3)


def test_the_covariance_is_that_of_ledoit_and_wolf() -> None:
    rng = np.random.default_rng(2)
    for samples in (30, 3000):  # fewer and many more than features
        features = rng.normal(size=(samples, 40)) @ rng.normal(size=(40, 40))
        deviation = features.std(0)
        reference = LedoitWolf().fit(features / deviation).covariance_ * np.outer(deviation, deviation)
        covariance = shrunk_covariance(features)
        np.testing.assert_allclose(covariance, reference, atol=0.01 * np.abs(reference).max())
        assert np.linalg.eigvalsh(covariance).min() > 0


def test_a_feature_that_never_varied_does_not_break_it() -> None:
    features = np.random.default_rng(3).normal(size=(50, 6))
    features[:, 2] = 0
    described = TrainingSet.describe(np.ones((50, BINS), np.int64), features, np.arange(50) % 5, np.arange(50) % 5)
    new = features.copy()
    new[:, 2] = 1.0
    assert np.isfinite(described.feature_distances).all()
    assert described.feature_distance(features) < 1.2 < 3 < described.feature_distance(new) < 100


def test_slices_of_the_training_set_are_near_and_others_far() -> None:
    described, mix = training_set()
    rng = np.random.default_rng(4)
    own = rng.normal(size=(2000, 12)) @ mix + 5
    assert described.feature_distance(own) == pytest.approx(1.0, abs=0.1)
    # Three deviations along one of twelve independent directions add 9 / 12 to the mean square.
    near, far = (described.feature_distance(own + by) for by in (0, 3 * mix[0]))
    assert far**2 - near**2 == pytest.approx(0.75, abs=0.2)
    usual, most = described.feature_distances
    assert 0.8 < usual < most < 1.3
    assert (described.scans, described.slices) == (20, 600)


def test_one_patient_alone_is_held_against_itself() -> None:
    features = np.random.default_rng(5).normal(size=(20, 4))
    described = TrainingSet.describe(np.ones((20, BINS), np.int64), features, np.zeros(20), np.zeros(20))
    assert described.hu_distances.tolist() == [0, 0]
    assert described.feature_distances == pytest.approx([described.feature_distance(features)] * 2)


def test_it_survives_a_file_that_runs_no_code() -> None:
    described, _ = training_set()
    plain = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in described.to_dict().items()}
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    again = TrainingSet.from_dict(torch.load(file, weights_only=True))
    features = np.random.default_rng(6).normal(size=(9, 12))
    assert again.feature_distance(features) == pytest.approx(described.feature_distance(features), rel=1e-4)
    assert (again.scans, again.slices) == (20, 600)
    np.testing.assert_array_equal(again.hu_distances, described.hu_distances)
