"""A slice painted by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ct.scan import Grid, Scan
from viewer.findings import Layer
from viewer.slice_picture import LEAST_PIXELS, as_address, slice_picture


@pytest.fixture
def scan() -> Scan:
    affine = np.diag([-2.0, -1.0, 5.0, 1.0])  # pixels twice as wide as high
    hu = np.full((2, 6, 8), -1350, np.int16)
    hu[1, 0, 0], hu[1, 0, 1] = 150, -600
    return Scan(hu, affine, Grid((8, 6, 2), affine), "s")


def test_window_opacity_and_shape(scan: Scan) -> None:
    first, second = np.zeros((2, 2, 6, 8), bool)
    first[1, 0, 0] = second[1, 0, 2] = True
    layers = [Layer("a", (255, 0, 0), first), Layer("b", (0, 100, 0), second)]
    picture = slice_picture(scan, layers, 1, "lung", {"a": 0.5, "b": 1.0})
    assert picture.shape == (LEAST_PIXELS * 6 // 16, LEAST_PIXELS, 3)  # 6 mm high, 16 mm wide
    one = LEAST_PIXELS // 8
    assert picture[0, 0].tolist() == [255, 128, 128]  # white, half red
    assert picture[0, one].tolist() == [128, 128, 128]  # the middle of the window
    assert picture[0, 2 * one].tolist() == [0, 100, 0]
    assert picture[-1, -1].tolist() == [0, 0, 0]
    bare = slice_picture(scan, layers, 1, "lung", {})
    assert bare[0, 0].tolist() == [255, 255, 255]


def test_the_address_holds_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    head, content = as_address(picture).split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), picture)
