"""The priors and the E-step of paper EM (Wu et al., IEEE JBHI 2020), as pure functions.

Shapes: B images of H x W pixels. x is the normalised grey value (HU + 1024) / 110 of the central slice.
"""

import torch
from torch import Tensor


def _where_positive(weak_label: Tensor, prior: Tensor) -> Tensor:
    """The prior where z = 1, and 0 elsewhere: z = 0 rules consolidation out, and an unknown z (-1) has no prior."""
    return torch.where(weak_label.view(-1, 1, 1, 1) == 1, prior, torch.zeros_like(prior))


def phi1(weak_label: Tensor, x: Tensor, b1: float) -> Tensor:
    """Constant prior of equation 12: b1 where z = 1, 0 where z = 0.

    Args:
        weak_label: (B,) integers, z of each image's patient: 1 has consolidation, 0 has none. Images whose label is
            unknown (-1) get 0 too; they carry no information for the E-step, so leave them out of EM training.
        x: (B, 1, H, W) grey values; only their shape and device matter here.
        b1: probability in [0, 1] (paper: 1).

    Returns:
        (B, 1, H, W) float32 in [0, 1].
    """
    return _where_positive(weak_label, torch.full_like(x, b1, dtype=torch.float32))


def phi2(weak_label: Tensor, x: Tensor, b2: float, k2: float) -> Tensor:
    """HU-based prior of equation 13: min(1, sigmoid(k2 (x - b2)) + 1/2) where z = 1, 0 where z = 0.

    Args:
        weak_label: (B,) integers as in `phi1`.
        x: (B, 1, H, W) normalised grey values (HU + 1024) / 110, not augmented in intensity.
        b2: grey value from which on a pixel must be consolidation (paper: 9, which is -34 HU).
        k2: steepness per unit of x (paper: 0.5).

    Returns:
        (B, 1, H, W) float32 in [0, 1].
    """
    prior = torch.sigmoid(k2 * (x.float() - b2)) + 0.5
    return _where_positive(weak_label, prior.clamp(max=1.0))


def e_step(f: Tensor, phi: Tensor, infected: Tensor) -> Tensor:
    """Latent labels of the hard E-step, equations 10 and 37: y = 1 where f + phi > 1, inside the infected region.

    Compared as f > 1 - phi, which is exact near phi = 1, whereas f + 1 > 1 is lost to rounding in float32 as soon as
    f < 6e-8. One case is left: f = 0 and phi = 1. A sigmoid is never 0, so this f is an underflow; in exact arithmetic
    f + 1 > 1 holds, the paper says that phi = 1 "must be consolidation" and that b1 = 1 labels every pixel, and the
    authors' code (no cap at 1) labels it as well. So y = 1 wherever phi = 1. In the mirrored case, f rounded up to 1
    and phi = 0, exact arithmetic gives y = 0, and so does this function.

    Args:
        f: (B, 1, H, W) probabilities of UNet-2 in [0, 1].
        phi: (B, 1, H, W) prior from `phi1` or `phi2`.
        infected: (B, 1, H, W) bool, the region m found by UNet-1.

    Returns:
        (B, 1, H, W) bool.
    """
    phi = phi.float()
    return infected & ((f.float() > 1.0 - phi) | (phi >= 1.0))
