import numpy as np
import pytest
from numpy.typing import NDArray

from ct.grey_regions import otsu_threshold, split_by_hull

AIR, LUNG, BODY = 20, 50, 200


def body(size: int = 120) -> NDArray[np.uint8]:
    """A bright disc with two dark ones in it, in darker surroundings."""
    image = np.full((size, size), AIR, dtype=np.uint8)
    image[disc(size, 60, 60, 52)] = BODY
    for x in (38, 82):
        image[disc(size, 60, x, 16)] = LUNG
    return image


def disc(size: int, y: int, x: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_inside_is_the_hull_of_both_lungs() -> None:
    image = body()
    inside, outside = split_by_hull(image)
    assert len(inside) + len(outside) == image.size
    # Two half discs and the rectangle between them, a little widened.
    assert len(inside) == pytest.approx(np.pi * 16**2 + 44 * 32, rel=0.1)
    lungs = 2 * np.count_nonzero(disc(120, 60, 38, 16))
    assert np.count_nonzero(inside == LUNG) == lungs
    assert np.count_nonzero(inside == AIR) == 0
    assert np.count_nonzero(outside == AIR) == np.count_nonzero(image == AIR)


@pytest.mark.parametrize("turn", range(4))
def test_gas_and_the_gap_of_a_table_are_no_lungs(turn: int) -> None:
    image = body()
    image[disc(120, 95, 60, 5)] = AIR  # gas in the stomach
    image[114:116] = BODY  # a table, with a gap of air to the patient
    expected, _ = split_by_hull(body())
    inside, _ = split_by_hull(np.ascontiguousarray(np.rot90(image, turn)))
    assert len(inside) == pytest.approx(len(expected), rel=0.05)
    assert np.count_nonzero(inside == AIR) == 0


def test_padding_is_neither_inside_nor_outside() -> None:
    image = body()
    image[:3] = image[-3:] = 0
    image[60, 60] = 0  # black, but no padding
    inside, outside = split_by_hull(image)
    assert len(inside) + len(outside) == image.size - 6 * 120
    assert np.count_nonzero(inside == 0) == 1


def test_an_image_cut_to_the_lungs_and_one_without_any() -> None:
    cut = body()[40:80, 18:102]
    inside, outside = split_by_hull(np.ascontiguousarray(cut))
    assert np.count_nonzero(inside == LUNG) == np.count_nonzero(cut == LUNG)
    solid = np.where(disc(120, 60, 60, 52), BODY, AIR).astype(np.uint8)
    inside, outside = split_by_hull(solid)
    assert (len(inside), len(outside)) == (0, solid.size)


def test_the_threshold_parts_best_of_all() -> None:
    """Against the variance within both classes, for every threshold."""
    greys = np.concatenate(
        [np.random.default_rng(0).normal(60, 15, 4000), np.random.default_rng(1).normal(170, 25, 900)]
    )
    greys = np.rint(greys.clip(0, 255)).astype(int)
    within = [
        sum(part.size * part.var() for part in (greys[greys <= t], greys[greys > t]))
        for t in range(greys.min(), greys.max())
    ]
    assert otsu_threshold(np.bincount(greys, minlength=256)) == greys.min() + int(np.argmin(within))
