import numpy as np
import pytest
from numpy.typing import NDArray

from ct.lungs.fissure_evidence import BORDER_MM, COLUMN_MM, Columns, evidence
from ct.lungs.fissure_shapes import LungBox

Samples = NDArray[np.float32]
SHAPE = (40, 36, 81)
MIDDLE = 40


def noise(seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(-850, 30, SHAPE).astype(np.float32)


def everywhere() -> NDArray[np.bool_]:
    return np.ones(SHAPE, dtype=bool)


def sheet_at(height: NDArray[np.floating], hu: float = 150.0) -> Samples:
    """Return by how much a sheet at a height above the middle, in mm by column, is denser."""
    away = np.arange(SHAPE[2]) - MIDDLE - np.broadcast_to(height, SHAPE[:2])[..., None]
    return (hu * np.exp(-(away**2))).astype(np.float32)


def slopes() -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    y, x = (COLUMN_MM * (np.arange(size) - size // 2.0) for size in SHAPE[:2])
    return y[:, None], x[None]


def test_every_column_has_mean_0_and_all_have_deviation_1() -> None:
    inside = np.random.default_rng(1).random(SHAPE[:2])[..., None] + np.zeros(SHAPE[2]) > 0.05
    inside[:, :, :9] = False
    found = evidence(noise() + sheet_at(np.array(3.0)), inside, 1.2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(2), 0, atol=1e-3)
    told = found[found != 0]
    assert np.sqrt(np.mean(np.square(told, dtype=np.float64))) == pytest.approx(1, abs=1e-3)


def test_nothing_is_told_outside_and_at_the_border() -> None:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[10:30, 8:28, 15:70] = True
    found = evidence(noise(), inside, 1.0)
    core = np.zeros(SHAPE, dtype=bool)
    core[11:29, 9:27, 15 + BORDER_MM : 70 - BORDER_MM] = True
    assert not found[~core].any()
    assert (found[core] != 0).mean() > 0.99


def test_where_the_samples_end_inside_the_lung_is_no_border() -> None:
    found = evidence(noise(), everywhere(), 1.0)
    assert found[5:-5, 5:-5, 0].any()
    assert found[5:-5, 5:-5, -1].any()


def test_a_lung_too_thin_tells_nothing() -> None:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[:, :, 38:43] = True
    assert not evidence(noise(), inside, 1.0).any()


def test_what_lies_outside_the_lung_does_not_count() -> None:
    inside = everywhere()
    inside[:, :18] = False
    hu = noise() + sheet_at(np.array(0.0))
    other = np.where(inside, hu, 3000).astype(np.float32)
    np.testing.assert_array_equal(evidence(hu, inside, 1.0), evidence(other, inside, 1.0))


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.3, 0.0), (-0.25, 0.2)])
def test_the_evidence_is_greatest_at_the_sheet(slope: tuple[float, float]) -> None:
    y, x = slopes()
    height = 5 + slope[0] * y + slope[1] * x
    found = evidence(noise() + sheet_at(height, 90.0), everywhere(), 1.0)
    inner = (slice(6, -6), slice(6, -6))
    away = np.abs(found.argmax(2) - MIDDLE - height)[inner]
    assert np.mean(away) < 1.0
    assert np.mean(away < 3) > 0.97


def test_a_sheet_steeper_than_the_leans_is_missed_and_leans_find_it() -> None:
    y, _ = slopes()
    height = 0.3 * y + np.zeros(SHAPE[:2])
    hu = noise() + sheet_at(height, 90.0)
    missed, seen = (evidence(hu, everywhere(), 1.0, leans) for leans in ((0.0,), (-0.3, 0.0, 0.3)))
    inner = (slice(6, -6), slice(6, -6))
    far = [np.mean(np.abs(found.argmax(2) - MIDDLE - height)[inner] > 3) for found in (missed, seen)]
    assert far[0] > 5 * far[1] + 0.05


def test_a_steep_sheet_is_thick_along_columns() -> None:
    """A faint sheet three times as thick along columns is seen where its steepness is known."""
    away = (np.arange(SHAPE[2]) - MIDDLE) / 3.0
    hu = noise() + (10 * np.exp(-(away**2))).astype(np.float32)
    flat, steep = (evidence(hu, everywhere(), steepness)[6:-6, 6:-6] for steepness in (1.0, 3.0))
    near = [np.mean(np.abs(found.argmax(2) - MIDDLE) < 4) for found in (flat, steep)]
    assert near[1] > 0.9
    assert near[0] < 0.6


