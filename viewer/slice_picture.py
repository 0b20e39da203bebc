"""One axial slice with its layers as a picture, for truth beside prediction."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ct.scan import Scan
from viewer.canvas import WINDOWS_HU
from viewer.findings import Layer

LEAST_PIXELS = 320


def slice_picture(
    scan: Scan, layers: Sequence[Layer], z: int, window: str, opacity: Mapping[str, float]
) -> NDArray[np.uint8]:
    """Paint layers over a slice, later ones on top.

    Args:
        scan: The scan.
        layers: On its grid.
        z: The slice, counted from the feet.
        window: One of WINDOWS_HU.
        opacity: By layer name, 0 to 1.

    Returns:
        uint8 (rows, columns, 3), the patient's right on the left; pixels as high as wide, so enlarged where slices of
        few or unequal pixels are drawn.
    """
    low, high = WINDOWS_HU[window]
    grey = 255 * np.clip((scan.hu[z].astype(np.float32) - low) / (high - low), 0, 1)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for layer in layers:
        inside, share = layer.mask[z], opacity.get(layer.name, 0.0)
        picture[inside] = (1 - share) * picture[inside] + share * np.array(layer.rgb, np.float32)
    return _square_pixels(picture.round().astype(np.uint8), scan)


def as_address(picture: NDArray[np.uint8]) -> str:
    """A picture as an address that holds it (PNG): a file of its own would be gone before a fast slider shows it."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _square_pixels(picture: NDArray[np.uint8], scan: Scan) -> NDArray[np.uint8]:
    """Enlarge by repeating pixels, so that what is shown is what is stored."""
    _, y_mm, x_mm = scan.spacing_mm
    columns = max(picture.shape[1], LEAST_PIXELS)
    rows = round(columns * picture.shape[0] * y_mm / (picture.shape[1] * x_mm))
    y = np.arange(rows) * picture.shape[0] // rows
    x = np.arange(columns) * picture.shape[1] // columns
    return picture[y][:, x]
