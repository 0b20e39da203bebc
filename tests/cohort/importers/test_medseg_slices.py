import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from places import SHARED_DATA

from cohort.importers.medseg_slices import STACK_HU, import_medseg_slices, main
from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.table import read_cohort
from ct.files.read import read_mask, read_pattern_mask, read_slice_images
from ct.grey_window import AUTO

SHARED = SHARED_DATA / "medseg_dev"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real slices are not at {SHARED}")
GREYS = (-1100.0, 260.0)
PALETTE = [0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255]


def lying_chest(rows: int, columns: int) -> NDArray[np.uint8]:
    """A chest as Inf-Net shows it: the patient's right at the top, the front to the left."""
    plane = np.full((rows, columns), 15, dtype=np.uint8)
    plane[2:-2, 2:-2] = 214
    middle = rows // 2
    plane[5 : middle - 3, 8:-8] = plane[middle + 3 : -5, 8:-8] = 45
    return plane


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The layout of Inf-Net's images, each of another size; slice 9 has no consolidation."""
    folder = tmp_path / "slices"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, (rows, columns) in {9: (40, 50), 10: (44, 52), 2: (60, 48)}.items():
        Image.fromarray(lying_chest(rows, columns)).save(folder / "images" / f"{number}.jpg", quality=95)
        mask = np.zeros((rows, columns), dtype=np.uint8)
        mask[8:11, 12:20] = 1
        if number != 9:
            mask[8, 30] = 2
        palette = Image.fromarray(mask)
        palette.putpalette(PALETTE)
        palette.save(folder / "masks" / f"{number}.png")
    return folder


def test_each_slice_is_a_scan_with_the_papers_codes(source: Path, tmp_path: Path) -> None:
    rows = read_cohort(import_medseg_slices(source, tmp_path / "out", *GREYS)).rows
    assert [row.scan_id for row in rows] == ["medseg_slice_2", "medseg_slice_9", "medseg_slice_10"]
    assert [row.has_consolidation for row in rows] == [1, 0, 1]
    assert {(row.grey_low_hu, row.grey_high_hu, row.site) for row in rows} == {(*GREYS, "sirm")}
    assert rows[2].image.resolve() == (source / "images" / "10.jpg").resolve()
    scan = read_slice_images(rows[2].image, GREYS)
    expected = np.zeros((1, 44, 52))
    expected[0, 8:11, 12:20], expected[0, 8, 30] = 5, 10
    assert rows[2].pattern_mask is not None
    np.testing.assert_array_equal(read_pattern_mask(rows[2].pattern_mask, scan), expected)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cohort.csv", "masks"]


def test_without_lung_masks_every_pixel_can_count(source: Path, tmp_path: Path) -> None:
    row = read_cohort(import_medseg_slices(source, tmp_path / "out", *GREYS, transpose=True, whole_image=True)).rows[0]
    scan = read_slice_images(row.image, GREYS)
    assert scan.hu.shape == (1, 48, 60)
    assert row.lung_mask is not None
    assert (read_mask(row.lung_mask, scan) > 0).all()


def test_transposing_sets_image_and_mask_upright(source: Path, tmp_path: Path) -> None:
    row = read_cohort(import_medseg_slices(source, tmp_path / "out", *GREYS, transpose=True)).rows[0]
    scan = read_slice_images(row.image, GREYS)
    lying = np.asarray(Image.open(source / "images" / "2.jpg"))
    np.testing.assert_array_equal(scan.hu[0], np.rint(-1100 + lying.T / 255 * 1360))
    expected = np.zeros((1, 48, 60))
    expected[0, 12:20, 8:11], expected[0, 30, 8] = 5, 10
    assert row.pattern_mask is not None
    np.testing.assert_array_equal(read_pattern_mask(row.pattern_mask, scan), expected)


def test_the_slices_can_be_prepared(source: Path, tmp_path: Path) -> None:
    # One patient: the guard against leakage knows near-equal scans.
    (tmp_path / "groups.csv").write_text("name,patient_id\n2,p\n9,p\n10,p\n")
    path = import_medseg_slices(source, tmp_path / "out", *GREYS, tmp_path / "groups.csv", transpose=True)
    prepare_cohort(path, tmp_path / "p", 48, jobs=1)
    assert np.load(tmp_path / "p" / "medseg_slice_10" / "lung.npy").any()
    assert set(np.unique(np.load(tmp_path / "p" / "medseg_slice_10" / "patterns.npy"))) == {0, 5, 10}


def test_hu_are_estimated_unless_they_are_declared(source: Path, tmp_path: Path) -> None:
    rows = read_cohort(import_medseg_slices(source, tmp_path / "out")).rows
    assert [row.grey_hu for row in rows] == [AUTO] * 3


