"""Slices as publishers show them: 8-bit grey values through a window, with contrast enhanced place by place or not."""

import numpy as np
from numpy.typing import NDArray

from ct.checks import AIR_HU
from ct.grey_values import estimate_common_window, estimate_window, evenly_spread
from ct.grey_window import GREYS, GreyWindow

Grey = NDArray[np.uint8]
Hu = NDArray[np.int16]
LOWS_HU, HIGHS_HU = (-1400.0, -950.0), (100.0, 1000.0)
# Of three pictures, two are enhanced, in so many tiles a side, each histogram cut at so many times its mean.
ENHANCED, TILES, CLIPS = 2 / 3, (4, 8, 16), (1.3, 4.0)
# A slice of fewer greys than this from its darkest to its brightest shows no chest to estimate a window by.
LEAST_RANGE = 100


def as_grey(hu: NDArray[np.generic], low_hu: float, high_hu: float) -> Grey:
    """Show HU through a window, as programs export them."""
    return np.rint((hu.astype(float).clip(low_hu, high_hu) - low_hu) / (high_hu - low_hu) * 255).astype(np.uint8)


def enhance(grey: Grey, tiles: int = 8, clip: float = 2.0) -> Grey:
    """Equalise the histogram of each tile with a limit, and interpolate between tiles (CLAHE; Zuiderveld 1994).

    Args:
        grey: uint8 (Y, X).
        tiles: Tiles along each side.
        clip: Where the histogram of a tile is cut, in multiples of its mean; what is cut off is spread over all greys.
    """
    height, width = grey.shape
    padded = np.pad(grey, ((0, -height % tiles), (0, -width % tiles)), mode="reflect")
    rows, columns = padded.shape[0] // tiles, padded.shape[1] // tiles
    curves = np.empty((tiles, tiles, GREYS))
    for y, x in np.ndindex(tiles, tiles):
        tile = padded[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
        counts = np.bincount(tile.ravel(), minlength=GREYS).astype(float)
        limit = max(1.0, clip * tile.size / GREYS)
        shared = np.minimum(counts, limit) + np.maximum(counts - limit, 0).sum() / GREYS
        curves[y, x] = shared.cumsum() * 255 / tile.size
    y, x = (np.arange(height) + 0.5) / rows - 0.5, (np.arange(width) + 0.5) / columns - 0.5
    made = np.zeros(grey.shape)
    for down, right in np.ndindex(2, 2):
        weight_y = np.abs(1 - down - (y - np.floor(y)))[:, None]
        weight_x = np.abs(1 - right - (x - np.floor(x)))[None]
        tiles_y = np.clip(np.floor(y).astype(int) + down, 0, tiles - 1)[:, None]
        tiles_x = np.clip(np.floor(x).astype(int) + right, 0, tiles - 1)[None]
        made += weight_y * weight_x * curves[tiles_y, tiles_x, grey]
    return np.rint(made.clip(0, 255)).astype(np.uint8)


def draw_window(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the HU of grey 0 and of grey 255."""
    return float(rng.uniform(*LOWS_HU)), float(rng.uniform(*HIGHS_HU))


def seen_as_picture(rng: np.random.Generator, hu: Hu) -> Hu:
    """Return the HU that `auto` grey values make of a scan (Z, Y, X) which was published as pictures, -1024 at least.

    Of half of the scans the window is estimated slice by slice, as of a folder of images, of the others at once, as of
    a volume of 8 bits.
    """
    window = draw_window(rng)
    enhanced, tiles, clip = rng.random() < ENHANCED, int(rng.choice(TILES)), rng.uniform(*CLIPS)
    slices = [as_grey(plane, *window) for plane in hu]
    if enhanced:
        slices = [enhance(plane, tiles, clip) for plane in slices]
    common = estimate_common_window([slices[z] for z in evenly_spread(len(slices))])
    alone = rng.random() < 0.5
    windows = [estimate_window(plane) if alone and np.ptp(plane) > LEAST_RANGE else common for plane in slices]
    pairs = zip(slices, windows, strict=True)
    return np.stack([_hu_of(plane, window) for plane, window in pairs])


def _hu_of(grey: Grey, window: GreyWindow) -> Hu:
    step = (window.high_hu - window.low_hu) / (GREYS - 1)
    # In a file of HU, what lies below would pass for padding, or for metal that was wrapped around.
    return np.round(window.low_hu + step * grey).clip(AIR_HU).astype(np.int16)
