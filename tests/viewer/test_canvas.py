"""What NiiVue is given, read by another library."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ct.scan import Grid, Scan
from viewer.canvas import MOST_PIXELS, RGBA, WINDOWS_HU, background, overlay, step_of
from viewer.findings import Layer


def made(shape: tuple[int, int, int]) -> Scan:
    affine = np.array([[-0.7, 0, 0, 100], [0, -0.7, 0, 90], [0, 0, 3, -40], [0, 0, 0, 1.0]])
    hu = np.random.default_rng(0).integers(-1100, 600, shape).astype(np.int16)
    return Scan(hu, affine, Grid(shape[::-1], affine), "s")


def read(content: bytes, folder: Path) -> SimpleITK.Image:
    (folder / "image.nii.gz").write_bytes(content)
    return SimpleITK.ReadImage(str(folder / "image.nii.gz"))


@pytest.mark.parametrize("window", WINDOWS_HU)
def test_a_small_scan_comes_whole_and_in_its_window(window: str, tmp_path: Path) -> None:
    scan = made((3, 20, 31))
    image = read(background(scan, window), tmp_path)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), scan.hu)
    assert image.GetOrigin() == pytest.approx((-100, -90, -40))  # LPS
    assert image.GetSpacing() == pytest.approx((0.7, 0.7, 3))
    limits = [float(image.GetMetaData(key)) for key in ("cal_min", "cal_max")]
    assert tuple(limits) == WINDOWS_HU[window]


def test_what_no_window_shows_does_not_travel(tmp_path: Path) -> None:
    scan = made((2, 4, 4))
    scan.hu[0, 0, :2] = -3024, 3071
    values = SimpleITK.GetArrayFromImage(read(background(scan, "lung"), tmp_path))
    assert values[0, 0, :2].tolist() == [min(WINDOWS_HU["lung"]), 600]
    assert np.array_equal(values[1], scan.hu[1])


def test_a_layer_lies_where_its_mask_is_also_when_coarser(tmp_path: Path) -> None:
    scan = made((3, MOST_PIXELS, 2 * MOST_PIXELS + 1))
    assert step_of(scan) == 3
    mask = np.zeros(scan.hu.shape, bool)
    mask[1, 90:151, 300:391] = True
    image = read(overlay(Layer("x", (10, 20, 30), mask), scan), tmp_path)
    pixels = SimpleITK.GetArrayFromImage(image)
    assert pixels.shape == (3, -(-MOST_PIXELS // 3), -(-(2 * MOST_PIXELS + 1) // 3), len(RGBA.names or ()))
    inside = pixels[..., 3] > 0
    assert np.unique(pixels[inside], axis=0).tolist() == [[10, 20, 30, 255]]
    found = np.argwhere(inside).mean(0)[::-1]
    expected = np.argwhere(mask).mean(0)[::-1]
    lps = image.TransformContinuousIndexToPhysicalPoint(found.tolist())
    ras = scan.affine @ [*expected, 1]
    assert np.allclose(np.array(lps) * (-1, -1, 1), ras[:3], atol=0.7 * 1.5)
