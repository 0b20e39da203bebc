"""What becomes of scans that cannot be used, and of the others beside them."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from prepare_harness import affine, break_a_and_b, chest, dies, index_of, verdicts_of

import cohort.prepare.prepare_scan as prepare_scan_module
from callbacks.describe_run import KeepVerdicts
from cohort.prepare.__main__ import main
from cohort.prepare.prepare_cohort import prepare_cohort
from ct.files.read import read_scan
from ct.files.write import write_dicom_series, write_scan_nifti
from ct.lungs.find import Lungs
from ct.refusal import Sentence
from ct.scan import Scan
from datamodules.infection_data import InfectionData


def test_bad_scans_are_refused_and_the_others_prepared(cohort: Path, tmp_path: Path) -> None:
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
    assert not list(out.glob(".*.part"))


def test_a_scan_that_turns_bad_loses_its_folder_and_comes_back_when_it_is_good_again(
    cohort: Path, tmp_path: Path
) -> None:
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


@pytest.mark.slow
def test_no_usable_scan_is_an_error_and_leaves_no_index_of_an_earlier_run(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_repairs_and_warnings_stand_in_the_verdicts_also_when_nothing_was_done(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lungs(scan: Scan, lung_mask: Path | None = None) -> Lungs:
        return Lungs(scan.hu < -700, "classical", (Sentence("the lungs are small"),) if scan.scan_id == "b" else ())

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


@pytest.mark.parametrize(
    ("jobs", "how", "reason"),
    [
        (1, lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (3, lambda: os._exit(3), "ended with exit code 3"),
    ],
)
def test_a_scan_that_kills_its_process_is_refused_and_the_others_go_on(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, how: Callable[[], object], reason: str
) -> None:
    monkeypatch.setattr(prepare_scan_module, "read_scan", dies("a", how))
    out = tmp_path / "out"
    assert [folder.name for folder in prepare_cohort(cohort, out, size=40, jobs=jobs).folders] == ["b", "c"]
    assert reason in verdicts_of(out)["a"]["reasons"]
    assert str(tmp_path / "a.nii.gz") in verdicts_of(out)["a"]["reasons"]


def test_a_bug_refuses_its_scan_and_leaves_a_traceback(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = None

    def read(path: Path, name: str, *more: Any) -> object:
        if name == "c":
            return read_scan(path, name, *more)
        return len(nothing) if name == "b" else np.zeros(3).reshape(2, 2)  # the library's own ValueError

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


def test_a_full_disk_is_no_verdict_on_a_scan(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ValueError, match=r"out: prepared scans cannot be written .*No space left"):
        prepare_cohort(cohort, tmp_path / "out", size=40)
    assert not (tmp_path / "out" / "verdicts.csv").exists()


def test_the_same_scan_in_two_splits_is_an_error(cohort: Path, tmp_path: Path) -> None:
    text = cohort.read_text()
    cohort.write_text(text + "d,Brown,D,a.nii.gz,a_lung.nii.gz,,,,,train,,\n")
    prepare_cohort(cohort, tmp_path / "out", size=40)
    cohort.write_text(text + "d,Brown,D,a.nii.gz,a_lung.nii.gz,,,,,test,,\n")
    with pytest.raises(ValueError, match="different splits") as caught:
        prepare_cohort(cohort, tmp_path / "out", size=40)
    assert "a" in str(caught.value).splitlines()[1]
    assert "d" in str(caught.value).splitlines()[1]
    assert not (tmp_path / "out" / "index.csv").exists()


def test_a_file_that_cannot_be_opened_refuses_its_scan(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "b" / "1.dcm"))

    monkeypatch.setattr(prepare_scan_module, "read_scan", dies("b", forbidden))
    prepare_cohort(cohort, tmp_path / "out", size=40)
    reason = verdicts_of(tmp_path / "out")["b"]["reasons"]
    assert reason.startswith(f"{tmp_path / 'b' / '1.dcm'}: cannot be read (Permission denied)")


def test_a_scan_may_not_be_called_like_a_file_that_is_written(cohort: Path, tmp_path: Path) -> None:
    cohort.write_text(cohort.read_text().replace("c,Jones", "Index.csv,Jones"))
    with pytest.raises(ValueError, match=r"scan_id 'Index.csv' is the name of a file"):
        prepare_cohort(cohort, tmp_path / "out")


def test_an_unreadable_report_refuses_its_scan(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"\xff\xfeConsolidation")
    prepare_cohort(cohort, tmp_path / "out", size=40)
    assert "not UTF-8" in verdicts_of(tmp_path / "out")["b"]["reasons"]
    assert list(index_of(tmp_path / "out")) == ["a", "c"]


def test_a_scan_without_lungs_is_refused(cohort: Path, tmp_path: Path) -> None:
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


def test_training_goes_on_without_refused_scans_and_says_so_once(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hu, _, _ = chest()
    write_scan_nifti(hu[::-1], affine(), tmp_path / "d.nii.gz", "RAS")
    cohort.write_text(cohort.read_text() + "d,Brown,D,d.nii.gz,a_lung.nii.gz,,,,,train,,\n")
    (tmp_path / "a.nii.gz").write_bytes(b"broken")
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40)
    data.prepare_data()
    data.prepare_data()
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "1 of 4 scans" in warnings[0]
    assert str(data.verdicts_csv) in warnings[0]
    data.setup("fit")
    assert data.slice_table("train").scans["scan_id"].tolist() == ["d"]
    KeepVerdicts(tmp_path / "run").on_fit_start(SimpleNamespace(datamodule=data), None)
    copy = pd.read_csv(tmp_path / "run" / "verdicts.csv", dtype=str)
    columns = ["scan_id", "site", "split", "verdict"]  # reasons name files, and those may bear a patient's name
    pd.testing.assert_frame_equal(copy, pd.read_csv(data.verdicts_csv, dtype=str)[columns])
    assert "refused" in copy["verdict"].tolist()


def test_a_split_whose_scans_were_all_refused_ends_a_training_before_it_starts(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "c" / "ct" / "03.png").write_bytes(b"broken")
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40)
    data.prepare_data()
    with pytest.raises(ValueError, match="no scan in split 'val'") as caught:
        data.setup("fit")
    assert "verdicts.csv" in str(caught.value)
