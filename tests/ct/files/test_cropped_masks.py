"""Masks that are stored cropped on their scan's own voxels, as 3D Slicer saves what is drawn."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from prepare_harness import affine, chest, verdicts_of, write_scans
from refusing import assert_refused

from cohort.prepare.prepare_cohort import prepare_cohort
from ct.files.read import read_mask, read_pattern_mask, read_scan
from ct.files.write import write_scan_nifti
from ct.lungs.find import find_lungs
from ct.refusal import Sentence
from ct.scan import Affine, Scan

FIRST = (3, 9, 12)  # z, y, x
LAST = (22, 56, 79)
BOX = tuple(slice(a, b) for a, b in zip(FIRST, LAST, strict=True))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    path = tmp_path_factory.mktemp("scan") / "ct.nii.gz"
    write_scan_nifti(chest()[0], affine(), path, "SAR")
    return read_scan(path)


def whole_mask() -> NDArray[np.uint8]:
    """Values 0 to 3 inside the box, a corner of it among them."""
    mask = np.zeros(chest()[0].shape, dtype=np.uint8)
    mask[BOX] = np.random.default_rng(0).integers(0, 4, mask[BOX].shape)
    mask[FIRST] = 3
    return mask


def box_affine(first: Sequence[float] = FIRST, spacing: float = 1.0) -> Affine:
    matrix = affine() @ np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = (affine() @ [*reversed(first), 1])[:3]
    return matrix


def save(mask: NDArray[np.uint8], path: Path, matrix: Affine, axcodes: str) -> Path:
    """Write a mask with its axes turned, as the suffix says."""
    nifti = path.parent / f"{path.name}.nii"
    write_scan_nifti(mask, matrix, nifti, axcodes)
    if path.name.endswith((".img", ".nii.gz")):
        image = nibabel.Nifti1Image.from_filename(nifti)
        kind: type[nibabel.Nifti1Pair] = nibabel.Nifti1Pair if path.suffix == ".img" else nibabel.Nifti1Image
        nibabel.save(kind(np.asarray(image.dataobj), image.affine), path)
    else:
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(nifti)), str(path), useCompression=True)
    return path


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SLP", "AIR"])
@pytest.mark.parametrize("name", ["m.nrrd", "m.seg.nrrd", "m.nhdr", "m.nii.gz", "m.mha", "m.mhd", "m.img"])
def test_a_cropped_mask_is_placed_where_voxels_coincide(scan: Scan, tmp_path: Path, axcodes: str, name: str) -> None:
    path = save(whole_mask()[BOX], tmp_path / name, box_affine(), axcodes)
    repairs: list[Sentence] = []
    np.testing.assert_array_equal(read_mask(path, scan, repairs, "infection mask"), whole_mask())
    assert repairs == [
        "the infection mask is stored cropped to (z, y, x) = (19, 47, 67) of the scan's (25, 70, 90) voxels; it was "
        "placed from voxel (3, 9, 12) on, where voxels coincide, and is 0 elsewhere"
    ]


def test_a_mask_of_the_whole_scan_needs_no_repair(scan: Scan, tmp_path: Path) -> None:
    repairs: list[Sentence] = []
    path = save(whole_mask(), tmp_path / "m.nrrd", affine(), "RAS")
    np.testing.assert_array_equal(read_mask(path, scan, repairs), whole_mask())
    assert repairs == []


def test_a_single_voxel_in_the_last_corner(scan: Scan, tmp_path: Path) -> None:
    corner = tuple(count - 1 for count in chest()[0].shape)
    path = save(np.ones((1, 1, 1), dtype=np.uint8), tmp_path / "m.nii.gz", box_affine(corner), "LPS")
    mask = read_mask(path, scan)
    assert (mask.sum(), mask[corner]) == (1, 1)


def test_pattern_masks_too(scan: Scan, tmp_path: Path) -> None:
    codes = np.where(whole_mask()[BOX] == 3, 10, 0).astype(np.uint8)
    codes[1, 1, 1] = 255
    expected = np.zeros(chest()[0].shape, dtype=np.int8)
    expected[BOX] = np.where(codes == 255, -1, codes.astype(int))
    repairs: list[Sentence] = []
    path = save(codes, tmp_path / "m.mha", box_affine(), "LPS")
    np.testing.assert_array_equal(read_pattern_mask(path, scan, repairs), expected)
    assert "the pattern mask is stored cropped" in repairs[0]


@pytest.mark.parametrize(
    ("situation", "first", "spacing", "fragment"),
    [
        ("half a voxel off", (3.5, 9, 12), 1, "lie up to 0.50 voxels off the scan's"),
        ("a fifth of a voxel off", (3, 9.2, 12), 1, "lie up to 0.20 voxels off the scan's"),
        ("before the first voxel", (3, -2, 12), 1, "sticks out of the scan by 2 voxels"),
        ("behind the last voxel", (7, 9, 12), 1, "sticks out of the scan by 1 voxels"),
        ("another spacing", (3, 9, 12), 1.02, "lie up to 1.32 voxels off the scan's"),
    ],
)
def test_what_does_not_coincide_or_sticks_out_is_refused(
    scan: Scan, tmp_path: Path, situation: str, first: tuple[float, float, float], spacing: float, fragment: str
) -> None:
    path = save(whole_mask()[BOX], tmp_path / "m.nrrd", box_affine(first, spacing), "RAS")
    assert_refused(lambda path: read_mask(path, scan), path, fragment, "export it with the scan as reference")


def test_noise_of_headers_is_no_offset(scan: Scan, tmp_path: Path) -> None:
    path = save(whole_mask()[BOX], tmp_path / "m.nrrd", box_affine((3.04, 8.97, 12), 1.0005), "RAS")
    np.testing.assert_array_equal(read_mask(path, scan), whole_mask())


def test_a_mask_of_the_scans_size_a_few_voxels_away_is_no_crop(scan: Scan, tmp_path: Path) -> None:
    path = save(whole_mask(), tmp_path / "m.nrrd", box_affine((0, 0, 4)), "RAS")
    assert_refused(lambda path: read_mask(path, scan), path, "lies up to 4.00 voxels away")


def test_lungs_from_a_cropped_mask(tmp_path: Path) -> None:
    hu, lung, _ = chest()
    write_scan_nifti(hu, affine(), tmp_path / "ct.nii", "LPS")
    path = save(lung[:, 15:55, 12:78], tmp_path / "lungs.seg.nrrd", box_affine((0, 15, 12)), "RAS")
    lungs = find_lungs(read_scan(tmp_path / "ct.nii"), path)
    np.testing.assert_array_equal(lungs.mask, lung == 1)
    assert len(lungs.repairs) == 1
    assert "the lung mask is stored cropped to (z, y, x) = (25, 40, 66)" in lungs.repairs[0]


@pytest.mark.slow
def test_preparing_says_which_masks_were_placed_and_prepares_the_same(tmp_path: Path) -> None:
    cohort = write_scans(tmp_path)
    _, lung, codes = chest()
    prepare_cohort(cohort, tmp_path / "whole", size=32, jobs=1)
    write_scan_nifti(lung[:, 15:55, 12:78], box_affine((0, 15, 12)), tmp_path / "a_lung.nii.gz", "LPS")
    write_scan_nifti(codes[2:24, 20:60, 40:85], box_affine((2, 20, 40)), tmp_path / "a_codes.nii.gz", "SAR")
    prepare_cohort(cohort, tmp_path / "cropped", size=32, jobs=1)
    for array in ("hu", "lung", "patterns", "infection"):
        whole, cropped = (np.load(tmp_path / name / "a" / f"{array}.npy") for name in ("whole", "cropped"))
        np.testing.assert_array_equal(whole, cropped)
    record = json.loads((tmp_path / "cropped" / "a" / "scan.json").read_text())
    assert record["verdict"] == "repaired"
    assert [repair.split(" is stored")[0] for repair in record["repairs"]] == ["the pattern mask", "the lung mask"]
    assert verdicts_of(tmp_path / "cropped")["a"]["verdict"] == "repaired"
