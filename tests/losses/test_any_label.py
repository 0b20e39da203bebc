"""The posterior of a pixel's leaf, against what its definition gives pixel by pixel, without torch."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from losses.dice import leaf_dice_loss
from losses.em import Phi1, Phi2, e_step, posterior, temper_part, unpack_leaves, weigh_part

Array = NDArray[np.float64]
SHAPE = (3, 5, 7, 4)  # leaves: background, lungs, three opacities
WHOLE, PART = (2, 3, 4), (4,)


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities, allowed leaves (at least one) and phi of random pixels."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(5, 0.3), (3, 7, 4)).transpose(0, 3, 1, 2)
    allowed = rng.random(SHAPE) < 0.6
    allowed[:, 2] |= ~allowed.any(1)
    phi = rng.choice([0.0, 0.2, 0.5, 0.9, 1.0], (3, 1, 7, 4))
    return torch.from_numpy(p).float(), torch.from_numpy(allowed), torch.from_numpy(phi).float()


def brute_posterior(
    p: Array, allowed: NDArray[np.bool_], phi: float, part: tuple[int, ...], whole: tuple[int, ...]
) -> Array:
    """One pixel by the definition: Bayes over the allowed leaves; then Bayes inside the whole, whose mass stays."""
    q = np.array([p[c] if allowed[c] else 0.0 for c in range(len(p))])
    q = q / q.sum() if q.sum() else allowed / allowed.sum()
    weighed = {c: q[c] * (phi if c in part else 1 - phi) for c in whole}
    mass, total = sum(q[c] for c in whole), sum(weighed.values())
    if total:
        for c in whole:
            q[c] = mass * weighed[c] / total
    return q


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("part", "whole"), [(PART, WHOLE), ((2, 3), WHOLE), ((2, 3, 4), (0, 1, 2, 3, 4)), ((3,), (3, 4))]
)
def test_the_posterior_is_bayes_over_allowed_leaves_and_inside_the_whole(
    seed: int, part: tuple[int, ...], whole: tuple[int, ...]
) -> None:
    p, allowed, phi = drawn(seed)
    q = weigh_part(posterior(p, allowed), phi, part, whole).double().numpy()
    assert np.allclose(q.sum(1), 1, atol=1e-6)
    for b, h, w in np.ndindex(3, 7, 4):
        pixel = (p[b, :, h, w].double().numpy(), allowed[b, :, h, w].numpy(), float(phi[b, 0, h, w]))
        assert np.allclose(q[b, :, h, w], brute_posterior(*pixel, part, whole), atol=2e-6)


def test_the_e_step_of_paper_em_is_the_hard_step_with_two_leaves_inside_the_region() -> None:
    """Equation 37: y = 1 where f + phi > 1 inside UNet-1's region, for z = 1 and z = 0 alike."""
    rng = torch.Generator().manual_seed(3)
    f = torch.sigmoid(4 * torch.randn(4, 1, 9, 11, generator=rng))
    x, infected = 12 * torch.rand(4, 1, 9, 11, generator=rng), torch.rand(4, 1, 9, 11, generator=rng) < 0.6
    z = torch.tensor([1, 0, 1, 1])
    # Outside the region a mask allows what is not infected alone.
    allowed = torch.cat([~infected, infected, infected], 1)
    p = torch.cat([torch.full_like(f, 0.1), 0.9 * (1 - f), 0.9 * f], 1)
    for prior in (Phi2(), Phi2(7.5, 1.0), Phi1(0.7)):
        phi = prior(z, x)
        leaf = weigh_part(posterior(p, allowed), phi, (2,), (1, 2)).argmax(1, keepdim=True)
        edge = (f.double() + phi.double() - 1).abs() < 1e-5
        assert edge.float().mean() < 0.05
        y = e_step(f, phi, infected)
        assert 0.05 < y.float().mean() < 0.6
        assert torch.equal((leaf == 2) | edge, y | edge)


def test_where_phi_is_1_the_label_is_the_part_however_small_its_probability() -> None:
    p = torch.tensor([1.0, 0.0, 1e-30]).view(1, 3, 1, 1)
    allowed = torch.tensor([True, True, True]).view(1, 3, 1, 1)
    q = weigh_part(posterior(p, allowed), torch.ones(1, 1, 1, 1), (2,), (0, 1, 2))
    assert q[0, :, 0, 0].tolist() == [0, 0, 1]
    # ... unless a mask rules the part out, which knows more.
    q = weigh_part(
        posterior(p, torch.tensor([True, True, False]).view(1, 3, 1, 1)), torch.ones(1, 1, 1, 1), (2,), (0, 1, 2)
    )
    assert q[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0])


def test_a_pixel_with_one_allowed_leaf_is_that_leaf_and_one_without_evidence_is_the_network() -> None:
    p, _, _ = drawn(0)
    one = torch.zeros(SHAPE, dtype=torch.bool)
    one[:, 3] = True
    assert torch.equal(posterior(p, one), one.float())
    assert torch.allclose(posterior(p, torch.ones_like(one)), p, atol=1e-6)


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_tempering_raises_the_odds_inside_the_part_and_keeps_its_mass(power: float) -> None:
    p, allowed, _ = drawn(2)
    q = posterior(p, allowed)
    tempered = temper_part(q, WHOLE, power).double().numpy()
    for b, h, w in np.ndindex(3, 7, 4):
        before, after = q[b, :, h, w].double().numpy(), tempered[b, :, h, w]
        weight = np.array([before[c] ** power if before[c] else 0 for c in WHOLE])
        expected = before[list(WHOLE)].sum() * weight / max(weight.sum(), 1e-300)
        assert np.allclose(after[list(WHOLE)], expected, atol=1e-6)
        assert np.allclose(after[:2], before[:2], atol=1e-6)


def test_leaves_are_unpacked_from_bits() -> None:
    allowed = torch.tensor([[0b11111, 0b00100], [0b11100, 0b00001]], dtype=torch.int16).view(1, 1, 2, 2)
    unpacked = unpack_leaves(allowed, 5)[0].permute(1, 2, 0).tolist()
    for row, bits in zip(unpacked, [["11111", "00100"], ["11100", "00001"]], strict=True):
        assert [[bool(int(bit)) for bit in reversed(text)] for text in bits] == row


def test_the_leaf_dice_is_the_mean_of_one_minus_dice_by_leaf() -> None:
    p, _, _ = drawn(1)
    rng = np.random.default_rng(1)
    target = rng.dirichlet(np.full(5, 0.2), (3, 7, 4)).transpose(0, 3, 1, 2)
    valid = rng.random((3, 1, 7, 4)) < 0.7
    loss = leaf_dice_loss(p.log(), torch.from_numpy(target), torch.from_numpy(valid), WHOLE)
    dice = []
    for leaf in WHOLE:
        a, b = (p[:, leaf].numpy() * valid[:, 0]).sum(), (target[:, leaf] * valid[:, 0]).sum()
        both = (p[:, leaf].numpy() * target[:, leaf] * valid[:, 0]).sum()
        dice.append((2 * both + 1) / (a + b + 1))
    assert float(loss) == pytest.approx(1 - np.mean(dice), abs=1e-5)
