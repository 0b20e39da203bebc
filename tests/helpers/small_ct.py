"""A CT of 4 x 5 x 6 voxels for tests of file formats, and the image that SimpleITK makes of it."""

from collections.abc import Sequence

import numpy as np
import SimpleITK
from numpy.typing import ArrayLike, NDArray


def ct(shape: Sequence[int] = (4, 5, 6)) -> NDArray[np.int16]:
    """Return int16 HU (Z, Y, X), distributed as in a chest, with one voxel each of 60 and 400 HU."""
    hu = np.resize(np.array([-1000, -850, -400, -20, -90], dtype=np.int16), tuple(shape))
    hu[1, 2, 4], hu[3, 0, 1] = 60, 400
    return hu


def affine() -> NDArray[np.float64]:
    """Return the canonical affine of `ct()`, with voxels (z, y, x) of 7 x 2 x 1.5 mm."""
    matrix = np.diag([-1.5, -2.0, 7.0, 1.0])
    matrix[:3, 3] = (101.0, 57.0, -300.0)
    return matrix


def sitk_image(direction: ArrayLike = (1, 1, 1)) -> SimpleITK.Image:
    """Return `ct()` as a SimpleITK image; `direction` is (3, 3), or (3,) for the diagonal."""
    matrix = np.asarray(direction, dtype=float)
    image = SimpleITK.GetImageFromArray(ct())
    image.SetSpacing((1.5, 2.0, 7.0))
    image.SetDirection((matrix if matrix.ndim == 2 else np.diag(matrix)).ravel().tolist())
    image.SetOrigin((-101.0, -57.0, -300.0))
    return image
