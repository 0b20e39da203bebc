import csv

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from places import SHARED_DATA

from ct.lungs.classical import classical_lungs
from ct.lungs.edge_level import border_of
from ct.lungs.lone_slice import lungs_of_slice

COVID20 = SHARED_DATA / "covid20_dev13"
PIXEL_MM = 1.5
Slice = tuple[NDArray[np.int16], NDArray[np.bool_]]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def grids() -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    y, x = np.meshgrid((np.arange(200) - 99.5) * PIXEL_MM, (np.arange(240) - 119.5) * PIXEL_MM, indexing="ij")
    return y, x


def chest() -> Slice:
    """HU and lungs of a body with fat, vessels, a gown over it and a table of foam and shell under it."""
    y, x = grids()
    hu = np.full(y.shape, -1000.0)
    hu[np.abs(np.hypot(x / 165, (y + 10) / 122) - 1) < 0.008] = -300  # the gown
    body = np.hypot(x / 155, (y + 10) / 108)
    hu[body < 1] = -100
    hu[body < 0.88] = 50
    below = (y - 108) + (x / 60) ** 2
    hu[(below > 0) & (below < 4)] = 200
    hu[(below >= 4) & (below < 22)] = -950
    hu[(below >= 22) & (below < 26)] = 200
    lungs = (np.hypot((np.abs(x) - 72) / 50, y / 75) < 1) & (body < 0.84)
    hu[lungs] = -850
    hu[lungs & (np.hypot(np.abs(x) - 60, y - 20) < 6)] = 40
    return (hu + np.random.default_rng(0).normal(0, 25, hu.shape)).astype(np.int16), lungs


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flipped", [False, True])
def test_any_orientation(turns: int, flipped: bool) -> None:
    hu, lungs = chest()
    if flipped:
        hu, lungs = hu[::-1], lungs[::-1]
    found = lungs_of_slice(np.ascontiguousarray(np.rot90(hu, turns)), PIXEL_MM)
    assert dice(found, np.rot90(lungs, turns)) > 0.97


def test_the_gap_under_a_body_that_the_image_cuts_is_not_lung() -> None:
    hu, lungs = chest()
    hu, lungs = np.ascontiguousarray(hu[:, 45:-45]), lungs[:, 45:-45]
    found = lungs_of_slice(hu, PIXEL_MM)
    assert dice(found, lungs) > 0.97
    assert not found[150:].any()


def test_lungs_that_fill_the_image_to_its_sides() -> None:
    hu, lungs = chest()
    hu, lungs = np.ascontiguousarray(hu[43:145, 40:-40]), lungs[43:145, 40:-40]
    assert lungs[:, 0].any()
    assert lungs[-1].any()
    assert dice(lungs_of_slice(hu, PIXEL_MM), lungs) > 0.97


@pytest.mark.parametrize(("low", "high"), [(-1200, -300), (-900, 100), (-1340, 400)])
def test_grey_values_that_are_not_hu(low: int, high: int) -> None:
    """Air at `low`, soft tissue at `high`, and all between them on a curve."""
    hu, lungs = chest()
    share = ((hu.astype(np.float64) + 1000) / 1050).clip(0, 1.2) ** 0.8
    assert dice(lungs_of_slice((low + share * (high - low)).astype(np.int16), PIXEL_MM), lungs) > 0.97


def test_gas_a_dome_and_fat_are_not_lung() -> None:
    hu, lungs = chest()
    y, x = grids()
    dome = np.hypot(x + 72, y - 10) < 30
    bowel = np.hypot(x / 1.3, y + 75) < 14
    pad = np.hypot(x / 2, y - 70) < 10
    hu[dome], hu[bowel], hu[pad] = 50, -990, -110
    found = lungs_of_slice(hu, PIXEL_MM)
    assert dice(found, lungs & ~dome) > 0.95
    assert found[dome].mean() < 0.05
    assert not found[bowel].any()
    assert not found[pad & ~lungs].any()


def test_consolidation_at_the_pleura_and_a_vessel_are_lung() -> None:
    hu, lungs = chest()
    y, x = grids()
    lesion = lungs & (np.hypot(x + 118, y - 20) < 22)
    hu[lesion] = 30
    assert lesion.sum() * PIXEL_MM**2 > 700
    found = lungs_of_slice(hu, PIXEL_MM)
    assert found[lesion].mean() > 0.6
    assert found[lungs & (np.hypot(np.abs(x) - 60, y - 20) < 6)].all()


def test_nothing_is_found_where_nothing_is_dark() -> None:
    assert not lungs_of_slice(np.full((40, 40), 40, dtype=np.int16), PIXEL_MM).any()
    assert not lungs_of_slice(np.full((40, 40), -1000, dtype=np.int16), PIXEL_MM).any()


def test_border() -> None:
    mask = np.zeros((7, 7), dtype=bool)
    mask[1:6, 1:] = True
    mask[3, 3] = False  # a hole
    expected = np.zeros_like(mask)
    expected[[1, 5], 1:6] = expected[1:6, 1] = True
    np.testing.assert_array_equal(border_of(mask), expected)


@pytest.mark.skipif(not COVID20.is_dir(), reason=f"the real slices are not at {COVID20}")
@pytest.mark.shared_data
@pytest.mark.slow
def test_real_slices_with_equalised_contrast() -> None:
    """COVID-19 slices of 13 patients, spine down and spine up; the reference lungs hold the infection."""
    with (COVID20 / "cases.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)][5::12]
    scores = []
    for name in names:
        grey = np.asarray(Image.open(COVID20 / "ct" / name).convert("L"))
        hu = np.rint(-1340 + grey / 255 * 2040).astype(np.int16)
        truth = np.asarray(Image.open(COVID20 / "lungs" / name).convert("L")) > 0
        scores.append(dice(classical_lungs(hu[None], None)[0], truth))
    assert len(scores) == 98
    assert np.mean(scores) >= 0.93
    assert np.percentile(scores, 5) >= 0.82
