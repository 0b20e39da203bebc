"""Priors that are fitted to the scans: to the network's answer to a slice, or to all latent labels after an E-step."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ct.refusal import Refusal
from losses.em import SAYS_NOTHING, Prior, where_positive

# Grey values x of the counts to which a prior is fitted: 0 to 14, which is -1024 to 516 HU, in steps of 11 HU.
BINS, HIGHEST = 140, 14.0
# 0.5 to 8 per 110 HU. Less is no edge between greys: phi would be near 1 everywhere, and so would what it labels.
STEEPNESS = tuple(0.5 * 2 ** (step / 2) for step in range(9))


@dataclass(frozen=True)
class Adapt(Prior):
    """The adaptive bias of EM-Adapt (Papandreou et al., ICCV 2015): at least a share of the region is the finding.

    Each slice has its own bias: the smallest number, not below 0, that lifts the log odds of the finding above 0 at
    that share of the pixels of its region. As a prior it is phi = sigmoid(bias), the same at every pixel.

    Attributes:
        share: Share of the region in (0, 1).

    Raises:
        Refusal: It is no such share.
    """

    sees_network: ClassVar[bool] = True
    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise Refusal("share of the prior Adapt is {share}; expected a number between 0 and 1", share=self.share)

    def __call__(self, weak_label: Tensor, x: Tensor) -> Tensor:
        return where_positive(weak_label, torch.full_like(x, SAYS_NOTHING, dtype=torch.float32))

    def given_network(self, weak_label: Tensor, x: Tensor, log_odds: Tensor, region: Tensor) -> Tensor:
        bias = torch.zeros(len(x), device=x.device)
        for image in range(len(x)):
            odds = log_odds[image][region[image]]
            if len(odds):  # the share of them, rounded up, that lie highest
                lowest = odds.sort(descending=True).values[math.ceil(self.share * len(odds)) - 1]
                bias[image] = (-lowest).clamp(min=0)
        return where_positive(weak_label, torch.sigmoid(bias).view(-1, 1, 1, 1).expand_as(x))


@dataclass(frozen=True)
class Learned(Prior):
    """Prior phi2 (equation 13) whose centre and steepness are fitted to the posterior after each E-step.

    The fit maximises sum_j [q_j log phi(x_j) + (1 - q_j) log(1 - phi(x_j))] over the pixels j of the region in scans
    that have the finding, with q_j the probability of the finding there; then it goes a part of the way. So no HU
    constant is needed: grey values that are only declared move the centre with them.

    phi stays below 1: at 1 a pixel is the finding whatever the network says, its log-likelihood is minus infinity
    wherever q is below 1, and no fit could take the centre back.

    Attributes:
        b2: Where the centre starts, in units of x.
        k2: Steepness at the start, per unit of x. Below 0 the prior falls, for a finding that is darker than the rest
            of its region, as ground glass is than consolidation; `least` and `most` then hold below the centre.
        ceiling: Largest phi.
        least: Share of the region that must lie above the centre, or a finding that is rare at first would be lost.
        most: Share of it that may, or what is labelled at first would take everything where nearly all scans have it.
        pace: How far the prior goes towards the fit, 1 all the way.

    Raises:
        Refusal: A number is not in its range.
    """

    b2: float = 7.5
    k2: float = 1.0
    ceiling: float = 0.9999
    least: float = 0.1
    most: float = 0.5
    pace: float = 0.5

    def __post_init__(self) -> None:
        ranges = {"ceiling": (0.5, 1), "least": (0, self.most), "most": (0, 1), "pace": (0, 1)}
        if not (math.isfinite(self.b2) and 0 < abs(self.k2) < math.inf):
            raise Refusal(
                "b2 and k2 of the prior Learned are {b2} and {k2}; expected finite numbers, the second not 0",
                b2=self.b2,
                k2=self.k2,
            )
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not (low < value < high or (name in ("most", "pace") and value == high)):
                text = "{name} of the prior Learned is {value}; expected a number between {low} and {high}"
                raise Refusal(text, name=name, value=value, low=low, high=high)

    def __call__(self, weak_label: Tensor, x: Tensor) -> Tensor:
        return where_positive(weak_label, capped_phi2(x, self.b2, self.k2, self.ceiling))

    def refitted(self, part: Tensor, rest: Tensor) -> Self:
        """Return the prior after an E-step.

        Args:
            part: float64 (BINS,), summed probability of the finding by grey value, see `count_by_grey`.
            rest: float64 (BINS,), of the rest of the region.
        """
        if not (part + rest).sum() > 0:
            return self
        if self.k2 < 0:  # the same, seen from the other end of the greys
            mirrored = replace(self, b2=HIGHEST - self.b2, k2=-self.k2).refitted(part.flip(0), rest.flip(0))
            return replace(self, b2=HIGHEST - mirrored.b2, k2=-mirrored.k2)
        b2, k2 = fit_phi2(part, rest, self.ceiling, self.least, self.most)
        k2 = math.exp((1 - self.pace) * math.log(self.k2) + self.pace * math.log(k2))
        return replace(self, b2=(1 - self.pace) * self.b2 + self.pace * b2, k2=k2)


def capped_phi2(x: Tensor, b2: float, k2: float, ceiling: float) -> Tensor:
    """Return min(ceiling, sigmoid(k2 (x - b2)) + 1/2), equation 13 with another cap, float32 of x's shape."""
    return (torch.sigmoid(k2 * (x.float() - b2)) + 0.5).clamp(max=ceiling)


def count_by_grey(x: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of weights by grey value, float64 (BINS,).

    Args:
        x: Grey values of any shape; those beyond the bins count in the outermost ones.
        weight: As many weights.
    """
    index = (x.flatten().float() * (BINS / HIGHEST)).long().clamp(0, BINS - 1)
    return torch.zeros(BINS, dtype=torch.float64, device=x.device).index_add_(0, index, weight.flatten().double())


def fit_phi2(part: Tensor, rest: Tensor, ceiling: float, least: float, most: float) -> tuple[float, float]:
    """Return the centre and steepness of phi2 that make counts of a finding likeliest, of all on a grid.

    Args:
        part: float64 (BINS,), how much of the finding has each grey value.
        rest: float64 (BINS,), how much else has it; together more than nothing.
        ceiling: Largest phi.
        least: Share of all that must lie at or above the centre.
        most: Share of all that may lie there; where no centre fits both, the highest that has the least is taken.

    Returns:
        (b2, k2): the middle of a bin, and one of `STEEPNESS`.
    """
    part, rest = part.cpu().double(), rest.cpu().double()
    grey = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (HIGHEST / BINS)
    above = (part + rest).flip(0).cumsum(0).flip(0) / (part + rest).sum()
    centres = grey[(above >= least) & (above <= most)]
    if not len(centres):
        centres = grey[above >= least][-1:]
    steepness = torch.tensor(STEEPNESS, dtype=torch.float64)
    phi = torch.sigmoid(steepness[:, None, None] * (grey - centres[:, None])) + 0.5
    phi = phi.clamp(max=ceiling)
    likelihood = (part * phi.log() + rest * (1 - phi).log()).sum(-1)
    best = int(likelihood.argmax())
    return float(centres[best % len(centres)]), float(steepness[best // len(centres)])
