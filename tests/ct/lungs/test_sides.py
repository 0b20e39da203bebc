import numpy as np
import pytest
from places import SHARED_DATA

from ct.files.read import read_mask, read_scan
from ct.lungs.sides import LEFT, RIGHT, left_right, sides_of_slices
from phantom.patient import Phantom, make_phantom

# The phantom's masks say 1 = left, 2 = right; ours are lungmask's: 1 = right, 2 = left.
SIDE_OF_PHANTOM = np.array([0, LEFT, RIGHT], dtype=np.int8)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(7, "C", False, 0.0)


def test_both_lungs_of_the_phantom(phantom: Phantom) -> None:
    expected = SIDE_OF_PHANTOM[phantom.lungs]
    labels = left_right(phantom.lungs > 0, phantom.spacing_mm)
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_a_lung_alone_wherever_it_lies_in_the_image(phantom: Phantom, side: int) -> None:
    lung = SIDE_OF_PHANTOM[phantom.lungs] == side
    columns = np.flatnonzero(lung.any(axis=(0, 1)))
    cropped = lung[:, :, columns[0] : columns[-1] + 3]
    for mask in (lung, cropped):
        labels = left_right(mask, phantom.spacing_mm)
        assert set(np.unique(labels[mask])) == {side}


def test_lungs_that_touch_are_cut_where_they_touch(phantom: Phantom) -> None:
    """A bridge in front of the heart, off the middle, narrowest at a place that moves from slice to slice."""
    expected = SIDE_OF_PHANTOM[phantom.lungs]
    lung = expected > 0
    bridge = np.zeros_like(lung)
    for z in range(6, 14):
        right = np.flatnonzero((expected[z] == RIGHT).any(axis=0)).max() + 1
        left = np.flatnonzero((expected[z] == LEFT).any(axis=0)).min()
        row = np.flatnonzero((expected[z] == RIGHT)[:, right - 1])[0]
        neck = left - 2 if z < 10 else right + 1
        bridge[z, row : row + 6, right:left] = True
        bridge[z, row + 1 : row + 6, neck] = False
        expected[z, :, right:neck][bridge[z, :, right:neck]] = RIGHT
        expected[z, :, neck:left][bridge[z, :, neck:left]] = LEFT
    labels = left_right(lung | bridge, phantom.spacing_mm)
    assert (labels[bridge] == expected[bridge]).mean() > 0.9
    np.testing.assert_array_equal(labels[~bridge], expected[~bridge])


def test_a_lung_that_crosses_the_middle_stays_whole() -> None:
    lung = np.zeros((6, 40, 60), dtype=bool)
    lung[:, 5:35, 4:26] = lung[:, 5:35, 36:56] = True
    lung[:, 5:9, 26:33] = True  # the right lung's front edge reaches beyond the middle
    labels = left_right(lung, (5.0, 5.0, 5.0))
    assert (labels[:, :, :33][lung[:, :, :33]] == RIGHT).all()
    assert (labels[:, :, 36:][lung[:, :, 36:]] == LEFT).all()


def test_nothing_is_no_side() -> None:
    assert not left_right(np.zeros((2, 5, 5), dtype=bool), (5.0, 1.0, 1.0)).any()
    assert not np.any([*sides_of_slices(np.zeros((2, 5, 5), dtype=bool), (5.0, 1.0, 1.0))])


@pytest.mark.parametrize("spacing_mm", [(5.0, 2.0, 2.0), (0.75, 0.7, 0.7), (1.25, 0.5, 1.0)])
def test_slice_by_slice_every_voxel_of_fine_lungs_has_the_side_of_the_whole(
    phantom: Phantom, spacing_mm: tuple[float, float, float]
) -> None:
    coarse = SIDE_OF_PHANTOM[phantom.lungs][:, 20:-20]
    fine = coarse.repeat(2, 0).repeat(3, 1).repeat(3, 2)[1:, 2:-1, 1:]  # sides that groups of voxels do not divide
    labels = np.stack([*sides_of_slices(fine > 0, spacing_mm)])
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(np.where(fine > 0, labels, 0), fine)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real scans are not at {SHARED_DATA}")
@pytest.mark.shared_data
def test_sides_of_a_real_region_map() -> None:
    folder = SHARED_DATA / "cip_ct64"
    scan = read_scan(folder / "ct-64.nrrd")
    region = read_mask(folder / "lm-64.nrrd", scan) % 256  # 9-11: thirds of the left lung, 12-14: of the right
    expected = np.where(region >= 12, RIGHT, np.where(region >= 9, LEFT, 0))
    np.testing.assert_array_equal(left_right(region > 0, scan.spacing_mm), expected)
    fine = read_scan(folder / "crop_ct_2slices.nrrd")
    labels = read_mask(folder / "crop_ct_2slices_dcnnLungSegmentationLabelmap.nrrd", fine)  # 2 right, 3 left
    np.testing.assert_array_equal(left_right(labels > 0, fine.spacing_mm), np.maximum(labels - 1, 0))
    by_slice = np.stack([*sides_of_slices(labels > 0, fine.spacing_mm)])
    np.testing.assert_array_equal(np.where(labels > 0, by_slice, 0), np.maximum(labels - 1, 0))
