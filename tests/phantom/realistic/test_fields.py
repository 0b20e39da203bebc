"""The phantom's building blocks against what follows from their definitions."""

import numpy as np
import pytest

from phantom.realistic.fields import Grid, noise, paint, rise, stamp, tubes

GRID = Grid((30, 40, 50), (3.0, 2.0, 1.5), (-40.0, -35.0, -30.0))


def test_points_and_indices_are_inverse() -> None:
    index = np.array([[0, 0, 0], [3, 4, 5]], dtype=np.int64)
    np.testing.assert_allclose(GRID.point_of(index), np.array([[-40, -35, -30], [-31, -27, -22.5]]))
    np.testing.assert_allclose(GRID.index_of(GRID.point_of(index)), index.astype(np.float64))


def test_a_window_is_a_part_of_the_grid() -> None:
    cut, near = GRID.window(np.array([-31.0, 0.0, 40.0]), 7.0)
    assert np.zeros(GRID.shape)[cut].shape == near.shape
    np.testing.assert_allclose(near.z, GRID.z[cut[0]])
    np.testing.assert_allclose(near.x, GRID.x[:, :, cut[2]])
    assert near.y.min() <= -7.0
    assert near.y.max() >= 7.0


@pytest.mark.parametrize("scale_mm", [1.0, 4.0, 20.0])
def test_noise_has_unit_variance_everywhere_and_its_scale(scale_mm: float) -> None:
    grid = Grid((12, 12, 12), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    draws = np.stack([noise(np.random.default_rng(seed), grid, scale_mm) for seed in range(600)])
    np.testing.assert_allclose(draws.std(0), 1, atol=0.15)
    np.testing.assert_allclose(draws.mean(0), 0, atol=0.2)
    near = (draws[:, 5, 5, 5] * draws[:, 5, 5, 6]).mean()  # correlation at 2 mm
    assert (near < 0.15) if scale_mm == 1 else (near > 0.9) if scale_mm == 20 else (0.1 < near < 0.9)


@pytest.mark.parametrize("radius_mm", [0.5, 1.2, 5.0])
def test_a_tube_keeps_its_volume(radius_mm: float) -> None:
    start, end = np.array([[-20.0, -10.0, -15.0]]), np.array([[20.0, 15.0, 20.0]])
    filled = tubes(GRID, start, end, np.array([radius_mm]))
    assert 0 <= filled.min() <= filled.max() <= 1
    caps = 4 / 3 * np.pi * radius_mm**3 if radius_mm > 1.8 else 0  # thick tubes have round ends
    expected = np.pi * radius_mm**2 * float(np.linalg.norm(end - start)) + caps
    assert filled.sum() * 9.0 == pytest.approx(expected, rel=0.08)


def test_no_tubes_fill_nothing() -> None:
    assert not tubes(GRID, np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)).any()


def test_soft_steps_and_painting() -> None:
    np.testing.assert_allclose(rise(np.array([-9, -1, 0, 1, 9], np.float32), 4), [0, 0.15625, 0.5, 0.84375, 1])
    hu = paint(np.full(3, -800, np.float32), 0.0, np.array([0, 0.25, 1], np.float32))
    np.testing.assert_allclose(hu, [-800, -600, 0])


def test_a_stamp_changes_its_ellipsoid_alone() -> None:
    volume = np.zeros(GRID.shape, np.float32)
    stamp(volume, GRID, 100.0, np.array([0.0, 0.0, 0.0]), np.array([10.0, 12.0, 14.0]), 2.0)
    ratio = (GRID.z / 10) ** 2 + (GRID.y / 12) ** 2 + (GRID.x / 14) ** 2
    assert (volume[ratio < 0.7] == 100).all()
    assert not volume[ratio > 1.5].any()
    assert volume.sum() * 9 / 100 == pytest.approx(4 / 3 * np.pi * 10 * 12 * 14, rel=0.05)
