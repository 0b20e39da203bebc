import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from losses.em import Phi1, Phi2, e_step

LABELS = torch.tensor([0, 1, 1, 0, -1])


def brute_force(f: float, phi: float, infected: bool) -> bool:
    """Equations 30 to 34 as they stand: argmax over y of log P(y|f) + log psi(y), psi given by phi(z, x)."""
    with np.errstate(divide="ignore"):
        log_p = np.log([1 - f, f])  # equation 33, y = 0 and y = 1
        log_psi = np.log([1 - phi, phi])  # equations 9 and 34
    return infected and bool(np.argmax(log_p + log_psi) == 1)


def prior_2(z: int, x: float, b2: float, k2: float) -> float:
    """Equation 13 with z = 1, and 0 for everything else."""
    return min(1.0, 1 / (1 + float(np.exp(-k2 * (x - b2)))) + 0.5) if z == 1 else 0.0


def random_images(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shape = (len(LABELS), 1, 9, 11)
    f = torch.sigmoid(4 * torch.randn(shape, generator=rng, dtype=torch.float64)).float()
    x = 12 * torch.rand(shape, generator=rng)
    return f, x, torch.rand(shape, generator=rng) < 0.6


def expected(f: torch.Tensor, phi: torch.Tensor, infected: torch.Tensor) -> NDArray[np.bool_]:
    pixels = zip(*(t.ravel().tolist() for t in (f, phi, infected)), strict=True)
    return np.reshape([brute_force(*pixel) for pixel in pixels], tuple(f.shape))


@pytest.mark.parametrize(("b2", "k2"), [(9.0, 0.5), (8.0, 1.25), (9.5, 2.0)])
def test_e_step_with_phi2_is_the_argmax_of_the_joint_probability(b2: float, k2: float) -> None:
    f, x, infected = random_images(1)
    phi = Phi2(b2, k2)(LABELS, x)
    y = e_step(f, phi, infected)
    assert y.dtype == torch.bool
    assert 0.05 < y[1:3].float().mean() < 0.6  # both outcomes occur, or this compares nothing
    assert np.array_equal(y.numpy(), expected(f, phi, infected))


@pytest.mark.parametrize("b1", [0.3, 0.8, 1.0])
def test_e_step_with_phi1_is_the_argmax_of_the_joint_probability(b1: float) -> None:
    f, x, infected = random_images(2)
    phi = Phi1(b1)(LABELS, x)
    assert np.array_equal(e_step(f, phi, infected).numpy(), expected(f, phi, infected))


def test_phi1_is_b1_for_positive_images_only() -> None:
    phi = Phi1(0.7)(LABELS, torch.rand(5, 1, 2, 3))
    assert phi.shape == (5, 1, 2, 3)
    assert torch.equal(phi[:, 0, 0, 0], torch.tensor([0.0, 0.7, 0.7, 0.0, 0.0]))


def test_phi2_is_equation_13() -> None:
    x = torch.linspace(0, 12, 40).view(1, 1, 5, 8).expand(5, -1, -1, -1)
    phi = Phi2()(LABELS, x)
    for image, z in zip(phi, LABELS.tolist(), strict=True):
        expected = [prior_2(z, value, 9.0, 0.5) for value in x[0].double().ravel().tolist()]
        np.testing.assert_allclose(image.numpy().ravel(), expected, atol=1e-6)
    assert (phi[1][x[1] >= 9.0] == 1).all()  # -34 HU and more: must be consolidation
    assert (phi[1][x[1] < 8.9] < 1).all()


@pytest.mark.parametrize("f", [1e-3, 1e-9, 1e-30, 0.0])
def test_where_phi_is_1_the_label_is_1_however_small_f_is(f: float) -> None:
    """1 + 1e-9 > 1 is lost in float32, and 0 is only an underflown sigmoid: phi = 1 "must be consolidation"."""
    ones = torch.ones(1, 1, 1, 1)
    assert e_step(f * ones, ones, ones.bool()).all()
    assert e_step(f * ones, Phi1()(torch.tensor([1]), ones), ones.bool()).all()
    assert not e_step(f * ones, ones, ~ones.bool()).any()


def test_where_phi_is_0_the_label_is_0_even_for_f_rounded_to_1() -> None:
    ones = torch.ones(1, 1, 1, 1)
    assert not e_step(ones, torch.zeros_like(ones), ones.bool()).any()


def test_a_tie_below_phi_1_is_not_consolidation() -> None:
    half = torch.full((1, 1, 1, 1), 0.5)
    assert not e_step(half, half, half.bool()).any()
    assert e_step(half + 1e-6, half, half.bool()).all()


def test_half_precision_outputs_are_compared_in_float32() -> None:
    f, x, infected = random_images(3)
    phi = Phi2()(LABELS, x)
    low = f.bfloat16()
    assert torch.equal(e_step(low, phi, infected), e_step(low.float(), phi, infected))


@pytest.mark.parametrize("b1", [-0.1, 1.1, float("nan")])
def test_phi1_refuses_what_is_no_probability(b1: float) -> None:
    with pytest.raises(ValueError, match=f"b1 of the prior phi1 is {b1}; expected a probability"):
        Phi1(b1)


@pytest.mark.parametrize(("b2", "k2"), [(float("inf"), 0.5), (9.0, -0.5), (9.0, float("inf")), (float("nan"), 1.0)])
def test_phi2_refuses_what_has_no_shape(b2: float, k2: float) -> None:
    with pytest.raises(ValueError, match=f"b2 and k2 of the prior phi2 are {b2} and {k2}; expected a finite number"):
        Phi2(b2, k2)


def test_the_papers_values_are_the_defaults() -> None:
    assert (Phi1(), Phi2()) == (Phi1(b1=1.0), Phi2(b2=9.0, k2=0.5))
