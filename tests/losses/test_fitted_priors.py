"""Priors that are fitted, against searches and counts written out."""

import math

import numpy as np
import pytest
import torch

from losses.fitted_priors import BINS, HIGHEST, STEEPNESS, Adapt, Learned, count_by_grey, fit_phi2

GREY = (np.arange(BINS) + 0.5) * HIGHEST / BINS


def phi2(x: float, b2: float, k2: float, ceiling: float) -> float:
    return min(ceiling, 1 / (1 + math.exp(-k2 * (x - b2))) + 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_the_likeliest_of_all_on_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    part, rest = rng.gamma(0.3, size=BINS) * (rng.uniform(4, 9) < GREY), rng.gamma(0.3, size=BINS)
    total, best, expected = part.sum() + rest.sum(), -math.inf, (math.nan, math.nan)
    for k2 in STEEPNESS:
        for number, b2 in enumerate(GREY):
            if not 0.1 <= (part[number:].sum() + rest[number:].sum()) / total <= 0.6:
                continue  # too little or too much lies above
            phi = [phi2(x, b2, k2, 0.999) for x in GREY]
            value = sum(a * math.log(f) + b * math.log(1 - f) for a, b, f in zip(part, rest, phi, strict=True))
            if value > best + 1e-9:
                best, expected = value, (b2, k2)
    assert fit_phi2(torch.from_numpy(part), torch.from_numpy(rest), 0.999, 0.1, 0.6) == pytest.approx(expected)


@pytest.mark.parametrize("centre", [5.05, 7.45, 9.05])
def test_labels_drawn_with_phi2_give_back_its_centre(centre: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 12, 400_000)
    finding = rng.random(len(x)) < [phi2(value, centre, 1.0, 0.9999) for value in x]
    grey = torch.from_numpy(x)
    part, rest = (count_by_grey(grey, torch.from_numpy(weight.astype(float))) for weight in (finding, ~finding))
    b2, k2 = fit_phi2(part, rest, 0.9999, 0.05, 1.0)
    assert b2 == pytest.approx(centre, abs=0.11)
    assert k2 == pytest.approx(1.0, rel=0.45)  # the grid's next is half as much again


def test_a_refit_goes_half_the_way_and_no_evidence_leaves_the_prior_as_it_is() -> None:
    part, rest = torch.zeros(BINS, dtype=torch.float64), torch.zeros(BINS, dtype=torch.float64)
    prior = Learned(b2=5.0, k2=0.5)
    assert prior.refitted(part, rest) is prior
    part[85:], rest[:85] = 10, 30
    b2, k2 = fit_phi2(part, rest, prior.ceiling, prior.least, prior.most)
    moved = prior.refitted(part, rest)
    assert moved.b2 == pytest.approx((5.0 + b2) / 2)
    assert moved.k2 == pytest.approx(math.sqrt(0.5 * k2))


def test_a_falling_prior_is_the_rising_one_seen_from_the_other_end() -> None:
    rng = np.random.default_rng(3)
    part, rest = (torch.from_numpy(rng.gamma(0.3, size=BINS)) for _ in range(2))
    rising, falling = (
        Learned(4.0, 1.5).refitted(part, rest),
        Learned(HIGHEST - 4.0, -1.5).refitted(part.flip(0), rest.flip(0)),
    )
    assert falling.b2 == pytest.approx(HIGHEST - rising.b2)
    assert falling.k2 == pytest.approx(-rising.k2)
    x, z = torch.linspace(0, HIGHEST, 50).view(1, 1, 5, 10), torch.tensor([1])
    assert torch.allclose(falling(z, x), rising(z, HIGHEST - x), atol=1e-5)


def test_where_no_centre_has_a_share_between_the_bounds_the_highest_with_the_least_is_taken() -> None:
    part, rest = torch.zeros(BINS, dtype=torch.float64), torch.zeros(BINS, dtype=torch.float64)
    part[60], rest[30] = 8, 2
    assert fit_phi2(part, rest, 0.999, 0.1, 0.5)[0] == pytest.approx(GREY[60])


def test_greys_are_counted_in_bins_of_a_tenth_and_none_is_lost() -> None:
    counts = count_by_grey(torch.tensor([[-3.0, 0.05], [0.1001, 99.0]]), torch.tensor([[1.0, 2.0], [4.0, 8.0]]))
    assert counts[[0, 1, BINS - 1]].tolist() == [3, 4, 8]
    assert counts.sum() == 15


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_adapt_lifts_just_the_share_of_the_region(share: float) -> None:
    rng = torch.Generator().manual_seed(1)
    odds = torch.randn(3, 1, 7, 9, generator=rng) * 4 - 6
    region = torch.rand(3, 1, 7, 9, generator=rng) < 0.5
    region[2] = False
    phi = Adapt(share).given_network(torch.tensor([1, 0, 1]), odds, odds, region)
    assert (phi[1] == 0).all()
    assert (phi[2] == 0.5).all(), "nothing is known of an empty region"
    bias = torch.logit(phi[0, 0, 0, 0].double())
    lifted = (odds[0][region[0]].double() + bias > -1e-4).sum()
    assert lifted == math.ceil(share * region[0].sum())


def test_adapt_lifts_nothing_where_the_share_is_there_already() -> None:
    odds = torch.full((1, 1, 4, 4), 3.0)
    assert (Adapt(0.5).given_network(torch.tensor([1]), odds, odds, odds > 0) == 0.5).all()


@pytest.mark.parametrize(
    "values",
    [
        {"b2": math.nan},
        {"k2": 0.0},
        {"ceiling": 1.0},
        {"ceiling": 0.5},
        {"least": 0.0},
        {"least": 0.6},
        {"most": 1.1},
        {"pace": 0.0},
        {"pace": 1.1},
    ],
)
def test_learned_refuses_what_has_no_shape(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="of the prior Learned"):
        Learned(**values)


def test_adapt_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match=r"share of the prior Adapt is 1\.0"):
        Adapt(1.0)
