import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny_chest import AFFINE, SHAPE, chest, save

from cohort.importers.medseg import import_medseg, main
from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.table import read_cohort
from ct.classes import read_class_set
from ct.files.read import read_mask, read_pattern_mask, read_scan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The published layout with three volumes; volume 2 has no consolidation."""
    folder = tmp_path / "medseg"
    for name in ("1", "2", "10"):
        mask = np.zeros(SHAPE, dtype=np.float64 if name == "1" else np.uint8)
        mask[4:8, 4:6, 0], mask[9, 5, 1] = 1, 3
        if name != "2":
            mask[5, 11:13, 2] = 2
        hu, lungs = chest()
        save(hu, folder / "rp_im" / f"{name}.nii.gz")
        save(lungs, folder / "rp_lung_msk" / f"{name}.nii.gz")
        save(mask, folder / "rp_msk" / f"{name}.nii.gz")
    return folder


def test_masks_get_the_codes_of_the_paper_on_the_scans_own_grid(source: Path, tmp_path: Path) -> None:
    rows = {row.scan_id: row for row in read_cohort(import_medseg(source, tmp_path / "out")).rows}
    assert sorted(rows) == ["medseg_1", "medseg_10", "medseg_2"]
    assert [rows[f"medseg_{n}"].has_consolidation for n in (1, 2, 10)] == [1, 0, 1]
    row = rows["medseg_1"]
    scan = read_scan(row.image)
    assert row.pattern_mask is not None
    assert row.lung_mask is not None
    codes = read_pattern_mask(row.pattern_mask, scan)
    # The file's (i, j, k) run to the back, to the left and down; canonical (z, y, x) up, to the back and to the left.
    expected = np.zeros((3, 14, 18), dtype=int)
    expected[2, 4:8, 4:6], expected[1, 9, 5], expected[0, 5, 11:13] = 5, 3, 10
    np.testing.assert_array_equal(codes, expected)
    stored = nibabel.Nifti1Image.from_filename(row.pattern_mask)
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_allclose(stored.affine, AFFINE)
    assert read_mask(row.lung_mask, scan).astype(bool).sum() == 2 * 8 * 5 * 3


def test_volumes_stay_where_they_are(source: Path, tmp_path: Path) -> None:
    path = import_medseg(source, tmp_path / "out")
    assert sorted(file.name for file in path.parent.iterdir()) == ["cohort.csv", "masks"]
    with path.open(newline="") as file:
        row = next(record for record in csv.DictReader(file) if record["scan_id"] == "medseg_1")
    assert row["image"] == "../medseg/rp_im/1.nii.gz"
    assert row["pattern_mask"] == "masks/medseg_1.nii.gz"
    assert (row["site"], row["patient_id"]) == ("radiopaedia", "medseg_1")


@pytest.mark.parametrize("name", ["l3", "medseg"])
def test_the_cohort_can_be_prepared(name: str, source: Path, tmp_path: Path) -> None:
    # One patient: the guard against leakage knows equal scans.
    (tmp_path / "groups.csv").write_text("name,patient_id\n1,p\n2,p\n10,p\n")
    path = import_medseg(source, tmp_path / "out", tmp_path / "groups.csv")
    classes = read_class_set(name)
    prepare_cohort(path, tmp_path / "prepared", size=18, jobs=1, classes=classes)
    codes = np.load(tmp_path / "prepared" / "medseg_1" / "patterns.npy")
    assert set(np.unique(codes)) == {0, 3, 5, 10}
    infection = np.load(tmp_path / "prepared" / "medseg_1" / "infection.npy")
    np.testing.assert_array_equal(infection == 1, np.isin(codes, (5, 10)))
    np.testing.assert_array_equal(np.isin(classes.leaves_of(codes), classes.outside), (codes == 3) & (name == "medseg"))


def test_unpacked_in_other_ways(source: Path, tmp_path: Path) -> None:
    nested = tmp_path / "download" / "Medseg"
    nested.mkdir(parents=True)
    for name in ("rp_im", "rp_lung_msk", "rp_msk"):
        (nested / name.upper()).mkdir()
        (source / name).rename(nested / name.upper() / name)
    (nested / "RP_IM" / "__MACOSX").mkdir()
    (nested / "RP_IM" / "__MACOSX" / "._1.nii.gz").write_bytes(b"")
    (nested / "RP_IM" / "rp_im" / "1.nii.gz").rename(nested / "RP_IM" / "rp_im" / "._1.nii.gz")
    with pytest.raises(ValueError, match="no scan for the mask '1'"):
        import_medseg(tmp_path / "download", tmp_path / "out")
    (nested / "RP_IM" / "rp_im" / "._1.nii.gz").rename(nested / "RP_IM" / "rp_im" / "1.nii.gz")
    assert len(read_cohort(import_medseg(tmp_path / "download", tmp_path / "out")).rows) == 3


def test_groups_tell_who_is_one_patient(source: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    for text in ("name,patient_id\n1,p\n10,p\n", "patient_id;name\np;1\np;10\n"):
        groups.write_text(text)
        rows = read_cohort(import_medseg(source, tmp_path / "out", groups)).rows
        patients = {row.scan_id: row.patient_id for row in rows}
        assert patients == {"medseg_1": "p", "medseg_10": "p", "medseg_2": "medseg_2"}
    for text in ("name,patient_id\n3,p\n", "name,patient_id\n1,p\n1,q\n", "name,patient_id\n1,\n", "a,b\n1,p\n"):
        groups.write_text(text)
        with pytest.raises(ValueError, match=r"groups\.csv: row \d"):
            import_medseg(source, tmp_path / "out", groups)
    with pytest.raises(ValueError, match="not a readable CSV"):
        import_medseg(source, tmp_path / "out", tmp_path / "none.csv")


def test_a_mask_that_cannot_be_used_leaves_its_scan_out_and_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(np.full(SHAPE, 4, dtype=np.uint8), source / "rp_msk" / "2.nii.gz")
    (source / "rp_msk" / "10.nii.gz").write_bytes(b"broken")
    assert main(["--folder", str(source), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "left out: medseg_2: " in shown
    assert "holds the value 4; expected only [0, 1, 2, 3]" in shown
    assert "left out: medseg_10: " in shown
    assert "1 scans of 1 patients (radiopaedia 1)" in shown
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        assert sorted(record["name"] for record in csv.DictReader(file)) == ["medseg_10", "medseg_2"]


def test_another_layout_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "rp_lung_msk" / "1.nii.gz").unlink()
    with pytest.raises(ValueError, match="no mask for the scan '1'"):
        import_medseg(source, tmp_path / "out")
    assert main(["--folder", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert main(["--folder", str(source / "rp_im"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no folder 'rp_im'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
