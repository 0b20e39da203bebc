from typing import Literal

import numpy as np
import pytest
from lobe_masks import FOLDER, measure_fissure, measured_lungs, read_lobe_masks

from ct.lungs.fissure_shapes import (
    LOBE_SHARES,
    MIDDLE_LOBE_BACK,
    SHAPES,
    SHRINKAGE,
    STATISTICS,
    USUAL_SHARES,
    FissureName,
    LungBox,
    LungShape,
    expected_fissure,
    terms,
)

needs_masks = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the masks of real lobes are not at {FOLDER}")


def test_terms_of_a_height() -> None:
    y, x = 0.3, -0.4
    expected = [1, 0.3, -0.4, 0.09 - 1 / 12, -0.12, 0.16 - 1 / 12]
    np.testing.assert_allclose(terms(y, x), expected)
    grid = terms(np.array([0.0, y, 0.1])[:, None], np.array([x, 0.2])[None])
    assert grid.shape == (3, 2, 6)
    np.testing.assert_allclose(grid[1, 0], expected)


def test_over_the_box_a_fissure_has_the_mean_height_of_its_first_term() -> None:
    places = (np.arange(400) + 0.5) / 400 - 0.5
    np.testing.assert_allclose(terms(places[:, None], places[None]).mean((0, 1)), [1, 0, 0, 0, 0, 0], atol=1e-5)


def test_the_box_of_a_block_of_lung() -> None:
    lung = np.zeros((30, 50, 40), dtype=bool)
    lung[5:25, 10:40, 4:34] = True
    box = LungBox.around(lung, (2.0, 1.0, 3.0))
    # 0.5 % of a block's volume is 0.5 % of each of its sides.
    np.testing.assert_allclose(box.low_mm, [10 + 0.2, 10 + 0.15, 12 + 0.45])
    np.testing.assert_allclose(box.high_mm, [50 - 0.2, 40 - 0.15, 102 - 0.45])
    np.testing.assert_allclose(box.size_mm, [39.6, 29.7, 89.1])
    for axis in range(3):
        np.testing.assert_allclose(box.share([box.low_mm[axis], box.high_mm[axis]], axis), [-0.5, 0.5])
        np.testing.assert_allclose(box.place_mm(box.share([7.0, 31.0], axis), axis), [7.0, 31.0])


def test_a_strand_does_not_stretch_the_box() -> None:
    lung = np.zeros((40, 40, 40), dtype=bool)
    lung[5:25, 10:30, 10:30] = True
    box = LungBox.around(lung, (2.0, 2.0, 2.0))
    lung[25:40, 20, 20] = True
    np.testing.assert_allclose(LungBox.around(lung, (2.0, 2.0, 2.0)).high_mm, box.high_mm, atol=0.2)


def test_the_shape_of_a_block_with_a_step() -> None:
    """The front half of the floor lies a quarter of the height above the rear one."""
    lung = np.zeros((80, 60, 50), dtype=bool)
    lung[10:70, 10:50, 10:40] = True
    lung[10:25, 10:30] = False
    box, spacing_mm = LungBox(np.array([20.0, 10.0, 30.0]), np.array([140.0, 50.0, 120.0])), (2.0, 1.0, 3.0)
    shape = LungShape.of("left", lung, box, spacing_mm)
    assert shape.front == pytest.approx(15 / 60 - 0.5 + 0.5 / 60), "the middle of the lowest voxel"
    assert shape.tall == pytest.approx(np.log(120 / 90))


def test_a_lung_without_a_front_has_the_usual_one() -> None:
    lung = np.zeros((20, 40, 40), dtype=bool)
    lung[:, 30:] = True
    box = LungBox(np.zeros(3), np.array([20.0, 40.0, 40.0]))
    assert LungShape.of("right", lung, box, (1.0, 1.0, 1.0)).front == SHAPES["right"][0][0]


@pytest.mark.parametrize("name", list(STATISTICS))
def test_the_expected_fissure_follows_the_lung(name: FissureName) -> None:
    side: Literal["right", "left"] = "left" if name == "left oblique" else "right"
    (front, front_sd), (tall, tall_sd) = SHAPES[side]
    known = STATISTICS[name]
    mean, sd = expected_fissure(name, LungShape(side, front, tall))
    np.testing.assert_allclose(mean, known.mean)
    np.testing.assert_allclose(sd, known.sd)
    moved, _ = expected_fissure(name, LungShape(side, front + front_sd, tall - 2 * tall_sd))
    by_shape = np.array(known.by_front) - 2 * np.array(known.by_tall)
    np.testing.assert_allclose(moved[:2] - mean[:2], SHRINKAGE * sd[:2] * by_shape)
    np.testing.assert_array_equal(moved[2:], mean[2:])
    far, farther = (expected_fissure(name, LungShape(side, front + n * front_sd, tall))[0] for n in (4, 9))
    np.testing.assert_array_equal(far, farther)


@needs_masks
@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("name", list(STATISTICS))
def test_the_statistics_of_a_fissure_are_those_of_real_lungs(name: FissureName) -> None:
    known = STATISTICS[name]
    measured = measure_fissure(name, measured_lungs(name.split()[0]))
    np.testing.assert_allclose(known.mean, measured.mean, atol=0.011)
    np.testing.assert_allclose(known.sd, measured.sd, atol=0.011)
    np.testing.assert_allclose([known.by_front, known.by_tall], measured.by_shape[:, :2], atol=0.011)
    assert known.bumps_mm == pytest.approx(measured.bumps_mm, abs=0.1)


@needs_masks
@pytest.mark.shared_data
@pytest.mark.slow
def test_the_statistics_of_lungs_are_those_of_real_ones() -> None:
    for side, known in SHAPES.items():
        shapes = np.array([lung.shape for lung in measured_lungs(side)])
        measured = np.stack([shapes.mean(axis=0), shapes.std(axis=0, ddof=1)], axis=1)
        np.testing.assert_allclose(known, measured, atol=0.002)


@needs_masks
@pytest.mark.shared_data
def test_the_shares_of_lobes_are_those_of_real_ones() -> None:
    counts = np.array([[np.sum(mask == lobe) for lobe in range(1, 6)] for mask in read_lobe_masks()])
    lungs = np.repeat([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]], [3, 2], axis=0)
    shares = counts / (counts @ lungs)
    assert len(shares) == 26
    np.testing.assert_allclose(LOBE_SHARES, np.stack([shares.min(axis=0), shares.max(axis=0)], axis=1), atol=0.01)
    usual = shares[:, [0, 1, 3]]
    np.testing.assert_allclose(USUAL_SHARES, np.stack([usual.mean(axis=0), usual.std(axis=0, ddof=1)], 1), atol=0.001)


@needs_masks
@pytest.mark.shared_data
def test_the_middle_lobe_of_real_lungs_lies_in_front() -> None:
    place, expected = MIDDLE_LOBE_BACK
    behind = []
    for mask in read_lobe_masks():
        right = np.isin(mask, (1, 2, 3))
        box = LungBox.around(right, (3.0, 3.0, 3.0))
        rows = (np.argwhere(mask == 2)[:, 1] + 0.5) * 3.0
        behind.append(np.mean(box.share(rows, 1) > place))
    assert np.sqrt(np.mean(np.square(behind))) == pytest.approx(expected, abs=0.005)
