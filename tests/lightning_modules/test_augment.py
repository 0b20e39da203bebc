import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from lightning_modules.augment import Augmentation, affine_grid, draw_affine, gaussian_blur, vary_acquisition, warp

NONE = Augmentation(rotation_deg=0, shift=0, zoom=0, flip=False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_augmentation_nothing_moves() -> None:
    images = torch.rand(3, 2, 9, 12)
    theta = draw_affine(3, NONE, generator())
    grid = affine_grid(theta, images.shape)
    torch.testing.assert_close(warp(images, grid, "bilinear"), images, atol=1e-5, rtol=0)


def test_flips_are_exact_mirrors_and_all_four_occur() -> None:
    image = torch.rand(1, 1, 8, 8).repeat(64, 1, 1, 1)
    theta = draw_affine(64, Augmentation(0, 0, 0, True), generator())
    moved = warp(image, affine_grid(theta, image.shape), "nearest")
    mirrors = [image[0], image[0].flip(-1), image[0].flip(-2), image[0].flip(-1, -2)]
    which = [[bool(torch.allclose(one, mirror)) for mirror in mirrors] for one in moved]
    assert all(sum(row) == 1 for row in which)
    assert all(any(column) for column in zip(*which, strict=True))


def test_the_law_of_angles_shifts_and_zooms() -> None:
    theta = draw_affine(20_000, Augmentation(rotation_deg=30, shift=0.1, zoom=0.2, flip=False), generator()).numpy()
    scale = np.hypot(theta[:, 0, 0], theta[:, 1, 0])
    angle = np.degrees(np.arctan2(theta[:, 1, 0], theta[:, 0, 0]))
    for values, low, high in ((angle, -30, 30), (theta[:, :, 2].ravel(), -0.2, 0.2), (1 / scale, 0.8, 1.2)):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)
        assert abs(values.mean() - (low + high) / 2) < 0.01 * (high - low)
    np.testing.assert_allclose(np.linalg.det(theta[:, :, :2]), scale**2, rtol=1e-4)


def test_blur_agrees_with_scipy() -> None:
    image = torch.rand(2, 1, 32, 32)
    blurred = gaussian_blur(image, torch.tensor([0.0, 0.8]))
    torch.testing.assert_close(blurred[0], image[0])
    expected = gaussian_filter(image[1, 0].numpy(), 0.8, mode="nearest", radius=3)
    np.testing.assert_allclose(blurred[1, 0].numpy(), expected, atol=1e-5)


def test_acquisition_varies_as_stated() -> None:
    augmentation = Augmentation(offset_hu=22, noise_hu=0, blur_px=0)
    x = torch.zeros(4000, 1, 2, 2)
    moved = vary_acquisition(x, 110, augmentation, generator())
    assert (moved == moved[:, :, :1, :1]).all()
    assert moved[:, 0, 0, 0].std().item() == pytest.approx(0.2, rel=0.05)
    noisy = vary_acquisition(torch.zeros(50, 1, 64, 64), 110, Augmentation(noise_hu=110), generator())
    assert 0.9 < noisy.flatten(1).std(1).max() <= 1.02
    torch.testing.assert_close(vary_acquisition(x, 110, NONE, generator()), x)
