"""Slices as publishers show them: 8-bit grey values through a window, with contrast enhanced place by place or not."""

import numpy as np
from numpy.typing import NDArray

from ct.grey_window import GREYS

Grey = NDArray[np.uint8]
LOWS_HU, HIGHS_HU = (-1400.0, -950.0), (100.0, 1000.0)


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
