"""Write -> read -> write a mask back keeps every voxel at its place, whatever the orientation, geometry and format."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ct.files.dicom.export import write_dicom_series
from ct.files.read import read_mask, read_scan
from ct.files.write import write_mask, write_scan_nifti
from ct.scan import Affine, grid_facing, to_source

SHAPE = (5, 7, 6)
LANDMARK_HU = 345
LPS = np.array([-1.0, -1.0, 1.0])
AXCODES = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]
SIZES_MM = st.tuples(*(st.floats(0.4, most) for most in (14.0, 14.0, 29.0)))
ORIGINS_MM = st.tuples(*[st.floats(-1500.0, 1500.0)] * 3)
NOISE = st.sampled_from([0.0, 1e-6, 1e-4, 1e-3])
# A corner of a box, so that the blob looks different from every side.
CORNERS = st.tuples(*(st.integers(0, count - 2) for count in SHAPE))


def chest(corner: tuple[int, int, int]) -> NDArray[np.int16]:
    hu = np.resize(np.array([-1000, -861, -402, -33, -94], dtype=np.int16), SHAPE)
    z, y, x = corner
    hu[z : z + 2, y, x] = hu[z, y : y + 2, x] = hu[z, y, x + 1] = LANDMARK_HU
    return hu


def canonical_affine(
    sizes_mm: tuple[float, float, float], origin_mm: tuple[float, float, float], noise: float, seed: int
) -> Affine:
    affine = np.diag([-sizes_mm[0], -sizes_mm[1], sizes_mm[2], 1.0])
    affine[:3, :3] += np.random.default_rng(seed).uniform(-noise, noise, (3, 3)) * np.array(sizes_mm)
    affine[:3, 3] = origin_mm
    return affine


def save_nrrd(hu: NDArray[np.int16], affine: Affine, path: Path, axcodes: str) -> None:
    grid = grid_facing(hu.shape, affine, axcodes)
    image = SimpleITK.GetImageFromArray(to_source(hu, grid).transpose(2, 1, 0))
    sizes = np.linalg.norm(grid.affine[:3, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetDirection((LPS[:, None] * grid.affine[:3, :3] / sizes).ravel().tolist())
    image.SetOrigin((LPS * grid.affine[:3, 3]).tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def nibabel_place(path: Path, value: int) -> NDArray[np.float64]:
    image = nibabel.Nifti1Image.from_filename(path)
    index = np.argwhere(np.asarray(image.dataobj) == value).mean(axis=0)
    return nibabel.affines.apply_affine(image.affine, index)


def simpleitk_place(path: Path) -> NDArray[np.float64]:
    image = SimpleITK.ReadImage(str(path))
    index = np.argwhere(SimpleITK.GetArrayFromImage(image) == LANDMARK_HU).mean(axis=0)[::-1]
    return LPS * image.TransformContinuousIndexToPhysicalPoint(index.tolist())


def pydicom_place(folder: Path) -> NDArray[np.float64]:
    points = []
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        along_row, along_column = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = dataset.PixelSpacing
        for row, column in np.argwhere(dataset.pixel_array + float(dataset.RescaleIntercept) == LANDMARK_HU):
            step = along_row * between_columns * column + along_column * between_rows * row
            points.append(np.array(dataset.ImagePositionPatient, dtype=float) + step)
    return LPS * np.mean(points, axis=0)


Write = Callable[[NDArray[np.int16], Affine, Path, str], None]
FORMATS: dict[str, tuple[Write, Callable[[Path], NDArray[np.float64]]]] = {
    "ct.nii": (write_scan_nifti, lambda path: nibabel_place(path, LANDMARK_HU)),
    "ct.nii.gz": (write_scan_nifti, lambda path: nibabel_place(path, LANDMARK_HU)),
    "ct.nrrd": (save_nrrd, simpleitk_place),
    "ct.nhdr": (save_nrrd, simpleitk_place),
    "dicom": (
        lambda hu, affine, path, axcodes: write_dicom_series(hu, affine, path, axcodes=axcodes),
        pydicom_place,
    ),
}


def voxels_apart(one_mm: NDArray[np.float64], other_mm: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    """How far two places are apart along each axis of the grid, in voxels."""
    return np.abs(np.linalg.solve(affine[:3, :3], np.subtract(one_mm, other_mm)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    axcodes=st.sampled_from(AXCODES),
    sizes_mm=SIZES_MM,
    origin_mm=ORIGINS_MM,
    noise=NOISE,
    seed=st.integers(0, 1000),
    corner=CORNERS,
)
def test_the_same_voxels_at_the_same_place(
    name: str,
    axcodes: str,
    sizes_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    noise: float,
    seed: int,
    corner: tuple[int, int, int],
) -> None:
    hu, affine = chest(corner), canonical_affine(sizes_mm, origin_mm, noise, seed)
    write, place = FORMATS[name]
    index = np.argwhere(hu == LANDMARK_HU).mean(axis=0)[::-1]
    true_place = nibabel.affines.apply_affine(affine, index)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(hu, affine, path, axcodes)
        seen_by_other = place(path)
        scan = read_scan(path)
        write_mask(scan.hu == LANDMARK_HU, scan, Path(folder) / "mask.nii.gz")
        mask = read_mask(Path(folder) / "mask.nii.gz", scan)
        mask_place = nibabel_place(Path(folder) / "mask.nii.gz", 1)
    np.testing.assert_array_equal(scan.hu, hu)
    np.testing.assert_array_equal(mask, hu == LANDMARK_HU)
    assert "".join(nibabel.aff2axcodes(scan.affine)) == "LPS"
    for seen in (seen_by_other, nibabel.affines.apply_affine(scan.affine, index), mask_place):
        assert voxels_apart(seen, true_place, affine).max() < 0.5
    np.testing.assert_allclose(scan.spacing_mm, sizes_mm[::-1], rtol=2e-3)
