"""What phantoms lack, painted into their slices while a network learns: other lesions, pictures with more contrast.

A network that has seen even, hazy lesions alone misses those of patients, which vessels, bronchi and grain run
through; one that has seen these misses faint ones, unless more of them fade than phantoms have; and one that knows HU
alone is lost where publishers enhanced the contrast place by place (CLAHE).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ct.refusal import Refusal
from lightning_modules.augment import gaussian_blur

# Of lesions: standard deviation of the density towards which they go, how far the faintest fade, the border's blur, and
# the sizes of what makes them uneven, in pixels.
SOFT_HU, FADING, BORDER_PX, GRAINS_PX = 60.0, 0.6, 0.7, (1, 2, 4, 8)
# Of an enhanced picture: HU of the window's ends, tiles a side, where the histogram of a tile is cut (in multiples of
# its mean), and what came before: how much its kernel sharpens at most, and its noise.
LOWS_HU, HIGHS_HU, TILES, CLIPS = (-1400.0, -950.0), (100.0, 1000.0), (4, 8, 16), (1.3, 4.0)
SHARPENING, NOISE_HU = 1.5, 80.0
BINS = 64
# Grey values become HU again by the means of these two tissues, as where they are estimated; and of how many pixels
# and what distance in greys at least.
AERATED_HU, TISSUE_HU = (-1000.0, -700.0), (-20.0, 120.0)
LEAST_PIXELS, LEAST_STEP = 20.0, 0.1
SEEN_HU = (-1024.0, 1500.0)


@dataclass(frozen=True)
class Repainting:
    """How often slices of phantoms are repainted in training, and how far; zero turns a part off.

    Attributes:
        denser: Share of the slices whose lesions are made denser, up to soft tissue.
        fainter: Share of the slices whose lesions then fade, three fifths of the way to aerated lung at most.
        uneven: Share of the slices whose lesions are made uneven.
        uneven_hu: Largest standard deviation of what is added to those; it is drawn for each slice.
        enhanced: Share of the slices of each batch that are shown as pictures with enhanced contrast.
    """

    denser: float = 0.0
    fainter: float = 0.0
    uneven: float = 0.0
    uneven_hu: float = 0.0
    enhanced: float = 0.0

    def __post_init__(self) -> None:
        """Check every amount.

        Raises:
            Refusal: A share is outside 0 to 1, or an amount is negative.
        """
        for name in ("denser", "fainter", "uneven", "enhanced"):
            if not 0 <= getattr(self, name) <= 1:
                raise Refusal(
                    "model.repainting.{name} is {share}; expected a share, 0 to 1", name=name, share=getattr(self, name)
                )
        if not self.uneven_hu >= 0:
            raise Refusal("model.repainting.uneven_hu is {amount}; expected 0 HU or more", amount=self.uneven_hu)


def vary_lesions(
    hu: Tensor, lesions: Tensor, lung: Tensor, repainting: Repainting, generator: torch.Generator
) -> Tensor:
    """Make lesions denser, uneven and fainter, each slice by its own amount, neighbours as the slice itself.

    Args:
        hu: (B, context, H, W).
        lesions: bool (B, 1, H, W).
        lung: bool (B, 1, H, W), with the lesions.
        repainting: How often, and how far.
        generator: On the device of the slices.

    Returns:
        float32 (B, context, H, W), HU; unchanged but for the lesions and the few pixels over which their border fades.
    """
    batch, _, height, width = hu.shape
    device = generator.device
    draws = torch.rand(6, batch, 1, 1, 1, generator=generator, device=device)
    share = gaussian_blur(lesions.float(), torch.full((batch,), BORDER_PX, device=device))
    soft = SOFT_HU * torch.randn(batch, 1, 1, 1, generator=generator, device=device)
    denser = draws[0] * (draws[1] < repainting.denser)
    image = hu.float()
    image = image + share * denser * (soft - image).clamp(min=0)
    grain = GRAINS_PX[_choose(len(GRAINS_PX), generator)]
    field = torch.randn(batch, 1, -(-height // grain), -(-width // grain), generator=generator, device=device)
    if grain > 1:
        field = F.interpolate(field, size=(height, width), mode="bicubic")
    amplitude = repainting.uneven_hu * draws[2] * (draws[3] < repainting.uneven)
    image = image + share * amplitude * field
    aerated = _is_aerated(hu, lung.bool() & ~lesions)
    fading = FADING * draws[4] * (draws[5] < repainting.fainter) * (_count(aerated) > LEAST_PIXELS)
    return image + share * fading * (_mean(hu, aerated) - image).clamp(max=0)


def _choose(count: int, generator: torch.Generator) -> int:
    """Draw a number below `count` on the host, which then does not wait for the device."""
    host = torch.Generator().manual_seed(generator.initial_seed())
    return int(torch.randint(count, (1,), generator=host))


def tile_curves(grey: Tensor, tiles: int, clip: Tensor) -> Tensor:
    """Return the curves that equalise the histogram of each tile, contrast-limited: float (N, tiles, tiles, BINS + 1).

    Args:
        grey: (N, H, W), 0 to 1.
        tiles: Tiles along each side.
        clip: (N,), where the histogram of a tile is cut, in multiples of its mean; what is cut off is spread over all.
    """
    images, height, width = grey.shape
    row, column = (torch.arange(side, device=grey.device) * tiles // side for side in (height, width))
    place = (grey * BINS).long().clamp_(max=BINS - 1) + (row[:, None] * tiles + column) * BINS
    counts = grey.new_zeros(images, tiles * tiles * BINS)
    counts.scatter_add_(1, place.flatten(1), grey.new_ones(1).expand(images, height * width))
    counts = counts.view(images, tiles, tiles, BINS)
    cut = counts.minimum(clip.view(-1, 1, 1, 1) * counts.mean(-1, keepdim=True))
    cut = cut + (counts - cut).mean(-1, keepdim=True)
    return F.pad(cut.cumsum(-1) / cut.sum(-1, keepdim=True), (1, 0))


def equalise(grey: Tensor, tiles: int, clip: Tensor) -> Tensor:
    """Equalise histograms tile by tile, contrast-limited, and interpolate between tiles (CLAHE; Zuiderveld 1994).

    Args:
        grey: (N, H, W), 0 to 1.
        tiles: Tiles along each side, not more than pixels.
        clip: (N,), see `tile_curves`.

    Returns:
        (N, H, W), 0 to 1.
    """
    curves = tile_curves(grey, tiles, clip).flatten(1)
    place = grey * BINS
    below = place.long().clamp_(max=BINS - 1)
    y, x = ((torch.arange(side, device=grey.device) + 0.5) * tiles / side - 0.5 for side in grey.shape[1:])
    made = torch.zeros_like(grey)
    for down in (0, 1):
        row = (y.floor().long() + down).clamp(0, tiles - 1)[:, None]
        weight_y = (1 - down - (y - y.floor())).abs()[:, None]
        for right in (0, 1):
            column = (x.floor().long() + right).clamp(0, tiles - 1)
            at = ((row * tiles + column) * (BINS + 1) + below).flatten(1)
            low, high = curves.gather(1, at), curves.gather(1, at + 1)
            weight = weight_y * (1 - right - (x - x.floor())).abs()
            made += weight * torch.lerp(low.view_as(grey), high.view_as(grey), place - below)
    return made


def show_enhanced(hu: Tensor, lung: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Show a share of the slices as pictures with enhanced contrast, and read their HU as from any picture.

    Args:
        hu: (B, context, H, W).
        lung: bool (B, 1, H, W).
        share: How many slices of the batch, rounded; which ones is drawn.
        generator: On the device of the slices.

    Returns:
        float32 (B, context, H, W), HU. A slice without enough aerated lung and soft tissue stays as it is.
    """
    device, count = generator.device, round(share * len(hu))
    if not count:
        return hu.float()
    chosen = torch.randperm(len(hu), generator=generator, device=device)[:count]
    image, inside = hu[chosen].float(), lung[chosen].bool()
    ends = torch.rand(3, count, generator=generator, device=device)
    low, high, clip = (
        least + (most - least) * end for (least, most), end in zip((LOWS_HU, HIGHS_HU, CLIPS), ends, strict=True)
    )
    low, high = low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
    sharpening, noise_hu = torch.rand(2, count, 1, 1, 1, generator=generator, device=device)
    sharp = image + SHARPENING * sharpening * (image - gaussian_blur(image, torch.ones_like(clip)))
    noise = torch.randn(image.shape, generator=generator, device=device)
    grey = ((sharp + NOISE_HU * noise_hu * noise - low) / (high - low)).clamp(0, 1)
    tiles = TILES[_choose(len(TILES), generator)]
    enhanced = equalise(grey.flatten(0, 1), tiles, clip.repeat_interleave(hu.shape[1])).view_as(grey)
    made = hu.float().clone()
    made[chosen] = _as_hu(enhanced, image, inside)
    return made


def _as_hu(grey: Tensor, hu: Tensor, lung: Tensor) -> Tensor:
    """Turn grey values into HU in equal steps, so that the means of aerated lung and soft tissue are right."""
    aerated = _is_aerated(hu, lung)
    tissue = (hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])
    dark, dark_hu, dark_pixels = _mean(grey, aerated), _mean(hu, aerated), _count(aerated)
    bright, bright_hu, bright_pixels = _mean(grey, tissue), _mean(hu, tissue), _count(tissue)
    step = bright - dark
    known = (dark_pixels > LEAST_PIXELS) & (bright_pixels > LEAST_PIXELS) & (step > LEAST_STEP)
    seen = dark_hu + (grey - dark) * (bright_hu - dark_hu) / step.clamp(min=LEAST_STEP)
    return torch.where(known, seen.clamp(*SEEN_HU), hu)


def _is_aerated(hu: Tensor, lung: Tensor) -> Tensor:
    return (hu > AERATED_HU[0]) & (hu < AERATED_HU[1]) & lung


def _count(mask: Tensor) -> Tensor:
    return mask.sum((1, 2, 3), keepdim=True)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum((1, 2, 3), keepdim=True) / _count(mask).clamp(min=1)
