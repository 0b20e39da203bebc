"""A scan and its layers as files for NiiVue, which draws them in the browser."""

import gzip
import math
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from ct.scan import Scan
from viewer.findings import Layer

# NiiVue keeps four bytes for every voxel of every layer on the graphics card.
MOST_PIXELS = 256
WINDOWS_HU = {"lung": (-1350, 150), "soft tissue": (-160, 240)}
HU_RANGE = (-1350, 600)  # the rest need not travel; above it is bone and metal
RGBA = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])


def step_of(scan: Scan) -> int:
    """Every how many pixels of a row and a column are shown."""
    return max(1, math.ceil(max(scan.hu.shape[1:]) / MOST_PIXELS))


def background(scan: Scan, window: str) -> bytes:
    """The scan as gzipped NIfTI (int16 HU), opened in one of WINDOWS_HU.

    Args:
        scan: The scan.
        window: Its name.
    """
    step = step_of(scan)
    image = _image(np.clip(scan.hu[:, ::step, ::step], *HU_RANGE), scan, step)
    image.header["cal_min"], image.header["cal_max"] = WINDOWS_HU[window]
    return _packed(image)


def overlay(layer: Layer, scan: Scan) -> bytes:
    """A layer as gzipped NIfTI (RGBA), in its colour where the mask is and transparent elsewhere.

    Args:
        layer: On the scan's grid.
        scan: The scan.
    """
    step = step_of(scan)
    mask = layer.mask[:, ::step, ::step]
    painted = np.zeros(mask.shape, RGBA)
    painted[mask] = (*layer.rgb, 255)
    return _packed(_image(painted, scan, step))


def _image(values: NDArray[Any], scan: Scan, step: int) -> Any:
    affine = scan.affine @ np.diag([step, step, 1.0, 1.0])
    nifti: Any = nibabel.Nifti1Image
    return nifti(values.transpose(2, 1, 0), affine)


def _packed(image: Any) -> bytes:
    # Lightly: the bytes travel within one machine, and a visitor waits for them.
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