def test_groups_keep_neighbours_together(source: Path, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("name,patient_id\n2,a\n9,a\n")
    rows = read_cohort(import_medseg_slices(source, tmp_path / "out", *GREYS, tmp_path / "groups.csv")).rows
    assert [row.patient_id for row in rows] == ["a", "a", "medseg_slice_10"]


def test_the_names_of_inf_nets_folders_are_known(source: Path, tmp_path: Path) -> None:
    (source / "images").rename(source / "Imgs")
    (source / "masks").rename(source / "GT")
    assert len(read_cohort(import_medseg_slices(source, tmp_path / "out", *GREYS)).rows) == 3


def test_the_two_stacks(tmp_path: Path) -> None:
    upright = np.zeros((2, 30, 24), dtype=np.float32)
    upright[:] = np.linspace(-1500, 700, 30 * 24).reshape(30, 24)
    upright[1] += 0.4
    masks = np.zeros(upright.shape, dtype=np.float32)
    masks[1, 20, 3], masks[1, 21, 4], masks[1, 22, 5] = 1, 2, 3
    for name, array in (("tr_im", upright), ("tr_mask", masks)):
        # Axes of the files: column, row, slice; what their header says of a place is of no use.
        nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    rows = read_cohort(import_medseg_slices(tmp_path, tmp_path / "out", -1200, 500)).rows
    assert [row.scan_id for row in rows] == ["medseg_slice_0", "medseg_slice_1"]
    assert [row.has_consolidation for row in rows] == [0, 1]
    scan = read_slice_images(rows[1].image, (-1200, 500))
    # Half a grey step and the rounding of HU.
    assert np.abs(scan.hu[0] - np.clip(upright[1], -1200, 500)).max() <= 1700 / 255 / 2 + 0.5
    assert rows[1].pattern_mask is not None
    codes = read_mask(rows[1].pattern_mask, scan)
    assert (codes[0, 20, 3], codes[0, 21, 4], codes[0, 22, 5]) == (5, 10, 3)
    # Their HU are known, so that there is nothing to estimate.
    shutil.rmtree(tmp_path / "out")
    rows = read_cohort(import_medseg_slices(tmp_path, tmp_path / "out")).rows
    assert {row.grey_hu for row in rows} == {STACK_HU}
    scan = read_slice_images(rows[1].image, STACK_HU)
    assert np.abs(scan.hu[0] - np.clip(upright[1], *STACK_HU)).max() <= 6 / 2 + 0.5
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cohort.csv", "images", "masks"]


def test_a_mask_that_cannot_be_used_leaves_its_slice_out_and_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((40, 50), 7, dtype=np.uint8)).save(source / "masks" / "9.png")
    (source / "masks" / "10.png").write_bytes(b"broken")
    command = ["--folder", str(source), "--out", str(tmp_path / "out"), "--grey-low-hu=-1100", "--grey-high-hu=260"]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("left out: medseg_slice_9: ")
    assert shown[0].endswith("9.png: the mask holds the value 7; expected only [0, 1, 2, 3]")
    assert shown[1].startswith("left out: medseg_slice_10: ")
    assert shown[2] == "1 scans of 1 patients (sirm 1)"


def test_wrong_folders_are_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(folder: Path, *options: str) -> str:
        command = ["--folder", str(folder), "--out", str(tmp_path / "out"), "--grey-low-hu=-1100", *options]
        assert main(command) == 2
        return capsys.readouterr().err

    stacks = tmp_path / "stacks"
    stacks.mkdir()
    for name in ("tr_im", "tr_mask"):
        nibabel.Nifti1Image(np.ones((4, 4, 2)), np.eye(4)).to_filename(stacks / f"{name}.nii")
    assert "expected slices in HU" in refused(stacks, "--grey-high-hu=260")
    (stacks / "tr_im.nii").write_bytes(b"no NIfTI")
    assert "tr_im.nii: not a readable stack" in refused(stacks, "--grey-high-hu=260")
    assert "expected the first lower" in refused(source, "--grey-high-hu=-1200")
    assert "holds neither folders images/ and masks/" in refused(source / "images", "--grey-high-hu=260")
    (source / "masks" / "9.png").unlink()
    assert "no mask for the scan '9'" in refused(source, "--grey-high-hu=260")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["slices", "stacks"]


@pytest.mark.slow
@needs_shared
@pytest.mark.shared_data
def test_the_real_slices(tmp_path: Path) -> None:
    path = import_medseg_slices(SHARED, tmp_path / "out", *GREYS, transpose=True)
    rows = read_cohort(path).rows
    assert len(rows) == 50
    for row in rows:
        name = row.scan_id.removeprefix("medseg_slice_")
        values = np.asarray(Image.open(SHARED / "masks" / f"{name}.png"))
        assert row.has_consolidation == int((values == 2).any())
        assert row.pattern_mask is not None
        codes = read_pattern_mask(row.pattern_mask, read_slice_images(row.image, GREYS))
        np.testing.assert_array_equal(codes[0], np.array([0, 5, 10])[values].T)
