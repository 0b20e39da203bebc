import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from losses.dice import dice_loss


def equation_2(logits: NDArray[np.float64], label: NDArray[np.float64]) -> float:
    """1 + the minimised term of equation 2, image by image."""
    terms = []
    for f, mask in zip(1 / (1 + np.exp(-logits)), label, strict=True):
        terms.append((2 * (mask * f).sum() + 1) / (np.abs(mask).sum() + np.abs(f).sum() + 1))
    return float(1 - np.mean(terms))


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 1, 7, 5, generator=rng)
    target = (torch.rand(4, 1, 7, 5, generator=rng) < torch.tensor([0.0, 0.1, 0.5, 1.0]).view(4, 1, 1, 1)).long()
    return logits, target


def test_dice_loss_is_equation_2_per_image() -> None:
    logits, target = images()
    expected = equation_2(logits.double().numpy(), target.double().numpy())
    assert dice_loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


def test_batch_takes_one_dice_over_all_images() -> None:
    logits, target = images()
    expected = equation_2(logits.double().numpy().reshape(1, -1), target.double().numpy().reshape(1, -1))
    assert dice_loss(logits, target, batch=True).item() == pytest.approx(expected, abs=1e-6)
    assert dice_loss(logits, target).item() != pytest.approx(expected, abs=1e-3)


def test_pixels_that_are_not_valid_change_nothing() -> None:
    logits, target = images()
    valid = torch.rand(4, 1, 7, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    target[~valid] = -1
    pairs = zip(logits, target, valid, strict=True)
    expected = np.mean([equation_2(a[m].double().numpy()[None], t[m].double().numpy()[None]) for a, t, m in pairs])
    assert dice_loss(logits, target, valid).item() == pytest.approx(expected, abs=1e-6)


def test_every_image_gets_a_finite_gradient_even_without_truth_or_with_extreme_logits() -> None:
    logits, target = images()
    logits = torch.cat([logits, logits * 100]).requires_grad_()
    (gradient,) = torch.autograd.grad(dice_loss(logits, torch.cat([target, target])), logits)
    assert torch.isfinite(gradient).all()
    assert (gradient[:4].abs().amax((1, 2, 3)) > 0).all()


def test_half_precision_does_not_overflow() -> None:
    """The sum over 512 x 512 pixels is more than float16 can hold."""
    logits = torch.full((1, 1, 512, 512), 5.0, dtype=torch.float16)
    loss = dice_loss(logits, torch.ones_like(logits))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1 - 2 * 0.993307 / 1.993307, abs=1e-4)


def test_perfect_and_empty_predictions() -> None:
    target = torch.ones(1, 1, 4, 4)
    assert dice_loss(1000 * target, target).item() == pytest.approx(0.0, abs=1e-6)
    assert dice_loss(-1000 * target, target).item() == pytest.approx(1 - 1 / 17)
    assert dice_loss(-1000 * target, 0 * target).item() == pytest.approx(0.0, abs=1e-6)
