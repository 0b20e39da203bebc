import csv
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from ct.prepare import main, prepare_cohort, prepare_scan
from ct.read import read_scan
from ct.write import write_dicom_series, write_scan_nifti

SPACING = (2.0, 1.5, 1.5)


def affine():
    return np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])


def chest(shape=(25, 70, 90)):
    """Return HU and masks: a body with two lungs and a ball of infection with a denser core."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[:, 8:62, 6:84] = 40
    lung = np.zeros(shape, dtype=np.uint8)
    lung[:, 15:55, 12:38] = lung[:, 15:55, 50:78] = 1
    hu[lung == 1] = -850
    distance = np.sqrt(((z - 12) * 2.0) ** 2 + ((y - 35) * 1.5) ** 2 + ((x - 64) * 1.5) ** 2)
    codes = np.where(distance < 9, 10, np.where(distance < 17, 5, 0)).astype(np.uint8)
    hu[codes == 5], hu[codes == 10] = -500, 0
    return hu, lung, codes


@pytest.fixture
def cohort(tmp_path):
    hu, lung, codes = chest()
    write_scan_nifti(hu, affine(), tmp_path / "a.nii.gz", "RAS")
    write_scan_nifti(lung, affine(), tmp_path / "a_lung.nii.gz", "LPS")
    write_scan_nifti(codes, affine(), tmp_path / "a_codes.nii.gz", "SAR")
    write_dicom_series(hu, affine(), tmp_path / "b")
    write_scan_nifti((codes > 0).astype(np.uint8), affine(), tmp_path / "b_infection.nii.gz")
    (tmp_path / "b.txt").write_text("Consolidation in the left lung.", encoding="utf-8")
    for name in ("ct", "lungs", "covid"):
        (tmp_path / "c" / name).mkdir(parents=True)
    for z in (3, 12):
        grey = np.clip((hu[z].astype(int) + 1000) / 1200 * 255, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "c" / "ct" / f"{z:02d}.png")
        Image.fromarray(lung[z] * 255).save(tmp_path / "c" / "lungs" / f"{z:02d}.png")
        Image.fromarray((codes[z] > 0).astype(np.uint8) * 255).save(tmp_path / "c" / "covid" / f"{z:02d}.png")
    path = tmp_path / "cohort.csv"
    path.write_text(
        "scan_id,patient_id,site,image,lung_mask,infection_mask,pattern_mask,report,has_consolidation,split,"
        "grey_low_hu,grey_high_hu\n"
        "a,Miller,A,a.nii.gz,a_lung.nii.gz,,a_codes.nii.gz,,0,train,,\n"
        "b,Smith,B,b,,b_infection.nii.gz,,b.txt,,test,,\n"
        "c,Jones,C,c/ct,c/lungs,c/covid,,,,val,-1000,200\n",
        encoding="utf-8",
    )
    return path


def index_of(out):
    with (out / "index.csv").open(encoding="utf-8", newline="") as file:
        return {row["scan_id"]: row for row in csv.DictReader(file)}


def test_a_cohort_of_nifti_dicom_and_images(cohort, tmp_path):
    out = tmp_path / "out"
    folders = prepare_cohort(cohort, out, size=40, jobs=2)
    assert [folder.name for folder in folders] == ["a", "b", "c"]
    a = {file.stem: np.load(file, mmap_mode="r") for file in (out / "a").glob("*.npy")}
    assert sorted(a) == ["hu", "infection", "lung", "patterns"]
    assert {array.shape for array in a.values()} == {(10, 40, 40)}
    assert a["hu"].dtype == np.int16
    assert {a[name].dtype for name in ("infection", "lung", "patterns")} == {np.dtype(np.int8)}
    np.testing.assert_array_equal(a["infection"] == 1, a["patterns"] >= 5)
    assert sorted(file.name for file in (out / "b").iterdir()) == ["hu.npy", "infection.npy", "lung.npy", "scan.json"]
    np.testing.assert_array_equal(np.load(out / "b" / "hu.npy"), a["hu"])
    assert np.load(out / "c" / "hu.npy").shape == (2, 40, 40)


def test_index_and_scan_json(cohort, tmp_path):
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40, jobs=1)
    index = index_of(out)
    assert list(index) == ["a", "b", "c"]
    a, b, c = index.values()
    assert (float(a["spacing_z_mm"]), float(a["spacing_y_mm"]), float(a["spacing_x_mm"])) == (5.0, 3.375, 3.375)
    assert [row["weak_label"] for row in (a, b, c)] == ["0", "1", "-1"]
    assert [row["split"] for row in (a, b, c)] == ["train", "test", "val"]
    assert [(row["has_infection_mask"], row["has_pattern_mask"]) for row in (a, b, c)] == [
        ("1", "1"),
        ("1", "0"),
        ("1", "0"),
    ]
    assert [row["slices"] for row in (a, b, c)] == ["10", "10", "2"]
    assert (c["spacing_z_mm"], c["grey_low_hu"], c["grey_high_hu"]) == ("", "-1000.0", "200.0")
    assert len({row["patient_id"] for row in (a, b, c)}) == 3
    everything = (out / "index.csv").read_text() + "".join(p.read_text() for p in out.glob("*/scan.json"))
    assert not any(name in everything for name in ("Miller", "Smith", "Jones", str(tmp_path)))
    record = json.loads((out / "b" / "scan.json").read_text())
    assert (record["lung_source"], record["masks"]) == ("classical", ["infection"])
    assert json.loads((out / "c" / "scan.json").read_text())["spacing_known"] is False


def test_volumes_are_kept(cohort, tmp_path):
    prepare_cohort(cohort, tmp_path / "out", size=80, jobs=1)
    _, _, codes = chest()
    patterns = np.load(tmp_path / "out" / "a" / "patterns.npy")
    row = index_of(tmp_path / "out")["a"]
    voxel = np.prod([float(row[f"spacing_{axis}_mm"]) for axis in "zyx"])
    assert (patterns >= 5).sum() * voxel == pytest.approx((codes >= 5).sum() * np.prod(SPACING), rel=0.04)


def test_a_second_run_has_nothing_to_do_and_a_change_is_prepared_again(cohort, tmp_path, capsys):
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40, jobs=1)
    stamps = {name: (out / name / "hu.npy").stat().st_mtime_ns for name in "abc"}
    pseudonym = index_of(out)["a"]["patient_id"]
    capsys.readouterr()
    prepare_cohort(cohort, out, size=40, jobs=1)
    assert "nothing to do: 3 scans" in capsys.readouterr().err
    image = nibabel.load(tmp_path / "b_infection.nii.gz")
    empty = nibabel.Nifti1Image(np.zeros(image.shape, dtype=np.uint8), image.affine)
    empty.set_sform(image.affine, 1)
    empty.to_filename(tmp_path / "b_infection.nii.gz")
    prepare_cohort(cohort, out, size=40, jobs=1)
    changed = [name for name in "abc" if (out / name / "hu.npy").stat().st_mtime_ns != stamps[name]]
    assert changed == ["b"]
    assert not np.load(out / "b" / "infection.npy").any()
    assert index_of(out)["a"]["patient_id"] == pseudonym
    prepare_cohort(cohort, out, size=32, jobs=1)
    assert np.load(out / "a" / "hu.npy").shape[1:] == (32, 32)


def test_bad_scans_are_listed_after_the_others_were_prepared(cohort, tmp_path):
    (tmp_path / "a_lung.nii.gz").write_bytes(b"broken")
    image = nibabel.load(tmp_path / "b_infection.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 40
    nibabel.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(tmp_path / "b_infection.nii.gz")
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="cannot be used") as caught:
        prepare_cohort(cohort, out, size=40, jobs=2)
    lines = str(caught.value).splitlines()
    assert "2 of 3 scans cannot be used" in lines[0]
    assert lines[1].startswith("  a: ")
    assert "not a readable NIfTI" in lines[1]
    assert lines[2].startswith("  b: ")
    assert "voxels away" in lines[2]
    assert sorted(file.name for file in out.iterdir() if not file.name.startswith(".")) == ["c"]
    assert not list(out.glob(".tmp-*"))


def test_a_failed_run_leaves_no_index_of_an_earlier_one(cohort, tmp_path):
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40, jobs=1)
    (tmp_path / "a.nii.gz").write_bytes(b"broken")
    with pytest.raises(ValueError, match="1 of 3 scans"):
        prepare_cohort(cohort, out, size=40, jobs=1)
    assert not (out / "index.csv").exists()


def test_leftovers_of_a_killed_run_are_cleared(cohort, tmp_path):
    out = tmp_path / "out"
    (out / ".tmp-dead" / "new").mkdir(parents=True)
    (out / "a").mkdir()
    (out / "a" / "scan.json").write_text("{ cut off")
    prepare_cohort(cohort, out, size=40, jobs=1)
    assert not list(out.glob(".tmp-*"))
    assert np.load(out / "a" / "hu.npy").shape == (10, 40, 40)


def test_a_scan_without_lungs_is_refused(cohort, tmp_path):
    _, lung, _ = chest()
    write_scan_nifti(np.zeros_like(lung), affine(), tmp_path / "a_lung.nii.gz")
    with pytest.raises(ValueError, match="no lung voxels"):
        prepare_cohort(cohort, tmp_path / "out", size=40, jobs=1)


def test_prepare_scan_in_memory_restores_to_the_scan(cohort, tmp_path):
    scan = read_scan(tmp_path / "a.nii.gz")
    _, lung, codes = chest()
    prepared = prepare_scan(scan, lung, {"patterns": codes.astype(np.int8)}, size=64)
    assert prepared.hu.shape == prepared.lung.shape == prepared.masks["patterns"].shape == (10, 64, 64)
    back = prepared.transform.restore(prepared.lung.astype(np.float32)) > 0.5
    assert 2 * (back & (lung > 0)).sum() / (back.sum() + lung.sum()) > 0.97
    with pytest.raises(ValueError, match="patterns mask has shape"):
        prepare_scan(scan, lung, {"patterns": codes[:3]}, size=64)


def test_command_line(cohort, tmp_path, capsys):
    assert main(["--cohort", str(cohort), "--out", str(tmp_path / "out"), "--size", "40", "--jobs", "2"]) == 0
    shown = capsys.readouterr()
    assert "3 scans in" in shown.out
    assert main(["--cohort", str(tmp_path / "none.csv"), "--out", str(tmp_path / "new")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert "no such cohort file" in shown.err
    assert not (tmp_path / "new").exists()
