import csv
import json
import os
import shutil
import signal
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from PIL import Image

import ct.prepare_scan as prepare_scan_module
import ct.sources as sources
from callbacks.run_folder import KeepVerdicts
from ct.lungs_of_scan import Lungs
from ct.prepare import main, prepare_cohort, prepare_scan, prepared_folder
from ct.read import read_scan
from ct.write import write_dicom_series, write_scan_nifti
from datamodules.infection import InfectionData

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
def cohort(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SETTLED_NS", 0)  # or nothing that was just written would count as unchanged
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


def verdicts_of(out):
    with (out / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        return {row["scan_id"]: row for row in csv.DictReader(file)}


def break_a_and_b(tmp_path):
    """Make the lung mask of scan a unreadable and move the infection mask of scan b."""
    (tmp_path / "a_lung.nii.gz").write_bytes(b"broken")
    image = nibabel.load(tmp_path / "b_infection.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 40
    nibabel.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(tmp_path / "b_infection.nii.gz")


def test_bad_scans_are_refused_and_the_others_prepared(cohort, tmp_path):
    break_a_and_b(tmp_path)
    out = tmp_path / "out"
    done = prepare_cohort(cohort, out, size=40)
    assert [folder.name for folder in done.folders] == list(index_of(out)) == ["c"]
    assert (done.fresh, done.refused) == (1, 2)
    verdicts = verdicts_of(out)
    assert {scan_id: row["verdict"] for scan_id, row in verdicts.items()} == {
        "a": "refused",
        "b": "refused",
        "c": "repaired",
    }
    assert str(tmp_path / "a_lung.nii.gz") in verdicts["a"]["reasons"]
    assert "voxels away" in verdicts["b"]["reasons"]
    assert [row["split"] for row in verdicts.values()] == ["train", "test", "val"]
    assert [row["image"] for row in verdicts.values()] == ["a.nii.gz", "b", "c/ct"]
    shown = sorted(file.name for file in out.iterdir() if not file.name.startswith("."))
    assert shown == ["c", "index.csv", "verdicts.csv"]
    assert not list(out.glob(".tmp-*"))


def test_a_scan_that_turns_bad_loses_its_folder_and_comes_back_when_it_is_good_again(cohort, tmp_path):
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    good = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(b"broken")
    assert prepare_cohort(cohort, out, size=40).fresh == 0
    assert list(index_of(out)) == ["b", "c"]
    assert not (out / "a").exists()
    (tmp_path / "a.nii.gz").write_bytes(good)
    assert prepare_cohort(cohort, out, size=40).fresh == 1
    assert list(index_of(out)) == ["a", "b", "c"]


def test_no_usable_scan_is_an_error_and_leaves_no_index_of_an_earlier_run(cohort, tmp_path, capsys):
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    break_a_and_b(tmp_path)
    (tmp_path / "c" / "ct" / "03.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="none of its scans can be used") as caught:
        prepare_cohort(cohort, out, size=40)
    assert "voxels away" in str(caught.value)
    assert not (out / "index.csv").exists()
    assert {row["verdict"] for row in verdicts_of(out).values()} == {"refused"}
    assert main(["--cohort", str(cohort), "--out", str(out), "--size", "40"]) == 2
    assert capsys.readouterr().err.count("error: ") == 1


def test_repairs_and_warnings_stand_in_the_verdicts_also_when_nothing_was_done(cohort, tmp_path, monkeypatch):
    def lungs(scan, lung_mask=None):
        return Lungs(scan.hu < -700, "classical", ("the lungs are small",) if scan.scan_id == "b" else ())

    monkeypatch.setattr(prepare_scan_module, "find_lungs", lungs)
    hu, _, _ = chest()
    hu[0, 0, :3] = -3024
    write_scan_nifti(hu, affine(), tmp_path / "a.nii.gz", "RAS")
    out = tmp_path / "out"
    for fresh in (3, 0):
        assert prepare_cohort(cohort, out, size=40).fresh == fresh
        verdicts = verdicts_of(out)
        assert [row["verdict"] for row in verdicts.values()] == ["repaired", "pass", "repaired"]
        assert "3 voxels" in verdicts["a"]["reasons"]
        assert [row["warnings"] for row in verdicts.values()] == ["", "the lungs are small", ""]
    record = json.loads((out / "a" / "scan.json").read_text())
    assert (record["verdict"], record["warnings"]) == ("repaired", [])
    assert record["repairs"] == [verdicts["a"]["reasons"]]


def dies(scan_id, how):
    """Return a `read_scan` that ends its process when it comes to a scan."""

    def read(path, name, *more):
        if name == scan_id:
            how()
        return read_scan(path, name, *more)

    return read


@pytest.mark.parametrize(
    ("jobs", "how", "found"),
    [
        (1, lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (3, lambda: os._exit(3), "ended with exit code 3"),
    ],
)
def test_a_scan_that_kills_its_process_is_refused_and_the_others_go_on(cohort, tmp_path, monkeypatch, jobs, how, found):
    monkeypatch.setattr(prepare_scan_module, "read_scan", dies("a", how))
    out = tmp_path / "out"
    assert [folder.name for folder in prepare_cohort(cohort, out, size=40, jobs=jobs).folders] == ["b", "c"]
    assert found in verdicts_of(out)["a"]["reasons"]
    assert str(tmp_path / "a.nii.gz") in verdicts_of(out)["a"]["reasons"]


def test_a_bug_refuses_its_scan_and_leaves_a_traceback(cohort, tmp_path, monkeypatch):
    def read(path, name, *more):
        if name == "c":
            return read_scan(path, name, *more)
        return len(None) if name == "b" else np.zeros(3).reshape(2, 2)  # the library's own ValueError

    monkeypatch.setattr(prepare_scan_module, "read_scan", read)
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    assert list(index_of(out)) == ["c"]
    reasons = {scan_id: row["reasons"] for scan_id, row in verdicts_of(out).items()}
    assert reasons["a"].startswith("(a bug: please report) ValueError: cannot reshape")
    assert reasons["b"].startswith("(a bug: please report) TypeError: object of type 'NoneType'")
    log = (out / "bugs.log").read_text()
    assert log.startswith("a\nTraceback")
    assert "\nb\nTraceback" in log
    monkeypatch.undo()
    prepare_cohort(cohort, out, size=40)
    assert not (out / "bugs.log").exists()


def test_a_full_disk_is_no_verdict_on_a_scan(cohort, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ValueError, match=r"out: prepared scans cannot be written .*No space left"):
        prepare_cohort(cohort, tmp_path / "out", size=40)
    assert not (tmp_path / "out" / "verdicts.csv").exists()


def test_the_same_scan_in_two_splits_is_an_error(cohort, tmp_path):
    text = cohort.read_text()
    cohort.write_text(text + "d,Brown,D,a.nii.gz,a_lung.nii.gz,,,,,train,,\n")
    prepare_cohort(cohort, tmp_path / "out", size=40)
    cohort.write_text(text + "d,Brown,D,a.nii.gz,a_lung.nii.gz,,,,,test,,\n")
    with pytest.raises(ValueError, match="different splits") as caught:
        prepare_cohort(cohort, tmp_path / "out", size=40)
    assert "a" in str(caught.value).splitlines()[1]
    assert "d" in str(caught.value).splitlines()[1]
    assert not (tmp_path / "out" / "index.csv").exists()


def test_a_file_that_cannot_be_opened_refuses_its_scan(cohort, tmp_path, monkeypatch):
    def forbidden():
        raise PermissionError(13, "Permission denied", str(tmp_path / "b" / "1.dcm"))

    monkeypatch.setattr(prepare_scan_module, "read_scan", dies("b", forbidden))
    prepare_cohort(cohort, tmp_path / "out", size=40)
    reason = verdicts_of(tmp_path / "out")["b"]["reasons"]
    assert reason.startswith(f"{tmp_path / 'b' / '1.dcm'}: cannot be read (Permission denied)")


def test_a_scan_may_not_be_called_like_a_file_that_is_written(cohort, tmp_path):
    cohort.write_text(cohort.read_text().replace("c,Jones", "Index.csv,Jones"))
    with pytest.raises(ValueError, match=r"scan_id 'Index.csv' is the name of a file"):
        prepare_cohort(cohort, tmp_path / "out")


def test_an_unreadable_report_refuses_its_scan(cohort, tmp_path):
    (tmp_path / "b.txt").write_bytes(b"\xff\xfeConsolidation")
    prepare_cohort(cohort, tmp_path / "out", size=40)
    assert "not UTF-8" in verdicts_of(tmp_path / "out")["b"]["reasons"]
    assert list(index_of(tmp_path / "out")) == ["a", "c"]


def test_it_says_beforehand_what_it_needs(cohort, tmp_path, capsys):
    prepare_cohort(cohort, tmp_path / "out", size=40)
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith("3 scans are new")
    assert "2 jobs x 4 x 315 kB" in said  # 25 x 70 x 90 voxels of 16 bit
    prepare_cohort(cohort, tmp_path / "out", size=40)
    assert "scans are new" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least 1 pixel and 1 job"):
        prepare_cohort(cohort, tmp_path / "out", jobs=0)


def test_leftovers_of_a_killed_run_are_cleared(cohort, tmp_path):
    out = tmp_path / "out"
    (out / ".tmp-dead" / "new").mkdir(parents=True)
    (out / "a").mkdir()
    (out / "a" / "scan.json").write_text("{ cut off")
    prepare_cohort(cohort, out, size=40, jobs=1)
    assert not list(out.glob(".tmp-*"))
    assert np.load(out / "a" / "hu.npy").shape == (10, 40, 40)


def test_a_folder_that_a_power_cut_left_incomplete_is_prepared_again(cohort, tmp_path):
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    whole = (out / "a" / "hu.npy").read_bytes()
    (out / "a" / "hu.npy").write_bytes(whole[:1000])
    assert prepare_cohort(cohort, out, size=40).fresh == 1
    assert (out / "a" / "hu.npy").read_bytes() == whole


def test_a_scan_without_lungs_is_refused(cohort, tmp_path):
    hu, lung, _ = chest()
    write_scan_nifti(np.zeros_like(lung), affine(), tmp_path / "a_lung.nii.gz")
    shutil.rmtree(tmp_path / "b")
    hu[lung > 0] = 40
    hu[:, 30:42, 20:32] = -850
    write_dicom_series(hu, affine(), tmp_path / "b")
    prepare_cohort(cohort, tmp_path / "out", size=40, jobs=1)
    verdicts = verdicts_of(tmp_path / "out")
    assert verdicts["a"]["reasons"].startswith(f"{tmp_path / 'a_lung.nii.gz'}: no lung voxels")
    assert verdicts["b"]["reasons"].startswith(f"{tmp_path / 'b'}: no chest")


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


def test_the_default_folder_is_the_one_of_training(cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--cohort", "cohort.csv", "--size", "40"]) == 0
    assert (prepared_folder(cohort, 40) / "index.csv").exists()
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40)
    assert data.prepared.resolve() == prepared_folder("cohort.csv", 40).resolve()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "prepared").glob("*/*/*")}
    data.prepare_data()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "prepared").glob("*/*/*")} == before


def test_training_goes_on_without_refused_scans_and_says_so_once(cohort, tmp_path, capsys):
    hu, _, _ = chest()
    write_scan_nifti(hu[::-1], affine(), tmp_path / "d.nii.gz", "RAS")
    cohort.write_text(cohort.read_text() + "d,Brown,D,d.nii.gz,a_lung.nii.gz,,,,,train,,\n")
    (tmp_path / "a.nii.gz").write_bytes(b"broken")
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40)
    data.prepare_data()
    data.prepare_data()
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert "1 of 4 scans" in said[0]
    assert str(data.verdicts_csv) in said[0]
    data.setup("fit")
    assert data.slice_table("train").scans["scan_id"].tolist() == ["d"]
    KeepVerdicts(tmp_path / "run").on_fit_start(SimpleNamespace(datamodule=data), None)
    assert (tmp_path / "run" / "verdicts.csv").read_bytes() == data.verdicts_csv.read_bytes()


def test_a_split_whose_scans_were_all_refused_ends_a_training_before_it_starts(cohort, tmp_path):
    (tmp_path / "c" / "ct" / "03.png").write_bytes(b"broken")
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40)
    data.prepare_data()
    with pytest.raises(ValueError, match="no scan in split 'val'") as caught:
        data.setup("fit")
    assert "verdicts.csv" in str(caught.value)
