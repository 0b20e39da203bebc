"""Soft-label loss of paper L3: divergence from a distribution of labels, weighted by the rarity of the classes."""

from typing import Literal

import torch
from torch import Tensor

Weighting = Literal["pixel", "class"]


def soft_label_divergence(
    logits: Tensor, target: Tensor, class_frequency: Tensor, weighting: Weighting = "pixel", exponent: float = 1.0
) -> Tensor:
    """Return the weighted KL divergence KL(q || p) of every pixel, p = softmax(logits), weights w_c = 1 - frequency_c.

    Paper L3 weights the divergence "by the complement of each class's probability", which can be read in two ways:
    `pixel`: (sum_c w_c q_c) * sum_c q_c log(q_c / p_c), whose minimum is at p = q whatever the weights; `class`, the
    literal one: sum_c w_c q_c log(q_c / p_c), whose minimum is at p_c ~ w_c q_c and which can be negative. For one-hot
    targets they are the same: weighted cross-entropy. Computed in float32 whatever the network's precision.

    Where pixels that look alike have different labels, both move the answer towards the rare classes: p_c ~ w_c times
    the share of c among such pixels. On slices that are nine tenths background a rare class counts nine times as
    much, and its volume comes out too large; with w_c^exponent, an exponent of 1/2, about three times.

    Args:
        logits: (B, C, H, W).
        target: (B, C, H, W) q, which sums to 1 over C; any values at unlabelled pixels.
        class_frequency: (C,) share of each class in the training set.
        weighting: Reading of the paper's weights.
        exponent: Power of the weights: 1 is the paper, 0 weighs all classes alike.

    Returns:
        float32 (B, H, W).
    """
    log_p, q = torch.log_softmax(logits.float(), 1), target.float()
    weight = (1 - class_frequency.float()).pow(exponent).view(1, -1, 1, 1)
    # xlogy is 0 where q is 0; so is q * log_p, since the log-softmax of finite logits is finite.
    divergence = torch.special.xlogy(q, q) - q * log_p
    if weighting == "class":
        return (weight * divergence).sum(1)
    return (weight * q).sum(1) * divergence.sum(1)


def soft_label_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    class_frequency: Tensor,
    weighting: Weighting = "pixel",
    exponent: float = 1.0,
) -> Tensor:
    """Return the mean of `soft_label_divergence` over the valid pixels of a batch; 0 where there are none.

    Args:
        logits: (B, C, H, W).
        target: (B, C, H, W) q.
        valid: (B, 1, H, W) bool, pixels with a label.
        class_frequency: (C,).
        weighting: Reading of the paper's weights.
        exponent: Power of the weights.

    Returns:
        Scalar float32.
    """
    weighted = soft_label_divergence(logits, target, class_frequency, weighting, exponent)
    divergence = torch.where(valid[:, 0], weighted, 0.0)
    return divergence.sum() / valid.sum().clamp(min=1)


def project_to_simplex(x: Tensor) -> Tensor:
    """Return the distribution nearest to x in the Euclidean sense (Duchi et al., ICML 2008, figure 1).

    Args:
        x: (B, C, ...) any real numbers.

    Returns:
        (B, C, ...) >= 0, which sums to 1 over C.
    """
    descending = x.sort(dim=1, descending=True).values
    count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype).view(1, -1, *[1] * (x.dim() - 2))
    excess = (descending.cumsum(1) - 1) / count
    positive = (descending > excess).sum(1, keepdim=True)
    return (x - excess.gather(1, positive - 1)).clamp(min=0)
