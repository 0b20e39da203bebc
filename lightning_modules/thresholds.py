"""The baseline of paper EM: a fixed HU threshold inside the predicted infected region, as published and at its best."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_modules.augment import gaussian_blur
from metrics.hu_histogram import HuHistogram, best_threshold

PUBLISHED_HU = -200.0  # paper EM, section III-B
SMOOTHING_PX = 1.0


def smooth_in_lungs(hu: Tensor, lung: Tensor) -> Tensor:
    """Take the in-plane Gaussian mean of HU (B, H, W) over lung pixels only, lest the chest wall leak in."""
    sigma = torch.full((len(hu),), SMOOTHING_PX, device=hu.device)
    weight = gaussian_blur(lung[:, None].float(), sigma)
    return (gaussian_blur((hu * lung)[:, None], sigma) / weight.clamp(min=1e-3))[:, 0]


class ThresholdBaselines(nn.Module):
    """Three thresholds: -200 HU, the best fixed one, and the best one after smoothing.

    The last two are picked on validation scans with pixel labels, never on test scans, and travel in the checkpoint.

    Attributes:
        best_hu: Scalar buffer; NaN until picked (a validation set without consolidation masks never picks).
        smoothed_hu: Scalar buffer, likewise, for smoothed HU.
    """

    names = ("threshold", "threshold_best", "threshold_smoothed")
    best_hu: Tensor
    smoothed_hu: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("best_hu", torch.tensor(float("nan")))
        self.register_buffer("smoothed_hu", torch.tensor(float("nan")))
        self.histograms = nn.ModuleList()

    def forward(self, hu: Tensor, lung: Tensor) -> dict[str, Tensor]:
        """Tell which pixels lie above each threshold, bool (B, H, W) by name; hu is float, lung bool (B, H, W)."""
        above = (hu > PUBLISHED_HU, hu > self.best_hu, smooth_in_lungs(hu, lung) > self.smoothed_hu)
        return dict(zip(self.names, above, strict=True))

    def picked(self) -> dict[str, float]:
        """Return the thresholds in HU by name; NaN where one was never picked."""
        return dict(zip(self.names, (PUBLISHED_HU, float(self.best_hu), float(self.smoothed_hu)), strict=True))

    def reset(self, num_slices: int) -> None:
        """Forget what was observed; `num_slices` rows of the validation SliceTable follow."""
        self.histograms = nn.ModuleList(HuHistogram(num_slices) for _ in range(2)).to(self.best_hu.device)

    def observe(self, hu: Tensor, lung: Tensor, infected: Tensor, target: Tensor, slice_index: Tensor) -> None:
        """Count the HU of a validation batch; all (B, H, W), target 0, 1 or -1, slice_index (B,)."""
        for histogram, values in zip(self._observed(), (hu, smooth_in_lungs(hu, lung)), strict=True):
            histogram.update(values, target, infected, lung, slice_index)

    def pick(self, scan: NDArray[np.int64]) -> None:
        """Choose both thresholds from what was observed; every rank must call it. `scan` (num_slices,): scan rows."""
        for buffer, histogram in zip((self.best_hu, self.smoothed_hu), self._observed(), strict=True):
            best = best_threshold(histogram.compute().cpu().numpy(), scan)
            buffer.fill_(float("nan") if best is None else best)

    def _observed(self) -> list[HuHistogram]:
        return [cast(HuHistogram, histogram) for histogram in self.histograms]
