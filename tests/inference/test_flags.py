"""What must be flagged is, and whole scans are not."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cohort.table import read_cohort
from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from ct.scan import Grid, Scan
from inference.flags import NO_TRAINING_SET, find_flags
from inference.scan_list import Source
from inference.segmenter import Segmenter
from phantom import write_phantom as phantom
from phantom.plan import plan_cohort
from training.checkpoint_file import load_checkpoint_file, write_checkpoint
from training.training_set import TrainingSet, lung_histogram

NO_FEATURES = np.zeros((1, 2))
NO_COUNTS = np.zeros(124, np.int64)


def blocks(
    slices: int = 60, first: int = 8, last: int = 52, mm: float = 5.0, columns: slice = slice(6, 20)
) -> tuple[Scan, np.ndarray]:
    """Two tapered blocks of lung in a body, about four litres."""
    lung = np.zeros((slices, 50, 50), bool)
    for z in range(first, min(last, slices)):
        margin = max(0, 8 - min(z - first, last - 1 - z))
        lung[z, 10 + margin : 40 - margin, columns] = lung[z, 10 + margin : 40 - margin, 30:44] = True
    hu = np.where(lung, -850, 40).astype(np.int16)
    affine = np.diag([-mm, -mm, mm, 1.0])
    return Scan(hu, affine, Grid((50, 50, slices), affine), "x"), lung


def flags_of(scan: Scan, lung: np.ndarray) -> tuple[str, ...]:
    return find_flags(scan, lung, NO_COUNTS, NO_FEATURES, None)


def test_a_whole_chest_is_not_flagged() -> None:
    assert flags_of(*blocks()) == ()


@pytest.mark.parametrize(
    ("scan", "sentence"),
    [
        (blocks(mm=2.0), "the lungs measure 0.2"),
        (blocks(mm=8.0), "the lungs measure 16"),
        (blocks(first=20, last=40), "little lung: 100 mm"),
        (blocks(slices=30, last=40), "partial: the scan's border at the head shows 100%"),
        (blocks(columns=slice(0, 14)), "partial: the scan's border at the right shows"),
    ],
)
def test_sizes_and_cut_lungs_are_flagged(scan: tuple[Scan, np.ndarray], sentence: str) -> None:
    assert sum(sentence in flag for flag in flags_of(*scan)) == 1


def test_a_scan_that_begins_inside_the_lungs_is_cut_at_the_foot() -> None:
    scan, lung = blocks()
    cut = Scan(scan.hu[20:], scan.affine, Grid((50, 50, 40), scan.affine), "x")
    (flag,) = flags_of(cut, lung[20:])
    assert "at the foot shows 100% of the lungs' largest section" in flag


def test_a_lone_slice_without_spacing_has_no_size_to_judge() -> None:
    scan, lung = blocks()
    one = Scan(scan.hu[30:31], np.eye(4), Grid((50, 50, 1), np.eye(4)), "x", spacing_known=False)
    assert flags_of(one, lung[30:31]) == ()


@pytest.mark.slow
def test_consolidation_that_a_mask_leaves_out_is_flagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = (("B", "test", 3, 0, 1), ("D", "test", 2, 1, 0))
    monkeypatch.setattr(phantom, "plan_cohort", lambda _, *rest: plan_cohort(scans, *rest))
    cohort = phantom.write_cohort(tmp_path / "phantom", 0, False, None, 1)
    aerated_flags = []
    for row in read_cohort(cohort).rows:
        scan = read_scan(row.image)
        lung = find_lungs(scan, row.lung_mask).mask
        assert not any("opacity outside" in flag for flag in flags_of(scan, lung)), row.scan_id
        aerated = lung & (ndimage.uniform_filter(scan.hu, 3) < -500)
        if aerated.sum() < 0.85 * lung.sum():
            aerated_flags.append(any("opacity outside" in flag for flag in flags_of(scan, aerated)))
    assert len(aerated_flags) > 1
    assert all(aerated_flags)


def test_what_is_far_from_training_is_flagged_with_how_far() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(-800, 50, (99, 400)).astype(np.int16)
    counts = np.stack([lung_histogram(of_slice, np.ones(400, bool)) for of_slice in hu])
    features = rng.normal(size=(99, 2))
    training = TrainingSet.describe(counts, features, np.arange(99) // 3, np.arange(99) // 3)
    scan, lung = blocks()
    assert find_flags(scan, lung, counts[:3].sum(0), features[:3], training) == ()
    shifted = np.roll(counts[:3].sum(0), 10)
    (of_hu,) = find_flags(scan, lung, shifted, features[:3], training)
    assert "unlike the 33 training scans: the HU in the lungs are" in of_hu
    (of_features,) = find_flags(scan, lung, counts[:3].sum(0), features[:3] + 9, training)
    assert "the network's features" in of_features


def test_a_checkpoint_without_a_description_says_so_in_a_warning(em_run: Path, cohort: Path, tmp_path: Path) -> None:
    older = load_checkpoint_file(em_run / "best.ckpt")
    del older["ground_glass"]["training"]
    write_checkpoint(older, tmp_path / "older.ckpt")
    source = Source("a", cohort.parent / "images" / "B007")
    of_older = Segmenter([tmp_path / "older.ckpt"]).segment(source).warnings
    of_today = Segmenter([em_run / "best.ckpt"]).segment(source).warnings
    assert set(of_older) - set(of_today) == {NO_TRAINING_SET}
    assert set(of_today) <= set(of_older)


def test_a_scan_in_other_units_of_contrast_is_flagged(infection_run: Path, cohort: Path, tmp_path: Path) -> None:
    import nibabel

    stored = nibabel.Nifti1Image.from_filename(cohort.parent / "images" / "A001.nii.gz")
    mask = cohort.parent / "masks" / "A001_lungs.nii.gz"
    hu = np.asarray(stored.dataobj)
    lighter = hu + np.where(hu < -400, 250, 0).astype(hu.dtype)
    nibabel.save(nibabel.Nifti1Image(lighter, stored.affine), tmp_path / "b.nii.gz")
    segmenter = Segmenter([infection_run / "best.ckpt"])
    flags = segmenter.segment(Source("b", tmp_path / "b.nii.gz", lung_mask=mask)).flags
    as_it_is = segmenter.segment(Source("a", cohort.parent / "images" / "A001.nii.gz", lung_mask=mask)).flags
    assert not [flag for flag in as_it_is if flag.startswith("unlike")]
    of_hu, of_features = sorted(flag for flag in flags if flag.startswith("unlike"))
    assert of_hu.startswith("unlike the 4 training scans: the HU in the lungs are ")
    assert of_features.startswith("unlike the 4 training scans: the network's features are ")
