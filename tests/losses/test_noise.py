from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from ct.borders import nearest_border
from losses.noise import (
    HALF_MM_BINS,
    NoiseModel,
    correlation_length_mm,
    count_pairs,
    fit_noise_model,
    residual_correlation,
)
from losses.soft_targets import SoftTargets

SPREAD_MM, CONFUSION = 3.0, 0.15


def study(slices: int = 12, readers: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Readers who put the border between class 1 and 2 at a normally distributed column, and name the right side 3 now
    and then; pixels of 1 mm."""
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(slices):
        border = 40 + rng.normal(0, SPREAD_MM, readers)
        labels = np.where(np.arange(80)[None, None] < border[:, None, None], 1, 2)
        labels = np.broadcast_to(labels, (readers, 16, 80)).copy()
        labels[(labels == 2) & (rng.random(readers) < CONFUSION)[:, None, None]] = 3
        maps.append(labels.astype(np.int8))
    return maps


def borders(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    neighbour, half_mm = np.stack([nearest_border(reader, (1.0, 1.0)) for reader in labels], 1)
    return neighbour, half_mm


def counts_of(maps: list[np.ndarray]) -> np.ndarray:
    return np.sum([count_pairs(labels, *borders(labels), 5) for labels in maps], axis=0)


def test_pairs_are_counted_as_a_loop_counts_them() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice([-1, 0, 1, 2], (3, 5, 6)).astype(np.int8)
    places = borders(labels)
    expected = np.zeros((3, 3, HALF_MM_BINS, 3), np.int64)
    for r, s in [(r, s) for r in range(3) for s in range(3) if r != s]:
        for y, x in np.ndindex(5, 6):
            if labels[r, y, x] >= 0 and labels[s, y, x] >= 0:
                expected[labels[r, y, x], places[0][r, y, x], places[1][r, y, x], labels[s, y, x]] += 1
    np.testing.assert_array_equal(count_pairs(labels, *places, 3), expected)


def test_the_curve_is_the_probability_that_another_border_lies_beyond() -> None:
    """Borders of two readers differ by N(0, 2 s^2): the other disagrees at distance d with 1 - Phi(d / (s sqrt 2))."""
    model = fit_noise_model(counts_of(study(slices=400, readers=4)))
    distance = np.arange(0.25, 12, 0.5)
    expected = norm.sf(distance / (SPREAD_MM * np.sqrt(2)))
    disagreement = model.mean[1, 2, : len(distance), 2:].sum(-1)
    np.testing.assert_allclose(disagreement, expected, atol=0.05)
    assert model.mean[2, 1, -1, 3] == pytest.approx(CONFUSION, abs=0.05)  # deep inside, another reader says 3 as often


def test_moments_are_distributions_that_fall_with_distance() -> None:
    model = fit_noise_model(counts_of(study()))
    np.testing.assert_allclose(model.mean.sum(-1), 1, atol=1e-9)
    assert model.mean.min() >= 0
    assert (np.diff(model.mixing, axis=-1) <= 1e-12).all()
    # A class that nobody used is taken as certain.
    np.testing.assert_array_equal(model.mean[4, 4, 0], np.eye(5)[4])


def test_one_reader_becomes_closer_to_the_others_than_the_hard_label_and_is_calibrated() -> None:
    model = fit_noise_model(counts_of(study(slices=80, seed=2)))
    hard_error, soft_error, shares, expected = 0.0, 0.0, [], []
    for labels in study(slices=80, seed=3):
        place = borders(labels)
        q = model.mean[labels[0], place[0][0], place[1][0]]
        others = np.stack([(labels[1:] == j).mean(0) for j in range(5)], -1)
        hard_error += ((np.eye(5)[labels[0]] - others) ** 2).sum()
        soft_error += ((q - others) ** 2).sum()
        shares.append(others[..., 2].ravel())
        expected.append(q[..., 2].ravel())
    assert soft_error < 0.75 * hard_error
    share, probability = np.concatenate(shares), np.concatenate(expected)
    bins = (probability * 5).astype(int).clip(max=4)
    for b in np.unique(bins):
        assert share[bins == b].mean() == pytest.approx(probability[bins == b].mean(), abs=0.12)


def test_the_squared_residual_is_q_times_one_minus_q() -> None:
    """The second moment of a one-hot label needs no table of its own."""
    maps = study(slices=100, seed=4)
    model = fit_noise_model(counts_of(maps))
    squares, expected = [], []
    for labels in maps:
        place = borders(labels)
        q = model.mean[labels[0], place[0][0], place[1][0], 2]
        squares.append(((labels[1] == 2) - q) ** 2)
        expected.append(q * (1 - q))
    assert np.mean(squares) == pytest.approx(np.mean(expected), rel=0.15)


def test_correlation_length_of_blurred_noise_is_found() -> None:
    rng = np.random.default_rng(0)
    products, pairs = np.zeros(12), np.zeros(12)
    for _ in range(30):
        field = gaussian_filter(rng.standard_normal((96, 96)), 2.0, mode="wrap")
        labels = (field > 0).astype(np.int8)
        part = residual_correlation(labels, np.full((2, 96, 96), 0.5))
        products, pairs = products + part[0], pairs + part[1]
    # Cutting the field at 0 narrows its correlation: (2 / pi) asin(rho) instead of rho.
    assert correlation_length_mm(products, pairs, 1.5) == pytest.approx(3.0, rel=0.25)


def test_uncorrelated_residuals_have_length_zero() -> None:
    labels = (np.random.default_rng(0).random((64, 64)) < 0.5).astype(np.int8)
    products, pairs, _ = residual_correlation(labels, np.full((2, 64, 64), 0.5))
    assert correlation_length_mm(products, pairs, 1.0) == 0


def test_too_small_a_study_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 500"):
        fit_noise_model(np.zeros((5, 5, HALF_MM_BINS, 5), np.int64))


def test_a_saved_model_is_read_back_and_other_files_are_refused(tmp_path: Path) -> None:
    model = fit_noise_model(counts_of(study()), 4.5, np.eye(5))
    model.save(tmp_path / "noise.npz")
    read = NoiseModel.load(tmp_path / "noise.npz")
    assert read.correlation_mm == 4.5
    np.testing.assert_array_equal(read.mean, model.mean)
    (tmp_path / "other.npz").write_bytes(b"not a zip")
    for name in ("other.npz", "missing.npz"):
        with pytest.raises(ValueError, match="make noise-model"):
            NoiseModel.load(tmp_path / name)


@pytest.fixture
def targets(tmp_path: Path) -> SoftTargets:
    residuals = np.random.default_rng(0).standard_normal((2000, 5))
    residuals -= residuals.mean(1, keepdims=True)
    fit_noise_model(counts_of(study()), 3.0, np.asarray(np.corrcoef(residuals.T))).save(tmp_path / "noise.npz")
    return SoftTargets(5, str(tmp_path / "noise.npz"))


def test_votes_of_several_readers_win_over_the_noise_model(targets: SoftTargets) -> None:
    label = torch.tensor([[[[1, 2, -1]]]], dtype=torch.int8)
    border = torch.tensor([[[[2, 1, 0]], [[4, 9, 255]]]], dtype=torch.uint8)
    votes = torch.zeros(1, 5, 1, 3, dtype=torch.uint8)
    votes[0, 1, 0, 0], votes[0, 2, 0, 0] = 3, 1
    mean, deviation = targets(label, border, votes)
    torch.testing.assert_close(mean[0, :, 0, 0], torch.tensor([0, 0.75, 0.25, 0, 0]))
    torch.testing.assert_close(deviation[0, :, 0, 0], torch.tensor([0, 0.1875, 0.1875, 0, 0]).sqrt())
    torch.testing.assert_close(mean[0, :, 0, 1], targets.mean_table[2, 1, 9])
    torch.testing.assert_close(mean.sum(1), torch.ones(1, 1, 3))


def test_without_a_noise_model_a_label_is_taken_as_certain() -> None:
    label = torch.tensor([[[[0, 3, 4]]]], dtype=torch.int8)
    mean, deviation = SoftTargets(5)(label, torch.zeros(1, 2, 1, 3, dtype=torch.uint8), torch.zeros(1, 5, 1, 3))
    torch.testing.assert_close(mean[0, :, 0].T, torch.eye(5)[[0, 3, 4]])
    assert (deviation == 0).all()


@pytest.mark.parametrize("kind", ["independent", "correlated"])
def test_draws_are_distributions_around_the_mean_that_can_be_repeated(
    targets: SoftTargets, kind: Literal["independent", "correlated"]
) -> None:
    mean = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).view(1, 5, 1, 1).expand(2, 5, 48, 48)
    deviation = torch.full_like(mean, 0.05)
    draws = [targets.draw(mean, deviation, kind, 1.5, torch.Generator().manual_seed(7)) for _ in range(2)]
    torch.testing.assert_close(draws[0], draws[1])
    torch.testing.assert_close(draws[0].sum(1), torch.ones(2, 48, 48))
    torch.testing.assert_close(draws[0].mean((0, 2, 3)), mean[0, :, 0, 0], atol=0.02, rtol=0)
    field = draws[0][0, 2] - draws[0][0, 2].mean()
    neighbours = float((field[:, 1:] * field[:, :-1]).mean() / field.square().mean())
    assert neighbours > 0.7 if kind == "correlated" else abs(neighbours) < 0.1


def test_the_mean_is_its_own_draw(targets: SoftTargets) -> None:
    mean = torch.rand(1, 5, 4, 4).softmax(1)
    assert targets.draw(mean, mean, "mean", 1.0, torch.Generator()) is mean
