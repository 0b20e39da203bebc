import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ct.mask_shapes import close_by_disk, convex_hull, open_by_ball


def ball(radius_mm: float, spacing_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    """A structuring element: voxels whose centres are within the radius."""
    reach = [int(radius_mm // step) for step in spacing_mm]
    grids = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    squares = ((grid * step) ** 2 for grid, step in zip(grids, spacing_mm, strict=True))
    return sum(squares, np.zeros(())) <= radius_mm**2 + 1e-9


@pytest.mark.parametrize(("radius_mm", "spacing_mm"), [(2.0, (1.0, 1.0, 1.0)), (4.5, (3.0, 2.0, 1.5))])
@pytest.mark.parametrize("part", [np.s_[:, :, :], np.s_[2:11, 5:, :-1]])
def test_opening_is_erosion_then_dilation_with_a_ball(
    radius_mm: float, spacing_mm: tuple[float, float, float], part: tuple[slice, slice, slice]
) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((14, 17, 19)), 2)
    mask = np.zeros(smooth.shape, dtype=bool)
    mask[part] = smooth[part] > -0.05
    element = ball(radius_mm, spacing_mm)
    eroded = ndimage.binary_erosion(mask, element, border_value=1)
    expected = ndimage.binary_dilation(eroded, element)
    assert 0 < expected.sum() < mask.sum()
    np.testing.assert_array_equal(open_by_ball(mask, radius_mm, spacing_mm), expected)


@pytest.mark.parametrize("value", [True, False])
def test_opening_of_a_full_and_an_empty_mask_changes_nothing(value: bool) -> None:
    mask = np.full((3, 4, 5), value)
    assert (open_by_ball(mask, 3.0, (1.0, 1.0, 1.0)) == mask).all()


@pytest.mark.parametrize("radius_px", [(3.0, 3.0), (2.0, 4.0)])
def test_closing_is_that_of_a_disk_with_holes_filled(radius_px: tuple[float, float]) -> None:
    plane = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((40, 50)), 1.5) > 0.25
    plane[:9] = plane[-9:] = plane[:, :9] = plane[:, -9:] = False
    element = ball(1.0, tuple(1 / radius for radius in radius_px))
    rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    expected = np.zeros_like(plane)
    expected[box] = ndimage.binary_fill_holes(ndimage.binary_closing(plane, element))[box]
    assert expected.sum() > plane.sum()
    np.testing.assert_array_equal(close_by_disk(plane, radius_px), expected)


def test_convex_hull_of_a_corner_is_a_triangle() -> None:
    plane = np.zeros((6, 6), dtype=bool)
    plane[0, :5] = plane[:5, 0] = True
    np.testing.assert_array_equal(convex_hull(plane), np.add.outer(np.arange(6), np.arange(6)) <= 4)


@pytest.mark.parametrize("pixels", [[], [(1, 1)], [(0, 0), (1, 1), (2, 2)]])
def test_convex_hull_of_a_line_is_the_line(pixels: list[tuple[int, int]]) -> None:
    plane = np.zeros((4, 4), dtype=bool)
    for y, x in pixels:
        plane[y, x] = True
    np.testing.assert_array_equal(convex_hull(plane), plane)
