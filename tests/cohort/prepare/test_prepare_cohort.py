import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from prepare_harness import SPACING, chest, index_of

from cohort.prepare.__main__ import main
from cohort.prepare.prepare_cohort import prepare_cohort, prepare_scan, prepared_folder
from ct.files.read import read_scan
from datamodules.infection_data import InfectionData


def test_a_cohort_of_nifti_dicom_and_images(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = prepare_cohort(cohort, out, size=40, jobs=2)
    assert [folder.name for folder in done.folders] == ["a", "b", "c"]
    assert (done.fresh, done.refused) == (3, 0)
    a = {file.stem: np.load(file, mmap_mode="r") for file in (out / "a").glob("*.npy")}
    assert sorted(a) == ["hu", "infection", "lung", "patterns"]
    assert {array.shape for array in a.values()} == {(10, 40, 40)}
    assert a["hu"].dtype == np.int16
    assert {a[name].dtype for name in ("infection", "lung", "patterns")} == {np.dtype(np.int8)}
    np.testing.assert_array_equal(a["infection"] == 1, a["patterns"] >= 5)
    assert sorted(file.name for file in (out / "b").iterdir()) == ["hu.npy", "infection.npy", "lung.npy", "scan.json"]
    np.testing.assert_array_equal(np.load(out / "b" / "hu.npy"), a["hu"])
    assert np.load(out / "c" / "hu.npy").shape == (2, 40, 40)


def test_index_and_scan_json(cohort: Path, tmp_path: Path) -> None:
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


def test_volumes_are_kept(cohort: Path, tmp_path: Path) -> None:
    prepare_cohort(cohort, tmp_path / "out", size=80, jobs=1)
    _, _, codes = chest()
    patterns = np.load(tmp_path / "out" / "a" / "patterns.npy")
    row = index_of(tmp_path / "out")["a"]
    voxel = np.prod([float(row[f"spacing_{axis}_mm"]) for axis in "zyx"])
    assert (patterns >= 5).sum() * voxel == pytest.approx((codes >= 5).sum() * np.prod(SPACING), rel=0.04)


def test_a_second_run_has_nothing_to_do_and_a_change_is_prepared_again(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40, jobs=1)
    stamps = {name: (out / name / "hu.npy").stat().st_mtime_ns for name in "abc"}
    pseudonym = index_of(out)["a"]["patient_id"]
    capsys.readouterr()
    prepare_cohort(cohort, out, size=40, jobs=1)
    assert "nothing to do: 3 scans" in capsys.readouterr().err
    image = nibabel.Nifti1Image.from_filename(tmp_path / "b_infection.nii.gz")
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


def test_it_says_beforehand_what_it_needs(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_cohort(cohort, tmp_path / "out", size=40)
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("3 scans are new")
    assert "2 jobs x 4 x 315 kB" in line  # 25 x 70 x 90 voxels of 16 bit
    prepare_cohort(cohort, tmp_path / "out", size=40)
    assert "scans are new" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least 1 pixel and 1 job"):
        prepare_cohort(cohort, tmp_path / "out", jobs=0)


def test_leftovers_of_a_killed_run_are_cleared(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".making" / ".a.0123456789ab.part").mkdir(parents=True)
    (out / "a").mkdir()
    (out / "a" / "scan.json").write_text("{ cut off")
    prepare_cohort(cohort, out, size=40, jobs=1)
    assert not list(out.glob("**/.*.part"))
    assert np.load(out / "a" / "hu.npy").shape == (10, 40, 40)


def test_a_folder_that_a_power_cut_left_incomplete_is_prepared_again(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    before = (out / "a" / "hu.npy").read_bytes()
    (out / "a" / "hu.npy").write_bytes(before[:1000])
    assert prepare_cohort(cohort, out, size=40).fresh == 1
    assert (out / "a" / "hu.npy").read_bytes() == before


def test_prepare_scan_in_memory_restores_to_the_scan(cohort: Path, tmp_path: Path) -> None:
    scan = read_scan(tmp_path / "a.nii.gz")
    _, lung, codes = chest()
    prepared = prepare_scan(scan, lung, {"patterns": codes.astype(np.int8)}, size=64)
    assert prepared.hu.shape == prepared.lung.shape == prepared.masks["patterns"].shape == (10, 64, 64)
    back = prepared.transform.restore(prepared.lung.astype(np.float32)) > 0.5
    assert 2 * (back & (lung > 0)).sum() / (back.sum() + lung.sum()) > 0.97
    with pytest.raises(ValueError, match="patterns mask has shape"):
        prepare_scan(scan, lung, {"patterns": codes[:3]}, size=64)


def test_command_line(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--cohort", str(cohort), "--out", str(tmp_path / "out"), "--size", "40", "--jobs", "2"]
    assert main(args) == 0
    shown = capsys.readouterr()
    assert "3 scans: 2 passed, 1 repaired, 0 refused" in shown.out
    assert f"3 scans in {tmp_path / 'out'}" in shown.out
    (tmp_path / "a.nii.gz").write_bytes(b"broken")
    assert main(args) == 0
    shown = capsys.readouterr()
    assert "3 scans: 1 passed, 1 repaired, 1 refused" in shown.out
    assert f"1 x a: {tmp_path / 'a.nii.gz'}: " in shown.out
    assert str(tmp_path / "out" / "verdicts.csv") in shown.out
    assert main(args) == 0
    assert "nothing to do: 2 scans are already prepared" in (err := capsys.readouterr().err)
    assert "refused scans were tried again: 1" in err
    assert main(["--cohort", str(tmp_path / "none.csv"), "--out", str(tmp_path / "new")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert "no such cohort file" in shown.err
    assert not (tmp_path / "new").exists()


def test_the_default_folder_is_the_one_of_training(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--cohort", "cohort.csv", "--size", "40"]) == 0
    assert (prepared_folder(cohort, 40) / "index.csv").exists()
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40)
    assert data.prepared.resolve() == prepared_folder("cohort.csv", 40).resolve()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "prepared").glob("*/*/*")}
    data.prepare_data()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "prepared").glob("*/*/*")} == before
