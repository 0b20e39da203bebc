"""Augmentation of whole batches on the device, drawn from an explicit generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far training slices are moved and how much the acquisition is varied; zero turns a part off.

    The defaults are paper EM's (its authors' code). The acquisition part changes the network's input only, never the
    HU the E-step's prior sees.

    Attributes:
        rotation_deg: Largest rotation to either side.
        shift: Largest translation as a share of the side.
        zoom: Largest relative change of size.
        flip: Mirror left-right and front-back with probability 1/2 each.
        offset_hu: Standard deviation of a constant added per slice stack.
        noise_hu: Largest standard deviation of white noise.
        blur_px: Largest standard deviation of an in-plane Gaussian blur.
        contrast: How much local contrast is changed at most: 1.0 halves to doubles how far a pixel lies from the mean
            of what the network sees around it (the lung, where that is all), as enhanced or narrow display windows do.
        alone: Share of the slices whose neighbours in the input are replaced by the slice itself: a single image comes
            without neighbours, and thin slices hardly differ from theirs.
    """

    rotation_deg: float = 90.0
    shift: float = 0.1
    zoom: float = 0.1
    flip: bool = True
    offset_hu: float = 0.0
    noise_hu: float = 0.0
    blur_px: float = 0.0
    contrast: float = 0.0
    alone: float = 0.0

    def __post_init__(self) -> None:
        """Check every amount.

        Raises:
            ValueError: An amount is negative or no number, or images would be enlarged without end.
        """
        for name in ("rotation_deg", "shift", "zoom", "offset_hu", "noise_hu", "blur_px", "contrast", "alone"):
            amount, limit = getattr(self, name), 1 if name in ("zoom", "alone") else math.inf
            if not 0 <= amount < limit:
                raise ValueError(f"model.augmentation.{name} is {amount}; expected a number from 0 on, below {limit}")


def draw_affine(batch_size: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Draw random rotation, zoom, shift and flips for each image.

    Returns:
        float32 (batch_size, 2, 3) on the generator's device, as `torch.nn.functional.affine_grid` takes it.
    """
    uniform = torch.rand(batch_size, 4, generator=generator, device=generator.device) * 2 - 1
    angle = uniform[:, 0] * math.radians(augmentation.rotation_deg)
    scale = 1 / (1 + uniform[:, 1] * augmentation.zoom)
    coin = torch.rand(batch_size, 2, generator=generator, device=generator.device) < 0.5
    mirror = torch.where(coin & augmentation.flip, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    # In units of half the side, so a shift of 0.1 moves by 10 % of the side.
    shift = uniform[:, 2:] * augmentation.shift * 2
    rows = [torch.stack([cos, -sin], 1) * mirror[:, :1], torch.stack([sin, cos], 1) * mirror[:, 1:]]
    return torch.cat([torch.stack(rows, 1), shift[:, :, None]], 2)


def affine_grid(theta: Tensor, shape: Sequence[int]) -> Tensor:
    """Return where each pixel of images (B, C, H, W) comes from by theta (B, 2, 3): float32 (B, H, W, 2).

    Does as `torch.nn.functional.affine_grid`, which multiplies matrices of three columns and takes four times as long.
    """
    y, x = ((torch.arange(side, device=theta.device) * 2 + 1) / side - 1 for side in shape[-2:])
    along_y = y[:, None] * theta[:, None, :, 1] + theta[:, None, :, 2]
    return torch.addcmul(along_y[:, :, None], x[:, None], theta[:, None, None, :, 0])


def warp(images: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Resample float (B, C, H, W) at a grid (B, H, W, 2); what comes from outside is 0.

    Args:
        images: The images.
        grid: Where each pixel comes from, -1 to 1 over the image.
        mode: bilinear or nearest.

    Returns:
        float (B, C, H, W); what is interpolated is laid out `channels_last`, as the networks compute.
    """
    moved = F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return moved if mode == "nearest" else moved.contiguous(memory_format=torch.channels_last)


def gaussian_blur(images: Tensor, sigma_px: Tensor, radius: int = 3) -> Tensor:
    """Blur (B, C, H, W) in plane, each image by its own sigma.

    Args:
        images: float (B, C, H, W).
        sigma_px: float (B,), standard deviation in pixels; 0 leaves the image as it is.
        radius: Half width of the kernel in pixels.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma_px[:, None].to(images).clamp(min=1e-3) ** 2), dim=1)
    batch, channels = images.shape[:2]
    flat = images.reshape(1, batch * channels, *images.shape[2:])
    weight = kernel.repeat_interleave(channels, 0)
    for shape, pad in (
        ((-1, 1, 1, 2 * radius + 1), (radius, radius, 0, 0)),
        ((-1, 1, 2 * radius + 1, 1), (0, 0, radius, radius)),
    ):
        flat = F.conv2d(F.pad(flat, pad, mode="replicate"), weight.view(shape), groups=batch * channels)
    return flat.view_as(images)


def mean_around(x: Tensor, cell: int = 8) -> Tensor:
    """Return the mean of what is not 0 around each pixel of x (B, C, H, W), over about five cells, coarsely."""
    both = F.avg_pool2d(torch.cat([x, (x != 0).to(x)], 1), cell, ceil_mode=True)
    both = F.avg_pool2d(both, 5, stride=1, padding=2)
    total, count = F.interpolate(both, size=x.shape[-2:], mode="bilinear").chunk(2, 1)
    return total / count.clamp(min=1e-3)


def vary_acquisition(
    x: Tensor, hu_per_unit: float | Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """Give x (B, context, H, W), in network units, another scanner's blur, noise and calibration, or no neighbours."""
    batch = len(x)
    # Apart, so that the draws of experiments that do not name these stay as they were.
    further = torch.Generator(generator.device).manual_seed(generator.initial_seed() + 1)
    around = mean_around(x) if augmentation.contrast else x
    strength = torch.rand(batch, 2, generator=generator, device=generator.device)
    if augmentation.blur_px:
        x = gaussian_blur(x, strength[:, 0] * augmentation.blur_px)
    if augmentation.noise_hu:
        noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
        x = x + noise * (strength[:, 1, None, None, None] * augmentation.noise_hu / hu_per_unit)
    if augmentation.contrast:
        power = torch.rand(batch, 1, 1, 1, generator=further, device=generator.device).to(x) * 2 - 1
        x = around + (x - around) * (1 + augmentation.contrast) ** power
    if augmentation.alone:  # with the same noise
        alone = torch.rand(batch, generator=further, device=generator.device) < augmentation.alone
        x = torch.where(alone.view(-1, 1, 1, 1), x[:, x.shape[1] // 2, None], x)
    offset = torch.randn(batch, 1, 1, 1, generator=generator, device=generator.device).to(x)
    return x + offset * (augmentation.offset_hu / hu_per_unit)
