import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter
from torch.nn import functional as F

from lightning_modules.augment import (
    Augmentation,
    affine_grid,
    draw_affine,
    gaussian_blur,
    mean_around,
    vary_acquisition,
    warp,
)

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


def test_grid_is_that_of_pytorch() -> None:
    theta = draw_affine(5, Augmentation(), generator())
    expected = F.affine_grid(theta, [5, 1, 9, 14], align_corners=False)
    torch.testing.assert_close(affine_grid(theta, (5, 1, 9, 14)), expected, atol=1e-6, rtol=0)


def moved_by_scipy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The stated law, drawn and applied independently: pixels around the image's centre, spline of order 1."""
    centre = (np.array(image.shape) - 1) / 2
    angle, zoom = np.radians(rng.uniform(-90, 90)), rng.uniform(0.9, 1.1)
    shift = rng.uniform(-0.1, 0.1, 2) * image.shape
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    rotation = np.diag(rng.choice([-1.0, 1.0], 2)) @ rotation
    return affine_transform(image, rotation, centre + shift - rotation @ centre, order=1, mode="grid-constant")


def test_moved_images_have_the_law_of_an_independent_implementation() -> None:
    yy, xx = np.mgrid[:24, :24]
    image = np.exp(-((yy - 7) ** 2 + (xx - 15) ** 2) / 30).astype(np.float32)  # neither centred nor symmetric
    draws = 3000
    rng = np.random.default_rng(1)
    reference = np.stack([moved_by_scipy(image, rng) for _ in range(draws)])
    images = torch.from_numpy(image).expand(draws, 1, 24, 24)
    ours = warp(images, affine_grid(draw_affine(draws, Augmentation(), generator()), images.shape), "bilinear")
    for power in (1, 2):  # the mean and the mean square of every pixel, in standard errors of their difference
        a, b = ours[:, 0].numpy() ** power, reference**power
        error = np.sqrt((a.var(0) + b.var(0)) / draws) + 1e-4
        assert np.abs((a.mean(0) - b.mean(0)) / error).max() < 4.5
        mirrored = a.mean(0)[:, ::-1]
        assert np.abs((a.mean(0) - mirrored) / error).max() < 6  # flips make the law symmetric
    # And it could fail: without zoom and shift the law is another.
    still = warp(
        images, affine_grid(draw_affine(draws, Augmentation(shift=0, zoom=0), generator()), images.shape), "bilinear"
    )
    error = np.sqrt((still[:, 0].numpy().var(0) + reference.var(0)) / draws) + 1e-4
    assert np.abs((still[:, 0].numpy().mean(0) - reference.mean(0)) / error).max() > 6


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


def test_contrast_is_changed_about_the_mean_of_the_lung_around() -> None:
    x = torch.full((2000, 1, 16, 16), 2.0)
    x[:, :, ::2] = 3.0  # the mean of any two rows is 2.5
    changed = vary_acquisition(x, 110, Augmentation(contrast=1.0), generator())[:, 0]
    factor = (changed[:, 8, 8] - 2.5) / 0.5
    assert factor.min().item() == pytest.approx(0.5, abs=0.01)
    assert factor.max().item() == pytest.approx(2.0, abs=0.02)
    torch.testing.assert_close(changed[:, 9, 3] + changed[:, 8, 3], torch.full((2000,), 5.0))


def test_the_mean_around_leaves_out_what_is_no_lung() -> None:
    x = torch.zeros(1, 2, 40, 56)
    x[0, 0, 8:24, 16:40], x[0, 1, 8:24, 16:40] = 4.0, 6.0
    around = mean_around(x)
    torch.testing.assert_close(around[0, 0, 8:24, 16:40], torch.full((16, 24), 4.0))
    torch.testing.assert_close(around[0, 1, 8:24, 16:40], torch.full((16, 24), 6.0))


def test_neighbours_are_replaced_as_often_as_stated() -> None:
    x = torch.rand(2000, 3, 1, 1) + 1
    seen = vary_acquisition(x, 110, Augmentation(alone=0.25), generator())
    alone = (seen == x[:, 1:2]).all(1).flatten()
    assert 0.2 < alone.float().mean() < 0.3
    torch.testing.assert_close(seen[~alone], x[~alone])


def test_what_older_experiments_do_not_name_changes_no_draw() -> None:
    x, old = torch.rand(8, 3, 16, 16), Augmentation(offset_hu=20, noise_hu=60, blur_px=0.6)
    new = Augmentation(offset_hu=20, noise_hu=60, blur_px=0.6, contrast=1e-7)
    torch.testing.assert_close(vary_acquisition(x, 110, new, generator()), vary_acquisition(x, 110, old, generator()))