def test_a_vessel_is_worth_less_than_a_sheet() -> None:
    hu = noise() + sheet_at(np.array(-15.0), 120.0)
    hu[18:21, :, MIDDLE + 18 : MIDDLE + 22] = 40.0
    found = evidence(hu, everywhere(), 1.0)[:, 6:-6]
    sheet = found[6:-6, :, MIDDLE - 15].mean()
    assert found[19, :, MIDDLE + 18 : MIDDLE + 22].max(axis=1).mean() < 0.7 * sheet
    # As a surface, a vessel is even less: few columns have it.
    assert found[6:-6, :, MIDDLE + 20].mean() < 0.2 * sheet


def test_how_dense_a_vessel_or_a_clip_is_does_not_count() -> None:
    hu = noise() + sheet_at(np.array(-15.0))
    metal = hu.copy()
    hu[10:13, :, 50:54], metal[10:13, :, 50:54] = 40.0, 3000.0
    np.testing.assert_array_equal(evidence(hu, everywhere(), 1.0), evidence(metal, everywhere(), 1.0))


def test_a_band_that_few_vessels_cross_attracts_without_a_sheet() -> None:
    vessels = np.random.default_rng(5).random(SHAPE) < 0.06
    vessels[:, :, MIDDLE + 3 : MIDDLE + 15] = False
    found = evidence(np.where(vessels, -400, noise()).astype(np.float32), everywhere(), 1.0)[6:-6, 6:-6]
    by_height = found.mean((0, 1))
    assert by_height[MIDDLE + 6 : MIDDLE + 12].mean() > 0.3
    assert abs(by_height[10 : MIDDLE - 5].mean()) < 0.1


def test_columns_sample_a_scan_linearly() -> None:
    spacing_mm, mask_mm = (2.0, 1.5, 1.0), (3.0, 3.0, 3.0)
    z, y, x = np.meshgrid(*(np.arange(n) for n in (60, 80, 120)), indexing="ij")
    hu = (5 * z - 4 * y + 3 * x - 700).astype(np.int16)
    mask = np.zeros((40, 40, 40), dtype=bool)
    mask[10:30, 5:35, 5:30] = True
    columns = Columns.of(mask, mask_mm, LungBox.around(mask, mask_mm))
    height = np.full((len(columns.y_mm), len(columns.x_mm)), 61.0)
    values, inside = columns.sample(hu, spacing_mm, height, 40)
    z_mm = 61.0 + np.arange(-40, 41)
    expected = (
        5 * (z_mm / 2 - 0.5) - 4 * (columns.y_mm[:, None, None] / 1.5 - 0.5) + 3 * (columns.x_mm[:, None] - 0.5) - 700
    )
    np.testing.assert_allclose(values[inside], expected[inside], atol=0.01)
    there = np.broadcast_to((z_mm >= 30) & (z_mm < 90), inside.shape)
    np.testing.assert_array_equal(inside, there)
    low, high = columns.spans_mm()
    np.testing.assert_array_equal(low, np.full_like(low, 30.0))
    np.testing.assert_array_equal(high, np.full_like(high, 90.0))


def test_columns_cover_the_box_and_samples_beyond_the_scan_are_not_inside() -> None:
    mask = np.ones((10, 12, 14), dtype=bool)
    mask[:, 8:, :5] = False
    columns = Columns.of(mask, (3.0, 3.0, 3.0), LungBox.around(mask, (3.0, 3.0, 3.0)))
    gaps = np.concatenate([np.diff(columns.y_mm), np.diff(columns.x_mm)])
    np.testing.assert_allclose(gaps, COLUMN_MM)
    assert columns.terms.shape == (len(columns.y_mm), len(columns.x_mm), 6)
    low, high = columns.spans_mm()
    absent = (columns.y_mm[:, None] >= 24) & (columns.x_mm[None] < 15)
    np.testing.assert_array_equal(high - low, np.where(absent, 0.0, 30.0))
    height = np.full(low.shape, 15.0)
    _, inside = columns.sample(np.zeros((10, 12, 14), dtype=np.int16), (3.0, 3.0, 3.0), height, 20)
    np.testing.assert_array_equal(inside.sum(2), np.where(absent, 0, 30))
