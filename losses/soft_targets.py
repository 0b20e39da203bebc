"""Target distributions of paper L3, from the labels of one or several readers."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.noise import HALF_MM_BINS, NoiseModel
from losses.soft_label import project_to_simplex

Draw = Literal["mean", "independent", "correlated"]


class SoftTargets(nn.Module):
    """Moments of a pixel's label, from the votes of several readers or from the noise model for one reader's label.

    The tables are buffers, so that a checkpoint needs no file beside it.

    Args:
        classes: C.
        noise_model: File of the noise model; empty takes single labels as certain, until weights are loaded.
    """

    mean_table: Tensor
    class_factor: Tensor
    correlation_mm: Tensor

    def __init__(self, classes: int, noise_model: str = "") -> None:
        super().__init__()
        table = torch.eye(classes).view(classes, 1, 1, classes).repeat(1, classes, HALF_MM_BINS, 1)
        factor, length_mm = torch.eye(classes), 0.0
        if noise_model:
            model = NoiseModel.load(Path(noise_model))
            if model.mean.shape != tuple(table.shape):
                raise ValueError(f"{noise_model} is for {len(model.mean)} classes; expected {classes}; make it again")
            table, length_mm = torch.from_numpy(model.mean).float(), model.correlation_mm
            factor = torch.from_numpy(_factor(model.class_correlation)).float()
        self.register_buffer("mean_table", table)
        self.register_buffer("class_factor", factor)
        self.register_buffer("correlation_mm", torch.tensor(length_mm))

    def forward(self, label: Tensor, border: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of the label of every pixel.

        Args:
            label: int8 (B, 1, H, W) classes, -1 where unlabelled.
            border: uint8 (B, 2, H, W): class across the nearest border, distance to it in half mm.
            votes: uint8 (B, C, H, W): readers who chose each class; all 0 where one reader labelled the pixel.

        Returns:
            float32 (B, C, H, W) each; the mean sums to 1, at unlabelled pixels too.
        """
        c, k, d = label[:, 0].clamp(min=0).long(), border[:, 0].long(), border[:, 1].long()
        mean = self.mean_table[c, k, d].movedim(-1, 1)
        readers = votes.sum(1, keepdim=True, dtype=torch.float32)
        mean = torch.where(readers > 0, votes / readers.clamp(min=1), mean)
        return mean, (mean * (1 - mean)).clamp(min=0).sqrt()

    def draw(self, mean: Tensor, deviation: Tensor, kind: Draw, pixel_mm: float, generator: torch.Generator) -> Tensor:
        """Draw a target: the mean itself, or mean + Gaussian noise projected to the simplex (paper L3, section 5).

        Args:
            mean: float32 (B, C, H, W).
            deviation: float32 (B, C, H, W).
            kind: `mean`; `independent` noise of every pixel and class; `correlated` in space and between classes, as
                the residuals of the reader study are.
            pixel_mm: Pixel size, for the correlation length.
            generator: Random numbers.

        Returns:
            float32 (B, C, H, W), a distribution over C.
        """
        if kind == "mean":
            return mean
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        if kind == "correlated":
            noise = torch.einsum("cd,bdhw->bchw", self.class_factor, self._blur(noise, pixel_mm))
        return project_to_simplex(mean + deviation * noise)

    def _blur(self, noise: Tensor, pixel_mm: float) -> Tensor:
        """Blur white noise by the correlation length and rescale it to variance 1."""
        sigma_px = (self.correlation_mm / pixel_mm).clamp(min=1e-3)
        # The radius is fixed so that the device is not synchronised; the study's lengths are a few pixels.
        offsets = torch.arange(-12, 13, device=noise.device, dtype=noise.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()
        flat = noise.flatten(0, 1)[:, None]
        flat = F.conv2d(F.pad(flat, (12, 12, 0, 0), mode="circular"), kernel.view(1, 1, 1, -1))
        flat = F.conv2d(F.pad(flat, (0, 0, 12, 12), mode="circular"), kernel.view(1, 1, -1, 1))
        return flat.view_as(noise)


def _factor(correlation: np.ndarray) -> np.ndarray:
    """Return L with L L^T = correlation, which may be singular: the residuals of all classes sum to 0."""
    values, vectors = np.linalg.eigh(correlation)
    return np.asarray(vectors * np.sqrt(values.clip(min=0)))
