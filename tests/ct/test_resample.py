import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from ct.resample import AxisMap, overlap_matrix, plan_transform


def test_area_weights_by_hand() -> None:
    np.testing.assert_allclose(overlap_matrix(4, 1.0, 2, 2.0, 0.0).toarray(), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(
        overlap_matrix(3, 1.0, 2, 1.5, 0.0).toarray(), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6
    )


def test_padding_has_no_weight() -> None:
    np.testing.assert_allclose(overlap_matrix(2, 1.0, 2, 2.0, 1.0).toarray(), [[0.5, 0], [0, 0.5]])


def test_equal_sizes_are_the_identity() -> None:
    np.testing.assert_array_equal(overlap_matrix(5, 0.7, 5, 0.7, 0.0).toarray(), np.eye(5))


def test_enlarging_is_linear_as_in_simpleitk() -> None:
    line = np.array([0.0, 3.0, 1.0, 7.0, 2.0], dtype=np.float32)
    image = SimpleITK.GetImageFromArray(np.tile(line, (2, 1)))
    image.SetSpacing((2.0, 1.0))
    reference = SimpleITK.Resample(
        image, (10, 2), SimpleITK.Transform(), SimpleITK.sitkLinear, (-0.5, 0.0), (1.0, 1.0), image.GetDirection(), -1.0
    )
    expected = SimpleITK.GetArrayFromImage(reference)[0]
    inner = slice(1, 9)
    np.testing.assert_allclose((overlap_matrix(5, 2.0, 10, 1.0, 0.0) @ line)[inner], expected[inner], rtol=1e-5)


def test_enlarging_one_voxel_repeats_it() -> None:
    np.testing.assert_array_equal(overlap_matrix(1, 4.0, 4, 1.0, 0.0).toarray(), np.ones((4, 1)))


def test_nearest_index_by_hand() -> None:
    np.testing.assert_array_equal(AxisMap(4, 1.0, 3, 2.0, 1.0).nearest(), [0, 2, -1])


@pytest.mark.parametrize(
    ("count", "mm", "expected_count"),
    [(100, 1.0, 20), (7, 3.0, 4), (1, 1.0, 1), (30, 4.0, 30), (20, 8.0, 20), (66, 3.99999, 66), (79, 3.9873, 63)],
)
def test_thin_slices_become_about_5_mm_and_fill_the_extent(count: int, mm: float, expected_count: int) -> None:
    z = plan_transform((count, 8, 8), (mm, 1, 1), 8).z
    assert z.count == expected_count
    assert z.count * z.spacing_mm == pytest.approx(count * mm)


def test_slices_of_unknown_spacing_stay() -> None:
    assert plan_transform((40, 8, 8), (1, 1, 1), 8, spacing_known=False).z.count == 40


def test_odd_and_anisotropic_scans_keep_their_aspect() -> None:
    transform = plan_transform((3, 101, 77), (5.0, 0.7, 1.3), 64)
    assert transform.shape == (3, 64, 64)
    assert transform.y.spacing_mm == pytest.approx(transform.x.spacing_mm)
    assert transform.x.spacing_mm * 64 == pytest.approx(77 * 1.3)


def test_a_scan_of_the_right_size_is_only_padded() -> None:
    hu = np.random.default_rng(0).integers(-1024, 1000, (2, 9, 14)).astype(np.int16)
    out = plan_transform((2, 9, 14), (5, 2, 2), 14).apply_hu(hu)
    np.testing.assert_array_equal(out[:, 2:11], hu)
    assert (out[:, :2] == -1024).all()
    assert (out[:, 11:] == -1024).all()


def test_area_averaging_keeps_the_mean() -> None:
    hu = np.random.default_rng(1).integers(-1000, 500, (13, 60, 60)).astype(np.int16)
    out = plan_transform((13, 60, 60), (1.1, 0.9, 0.9), 17).apply_hu(hu)
    assert out.mean() == pytest.approx(hu.mean(), abs=1.0)
    transform = plan_transform((12, 60, 60), (2.5, 1, 1), 20)
    blocks = hu[:12].reshape(6, 2, 20, 3, 20, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(transform.apply_hu(hu[:12]), blocks, atol=0.51)


def lesion(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    grid = np.meshgrid(*(np.arange(n) * mm for n, mm in zip(shape, spacing_mm, strict=True)), indexing="ij")
    centre = [n * mm * share for n, mm, share in zip(shape, spacing_mm, (0.45, 0.6, 0.4), strict=True)]
    radii = (31.0, 27.0, 24.0)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((120, 220, 180), (1.0, 0.7, 0.7)), ((90, 111, 131), (2.0, 1.7, 1.3)), ((24, 150, 150), (8, 1, 1))],
)
def test_lesion_volume_stays_within_1_percent(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> None:
    mask = lesion(shape, spacing_mm)
    transform = plan_transform(shape, spacing_mm, 128)
    before = mask.sum() * np.prod(spacing_mm)
    after = transform.apply_mask(mask).sum() * np.prod(transform.spacing_mm)
    assert after == pytest.approx(before, rel=0.01)
    back = transform.restore(transform.apply_mask(mask).astype(np.float32)) > 0.5
    assert back.sum() == pytest.approx(mask.sum(), rel=0.02)
    np.testing.assert_allclose(ndimage.center_of_mass(back), ndimage.center_of_mass(mask), atol=0.6)


def test_masks_keep_minus_one_and_are_zero_in_the_padding() -> None:
    mask = np.full((1, 4, 8), -1, dtype=np.int8)
    out = plan_transform((1, 4, 8), (5, 1, 1), 8).apply_mask(mask)
    np.testing.assert_array_equal(out[0, :, 0], [0, 0, -1, -1, -1, -1, 0, 0])
    assert out.dtype == np.int8


def test_restore_of_a_smooth_map_is_close() -> None:
    z, y, x = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 90), np.linspace(0, 1, 70), indexing="ij")
    smooth = (0.2 * z + 0.3 * y + 0.4 * x).astype(np.float32)
    transform = plan_transform(smooth.shape, (2.0, 1.0, 1.0), 48)
    hu = transform.apply_hu((smooth * 1000 - 1024).astype(np.int16))
    back = transform.restore((hu.astype(np.float32) + 1024) / 1000)
    assert back.shape == smooth.shape
    assert back.dtype == np.float32
    inner = (slice(4, -4), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(back[inner], smooth[inner], atol=0.005)


def test_wrong_shapes_and_sizes_are_refused() -> None:
    transform = plan_transform((4, 8, 8), (5, 1, 1), 8)
    with pytest.raises(ValueError, match="expected the prepared grid's"):
        transform.restore(np.zeros((4, 8, 9), dtype=np.float32))
    with pytest.raises(ValueError, match="at least 1 pixel"):
        plan_transform((4, 8, 8), (5, 1, 1), 0)
