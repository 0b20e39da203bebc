"""Smooth Dice loss of paper EM (equations 2 and 11)."""

from collections.abc import Sequence

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor

SIGMA = 1.0  # the paper's smoothing parameter


def dice_loss(logits: Tensor, target: Tensor, valid: Tensor | None = None, batch: bool = False) -> Tensor:
    """Return the mean over images of 1 - (2 l.f + sigma) / (|l| + |f| + sigma), with f = sigmoid(logits).

    Equation 2 has the minus sign without the 1: same gradient, but this loss is 0 for a perfect prediction. It is
    MONAI's DiceLoss with both smoothing terms set to sigma, computed in float32 whatever the network's precision, since
    sums over an image overflow half precision. Per image, the mean over ranks equals the mean over all images; with
    `batch` it does not.

    Args:
        logits: (B, C, H, W) before the sigmoid.
        target: (B, C, H, W) labels in {0, 1}, any dtype; ignored at pixels that are not valid.
        valid: (B, 1, H, W) bool, pixels that count; all of them if None.
        batch: Whether to compute one Dice over all pixels of the batch instead of one per image.

    Returns:
        Scalar float32 in [0, 1].
    """
    probability, label = torch.sigmoid(logits.float()), target.float()
    if valid is not None:
        probability, label = probability * valid, torch.where(valid, label, 0.0)
    loss: Tensor = DiceLoss(smooth_nr=SIGMA, smooth_dr=SIGMA, batch=batch)(probability, label)
    return loss


def leaf_dice_loss(logits: Tensor, target: Tensor, valid: Tensor, leaves: Sequence[int]) -> Tensor:
    """Return 1 - Dice over a batch, averaged over leaves, of softmax probabilities and hard or soft labels.

    Args:
        logits: (B, C, H, W) before the softmax.
        target: (B, C, H, W) a distribution over C.
        valid: (B, 1, H, W) bool, pixels that count.
        leaves: Which of the C count; the background is best left out.

    Returns:
        Scalar float32 in [0, 1].
    """
    chosen = list(leaves)
    probability = torch.softmax(logits.float(), 1)[:, chosen] * valid
    label = torch.where(valid, target.float()[:, chosen], 0.0)
    loss: Tensor = DiceLoss(smooth_nr=SIGMA, smooth_dr=SIGMA, batch=True)(probability, label)
    return loss
