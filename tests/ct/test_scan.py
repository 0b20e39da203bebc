import itertools

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from ct.scan import Affine, Grid, Scan, grid_facing, to_canonical, to_source

SPACING_XYZ = (1.5, 2.0, 7.0)
ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


def canonical_affine() -> Affine:
    affine = np.diag([-SPACING_XYZ[0], -SPACING_XYZ[1], SPACING_XYZ[2], 1.0])
    affine[:3, 3] = (101.0, 57.0, -300.0)
    return affine


def blob() -> NDArray[np.int16]:
    array = np.zeros((4, 5, 6), dtype=np.int16)
    array[1, 2, 4] = 700
    array[3, 0, 1] = 90
    return array


def world_centroid(array_ijk: NDArray[np.int16], affine: Affine) -> NDArray[np.float64]:
    index = np.argwhere(array_ijk)
    weights = array_ijk[array_ijk != 0].astype(float)
    mm = index @ affine[:3, :3].T + affine[:3, 3]
    return (mm * weights[:, None]).sum(axis=0) / weights.sum()


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_orientation_goes_there_and_back(axcodes: str) -> None:
    grid = grid_facing((4, 5, 6), canonical_affine(), axcodes)
    stored = to_source(blob(), grid)
    assert "".join(nibabel.aff2axcodes(grid.affine)) == axcodes
    np.testing.assert_allclose(
        world_centroid(stored, grid.affine), world_centroid(blob().transpose(2, 1, 0), canonical_affine())
    )
    array, affine = to_canonical(stored, grid.affine)
    np.testing.assert_array_equal(array, blob())
    np.testing.assert_allclose(affine, canonical_affine())


def test_canonical_axes_point_left_back_and_up() -> None:
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    array, affine = to_canonical(stored, np.diag([1.0, 1.0, 1.0, 1.0]))
    assert nibabel.aff2axcodes(affine) == ("L", "P", "S")
    assert array.shape == (4, 3, 2)
    assert array[0, 0, 0] == stored[1, 2, 0]


def test_oblique_and_flat_affines_are_refused() -> None:
    turned = canonical_affine()
    angle = np.radians(2)
    turned[:3, :3] = (
        np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ (turned[:3, :3])
    )
    with pytest.raises(ValueError, match="oblique"):
        to_canonical(blob(), turned)
    with pytest.raises(ValueError, match="above 0 mm"):
        to_canonical(blob(), np.diag([1.0, 0.0, 1.0, 1.0]))


def test_orientation_noise_below_the_tolerance_is_kept() -> None:
    noisy = canonical_affine()
    noisy[1, 0] = 5e-4
    _, affine = to_canonical(blob().transpose(2, 1, 0), noisy)
    np.testing.assert_array_equal(affine, noisy)


def test_a_mask_of_another_scan_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the scan's"):
        to_source(np.zeros((4, 5, 7), dtype=np.uint8), Grid((6, 5, 4), canonical_affine()))


def test_unknown_orientation_letters_are_refused() -> None:
    with pytest.raises(ValueError, match="'RAX'"):
        grid_facing((4, 5, 6), canonical_affine(), "RAX")


def test_spacing_and_voxel_volume() -> None:
    scan = Scan(blob(), canonical_affine(), Grid((6, 5, 4), canonical_affine()), "a")
    assert scan.spacing_mm == (7.0, 2.0, 1.5)
    assert scan.voxel_ml == pytest.approx(0.021)
    blind = Scan(blob(), canonical_affine(), Grid((6, 5, 4), canonical_affine()), "a", spacing_known=False)
    assert np.isnan(blind.voxel_ml)
