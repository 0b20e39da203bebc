"""Priors and E-step of paper EM (Wu et al., IEEE JBHI 2020), and of any mixture of labels (docs/any_label.md).

Shapes: B images of H x W pixels, C leaves of a class set. x is the normalised grey value (HU + 1024) / 110 of the
central slice.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ct.refusal import Refusal

# Probabilities of a softmax are never 0: what underflows counts as this.
TINY = torch.finfo(torch.float32).tiny
SAYS_NOTHING = 0.5  # phi for which equation 37 leaves the network's answer as it is


class Prior(ABC):
    """Prior phi(z, x): probability of consolidation at a pixel before any network has seen it.

    A prior is a frozen dataclass that derives from this. An experiment names its class under `model.prior`; its fields
    are the `init_args` there, and what a checkpoint keeps.

    Attributes:
        sees_network: Whether it looks at the network's answer (see `given_network`).
    """

    sees_network: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, weak_label: Tensor, x: Tensor) -> Tensor:
        """Return the prior of every pixel.

        Args:
            weak_label: (B,) integers, z of each image's patient: 1 has consolidation, 0 has none. Images whose label is
                unknown (-1) get 0 too; they carry no information for the E-step, so leave them out of EM training.
            x: (B, 1, H, W) normalised grey values (HU + 1024) / 110, not augmented in intensity.

        Returns:
            (B, 1, H, W) float32 in [0, 1].
        """

    def given_network(self, weak_label: Tensor, x: Tensor, log_odds: Tensor, region: Tensor) -> Tensor:
        """Return the prior of every pixel for a network's answer, which most priors do not look at.

        Args:
            weak_label: As above.
            x: As above.
            log_odds: (B, 1, H, W) float32, of the likeliest leaf of the finding against the likeliest other one.
            region: (B, 1, H, W) bool, where the finding may be.
        """
        return self(weak_label, x)


def where_positive(weak_label: Tensor, prior: Tensor) -> Tensor:
    """Return the prior (B, 1, H, W) where z = 1, and 0 elsewhere.

    z = 0 rules consolidation out, and an unknown z (-1) has no prior.
    """
    return torch.where(weak_label.view(-1, 1, 1, 1) == 1, prior, torch.zeros_like(prior))


@dataclass(frozen=True)
class Phi1(Prior):
    """Constant prior of equation 12: b1 where z = 1, 0 where z = 0.

    Attributes:
        b1: Probability in [0, 1] (paper: 1).

    Raises:
        Refusal: b1 is no probability.
    """

    b1: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.b1 <= 1:
            raise Refusal("b1 of the prior phi1 is {b1}; expected a probability, from 0 to 1", b1=self.b1)

    def __call__(self, weak_label: Tensor, x: Tensor) -> Tensor:
        return where_positive(weak_label, torch.full_like(x, self.b1, dtype=torch.float32))


@dataclass(frozen=True)
class Phi2(Prior):
    """HU-based prior of equation 13: min(1, sigmoid(k2 (x - b2)) + 1/2) where z = 1, 0 where z = 0.

    Attributes:
        b2: Grey value x from which on a pixel must be consolidation (paper: 9, which is -34 HU).
        k2: Steepness per unit of x, which is 110 HU (paper: 0.5).

    Raises:
        Refusal: b2 is not finite, or k2 is negative or not finite.
    """

    b2: float = 9.0
    k2: float = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.b2) and 0 <= self.k2 < math.inf):
            raise Refusal(
                "b2 and k2 of the prior phi2 are {b2} and {k2}; expected a finite number, and one from 0 on",
                b2=self.b2,
                k2=self.k2,
            )

    def __call__(self, weak_label: Tensor, x: Tensor) -> Tensor:
        prior = torch.sigmoid(self.k2 * (x.float() - self.b2)) + 0.5
        return where_positive(weak_label, prior.clamp(max=1.0))


def e_step(f: Tensor, phi: Tensor, infected: Tensor) -> Tensor:
    """Return the latent labels of the hard E-step, equations 10 and 37: y = 1 where f + phi > 1, inside the infection.

    Compared as f > 1 - phi, which is exact near phi = 1, whereas f + 1 > 1 is lost to rounding in float32 as soon as
    f < 6e-8. One case is left: f = 0 and phi = 1. A sigmoid is never 0, so this f is an underflow; in exact arithmetic
    f + 1 > 1 holds, the paper says that phi = 1 "must be consolidation" and that b1 = 1 labels every pixel, and the
    authors' code (no cap at 1) labels it as well. So y = 1 wherever phi = 1. In the mirrored case, f rounded up to 1
    and phi = 0, exact arithmetic gives y = 0, and so does this function.

    Args:
        f: (B, 1, H, W) probabilities of UNet-2 in [0, 1].
        phi: (B, 1, H, W) from a `Prior`.
        infected: (B, 1, H, W) bool, the region m found by UNet-1.

    Returns:
        (B, 1, H, W) bool.
    """
    phi = phi.float()
    return infected & ((f.float() > 1.0 - phi) | (phi >= 1.0))


# -- any label: docs/any_label.md says how these are read --------------------------------------------------------------


def unpack_leaves(allowed: Tensor, leaves: int) -> Tensor:
    """Return which leaves a pixel may have, bool (B, C, H, W), from a bit for each in integers (B, 1, H, W)."""
    shift = torch.arange(leaves, device=allowed.device, dtype=torch.int32).view(1, -1, 1, 1)
    return (allowed.to(torch.int32) >> shift & 1).bool()


def posterior(p: Tensor, allowed: Tensor) -> Tensor:
    """Return q(c) ~ p(c) [c allowed], the posterior of a pixel's leaf by the network and its masks.

    Args:
        p: (B, C, H, W) probabilities of the network.
        allowed: (B, C, H, W) bool, at least one leaf at each pixel.

    Returns:
        float32 (B, C, H, W), sums to 1 over C; where one leaf is allowed, that leaf.
    """
    q = p.float().clamp(min=TINY) * allowed
    return q / q.sum(1, keepdim=True)


def temper_part(q: Tensor, part: Sequence[int], power: float) -> Tensor:
    """Return q with the odds between the leaves of a part raised to a power; how likely the part is stays as it was.

    With a power below 1 a network's guess counts for less than what labels say. Where a mask leaves several leaves
    possible, plain EM (power 1) strengthens whichever is ahead, and the others may die out before labels elsewhere have
    taught what tells them apart: deterministic annealing EM (Ueda and Nakano, Neural Networks 1998).

    Args:
        q: (B, C, H, W), sums to 1 over C.
        part: Leaves whose odds are changed.
        power: From 0, which gives all possible leaves of the part alike, to 1, which changes nothing.

    Returns:
        float32 (B, C, H, W), sums to 1 over C; what was 0 stays 0.
    """
    if power == 1:
        return q
    inside = q[:, list(part)].float()
    mass = inside.sum(1, keepdim=True)
    weighed = (inside / inside.amax(1, keepdim=True).clamp(min=TINY)).clamp(min=TINY).pow(power) * (inside > 0)
    result = q.float().clone()
    result[:, list(part)] = weighed * (mass / weighed.sum(1, keepdim=True).clamp(min=TINY))
    return result


def weigh_part(q: Tensor, phi: Tensor, part: Sequence[int], whole: Sequence[int]) -> Tensor:
    """Return q after a prior has said how likely a finding is inside a larger one: equation 37 for several leaves.

    Inside the whole, leaves of the part are weighed by phi and the others by 1 - phi. How likely the whole itself is
    stays as it was: the paper's phi holds inside the region that UNet-1 found, and says nothing of where that is.

    Args:
        q: (B, C, H, W), sums to 1 over C.
        phi: (B, 1, H, W) or (B, 1, 1, 1) in [0, 1].
        part: Leaves of the finding.
        whole: Leaves of what it is a part of, those of the finding among them.

    Returns:
        float32 (B, C, H, W), sums to 1 over C. Where phi rules out every leaf of the whole that q holds possible, q
        stays: a mask knows more than a prior.
    """
    phi, inside = phi.float(), list(whole)
    factor = torch.cat([phi if leaf in part else 1 - phi for leaf in inside], 1)
    before = q[:, inside]
    # The largest is 1, so that nothing underflows that is not much smaller.
    scale = before.amax(1, keepdim=True).clamp(min=TINY)
    weighed = (before / scale).clamp(min=TINY) * (before > 0) * factor
    total = weighed.sum(1, keepdim=True)
    share = torch.where(
        total > 0, weighed / total.clamp(min=TINY), before / before.sum(1, keepdim=True).clamp(min=TINY)
    )
    result = q.float().clone()
    result[:, inside] = share * before.sum(1, keepdim=True)
    return result
