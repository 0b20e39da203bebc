import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import rel_entr, softmax
from torch.nn import functional as F

from losses.soft_label import Weighting, project_to_simplex, soft_label_divergence, soft_label_loss

FREQUENCY = torch.tensor([0.6, 0.25, 0.1, 0.04, 0.01])
BOTH = pytest.mark.parametrize("weighting", ["pixel", "class"])


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 5, 6, 7, generator=rng)
    return logits, torch.randn(2, 5, 6, 7, generator=rng).softmax(1)


def test_divergence_is_scipys_relative_entropy_with_the_two_kinds_of_weights() -> None:
    logits, q = random_case()
    terms = rel_entr(q.double().numpy(), softmax(logits.double().numpy(), 1))
    weight = (1 - FREQUENCY.double().numpy())[None, :, None, None]
    literal = (weight * terms).sum(1)
    proper = (weight * q.numpy()).sum(1) * terms.sum(1)
    np.testing.assert_allclose(soft_label_divergence(logits, q, FREQUENCY, "class"), literal, atol=2e-6)
    np.testing.assert_allclose(soft_label_divergence(logits, q, FREQUENCY, "pixel"), proper, atol=2e-6)


@BOTH
def test_one_hot_targets_give_weighted_cross_entropy(weighting: Weighting) -> None:
    logits, q = random_case(1)
    label = q.argmax(1)
    one_hot = F.one_hot(label, 5).movedim(-1, 1).float()
    divergence = soft_label_divergence(logits, one_hot, FREQUENCY, weighting)
    torch.testing.assert_close(divergence, F.cross_entropy(logits, label, 1 - FREQUENCY, reduction="none"))


def test_without_weights_it_is_cross_entropy_minus_entropy() -> None:
    logits, q = random_case(2)
    entropy = -(q * q.log()).sum(1)
    expected = F.cross_entropy(logits, q, reduction="none") - entropy
    torch.testing.assert_close(soft_label_divergence(logits, q, torch.zeros(5)), expected)


def test_an_exponent_of_the_weights_tempers_them() -> None:
    logits, q = random_case(3)
    unweighted = torch.nn.KLDivLoss(reduction="none")(logits.log_softmax(1), q).sum(1)
    root = ((1 - FREQUENCY).sqrt().view(1, -1, 1, 1) * q).sum(1)
    torch.testing.assert_close(soft_label_divergence(logits, q, FREQUENCY, exponent=0.0), unweighted)
    torch.testing.assert_close(soft_label_divergence(logits, q, FREQUENCY, exponent=0.5), root * unweighted)
    everywhere = torch.ones(2, 1, 6, 7, dtype=torch.bool)
    loss = soft_label_loss(logits, q, everywhere, FREQUENCY, "class", 0.0)
    torch.testing.assert_close(loss, unweighted.mean())


@pytest.mark.parametrize("weighting", ["pixel", "class"])
@pytest.mark.parametrize(("exponent", "rare"), [(1.0, 0.9), (0.5, 0.75), (0.0, 0.5)])
def test_weights_call_the_rare_class_more_often_than_readers_do(
    weighting: Weighting, exponent: float, rare: float
) -> None:
    """Of pixels that look alike half are rare, of frequency 0.1: weights 9 : 1, their roots 3 : 1, or none."""
    labels = torch.eye(2).view(2, 2, 1, 1)  # one slice of either
    frequency = torch.tensor([0.9, 0.1])

    def value(logit: float) -> float:
        logits = torch.tensor([0.0, logit]).view(1, 2, 1, 1).expand(2, 2, 1, 1)
        return float(soft_label_divergence(logits, labels, frequency, weighting, exponent).mean())

    at = minimize_scalar(value, bounds=(-5, 5), method="bounded").x
    assert 1 / (1 + np.exp(-at)) == pytest.approx(rare, abs=2e-3)


def minimum(weighting: Weighting, q: torch.Tensor, frequency: torch.Tensor) -> tuple[np.ndarray, float]:
    def value(logits: np.ndarray) -> float:
        at = torch.tensor(logits, dtype=torch.float32).view(1, -1, 1, 1)
        return float(soft_label_divergence(at, q.view(1, -1, 1, 1), frequency, weighting))

    solution = minimize(value, np.zeros(len(q)), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9})
    return softmax(solution.x), solution.fun


def test_the_proper_reading_is_lowest_at_the_target_and_the_literal_one_is_not() -> None:
    """With frequencies 0.9 / 0.1 and q = 1/2 for both, the literal reading asks for p = 0.9 of the rare class."""
    q, frequency = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    at, value = minimum("pixel", q, frequency)
    assert at == pytest.approx([0.5, 0.5], abs=5e-3)
    assert value == pytest.approx(0, abs=1e-5)
    at, value = minimum("class", q, frequency)
    assert at == pytest.approx([0.1, 0.9], abs=5e-3)
    assert value < -0.1


@BOTH
@pytest.mark.parametrize("size", [50.0, -50.0])
def test_gradients_are_finite_at_extreme_logits(weighting: Weighting, size: float) -> None:
    logits = torch.full((1, 5, 2, 2), -size)
    logits[:, 0] = size
    logits = logits.to(torch.bfloat16).requires_grad_()
    q = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).view(1, 5, 1, 1).expand(1, 5, 2, 2)
    loss = soft_label_loss(logits, q, torch.ones(1, 1, 2, 2, dtype=torch.bool), FREQUENCY, weighting)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_unlabelled_pixels_change_neither_loss_nor_gradient() -> None:
    logits, q = random_case(3)
    valid = torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(4)) < 0.5
    results = []
    for fill in (0.0, 1.0):
        at = torch.where(valid, logits, fill * 7).requires_grad_()
        loss = soft_label_loss(at, torch.where(valid, q, fill / 5), valid, FREQUENCY)
        loss.backward()
        assert at.grad is not None
        assert (at.grad * ~valid == 0).all()
        results.append((loss.detach(), at.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    expected = soft_label_divergence(logits, q, FREQUENCY)[valid[:, 0]].mean()
    torch.testing.assert_close(results[0][0], expected)
    torch.testing.assert_close(results[0][1] * valid, results[1][1] * valid)


def test_a_batch_without_labels_has_loss_zero() -> None:
    logits, q = random_case(5)
    assert soft_label_loss(logits, q, torch.zeros(2, 1, 6, 7, dtype=torch.bool), FREQUENCY) == 0


def test_projection_is_the_nearest_distribution() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0.2, 0.6, (40, 5))
    projections = project_to_simplex(torch.tensor(points)[..., None, None])[..., 0, 0].numpy()
    np.testing.assert_allclose(projections.sum(1), 1, atol=1e-9)
    assert projections.min() >= 0
    for point, projected in zip(points, projections, strict=True):
        constraint = {"type": "eq", "fun": lambda p: p.sum() - 1}
        nearest = minimize(
            lambda p, at=point: ((p - at) ** 2).sum(),
            np.full(5, 0.2),
            method="SLSQP",
            bounds=[(0, 1)] * 5,
            constraints=[constraint],
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(projected, nearest.x, atol=1e-4)
