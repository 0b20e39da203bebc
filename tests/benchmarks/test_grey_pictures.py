"""Slices as pictures: windows, and contrast enhanced place by place."""

import numpy as np

from benchmarks.grey_pictures import as_grey, enhance


def test_a_window_cuts_and_spreads_over_all_greys() -> None:
    hu = np.array([-2000, -1000, -500, 0, 1000])
    np.testing.assert_array_equal(as_grey(hu, -1000, 0), [0, 0, 128, 255, 255])


def test_enhancing_one_tile_without_a_limit_equalises_its_histogram() -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(40, 80, (64, 64)).astype(np.uint8)
    equal = enhance(dark, tiles=1, clip=1e9)
    shares = np.array([(dark <= grey).mean() for grey in range(256)])
    np.testing.assert_allclose(equal, 255 * shares[dark], atol=0.51)


def test_the_limit_leaves_an_image_nearly_as_it_is() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    once = enhance(ramp, tiles=1, clip=1.0)
    np.testing.assert_allclose(once, ramp, atol=1.01)


def test_contrast_is_raised_tile_by_tile() -> None:
    """Two halves of little contrast, dark and bright: each spreads further than it did."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 12, (64, 64)).astype(np.uint8) + np.repeat([40, 180], 32).astype(np.uint8)
    made = enhance(image, tiles=2, clip=4.0)
    for half in (slice(0, 12), slice(52, 64)):
        assert made[:, half].std() > 2 * image[:, half].std()
