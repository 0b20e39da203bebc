"""Batches that were killed, ids that look like ours, bad calls, and bugs that one scan brings out."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from places import ROOT

from inference.load import load_module
from inference.outputs import write_outputs as outputs
from inference.predict import main
from inference.scan_list import Source, name_sources
from inference.segmenter import Segmenter

EMPTY: dict[str, object] = {}  # a look into it is a bug


@pytest.fixture
def folder(cohort: Path, tmp_path: Path) -> Path:
    """Four NIfTI files, of two scans."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        shutil.copy(cohort.parent / "images" / ("C008.nii.gz", "A001.nii.gz")[number % 2], folder / f"{number}.nii.gz")
    return folder


def refusal(capsys: pytest.CaptureFixture[str], checkpoints: list[Path], scan: Path, out: Path) -> str:
    """The line with which a call is refused."""
    with pytest.raises(SystemExit) as stop:
        main(["--ckpt", *map(str, checkpoints), "--scan", str(scan), "--out", str(out)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    return error


def test_ids_of_a_cohort_may_look_like_our_numbers(tmp_path: Path) -> None:
    own = [Source("scan-a", tmp_path / "a"), Source("scan-0007", tmp_path / "b")]
    assert name_sources(own, tmp_path) == name_sources(own, tmp_path) == own
    assert name_sources([Source("", tmp_path / "c")], tmp_path)[0].name == "scan-0008"


def test_results_are_not_taken_for_scans(em_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    assert "lies within" in refusal(capsys, [em_run / "best.ckpt"], folder, folder / "out")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("single", [True, False])
def test_where_nothing_can_be_written_is_one_line(
    em_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], single: bool
) -> None:
    (tmp_path / "file").write_text("in the way")
    scan = folder / "0.nii.gz" if single else folder
    assert str(tmp_path / "file") in refusal(capsys, [em_run / "best.ckpt"], scan, tmp_path / "file" / "out")


def test_an_ensemble_of_different_sizes_is_refused(
    em_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Segmenter([em_run / "best.ckpt"]).modules[0]
    sizes = iter([module.size, 2 * module.size])

    def resized(*_: object) -> object:
        other = load_module(em_run / "best.ckpt")
        other.size = next(sizes)
        return other

    monkeypatch.setattr("inference.segmenter.module_of", resized)
    assert "different sizes" in refusal(capsys, [em_run / "best.ckpt"] * 2, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bug_that_one_scan_brings_out_is_listed_and_the_rest_goes_on(
    em_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = Segmenter.segment

    def buggy(self: Segmenter, source: Source, *more: Any) -> object:
        return segment(self, source, *more) if source.name != "scan-0001" else EMPTY["no such key"]

    monkeypatch.setattr(Segmenter, "segment", buggy)
    with pytest.raises(SystemExit) as stop:
        main(["--ckpt", str(em_run / "best.ckpt"), "--scan", str(folder), "--out", str(tmp_path / "out")])
    assert stop.value.code == 1
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert list(failed["name"]) == ["scan-0001"]
    assert "a bug: please report" in failed["reason"][0]
    assert len(pd.read_csv(tmp_path / "out" / "measurements.csv")) == 3
    assert "Traceback" in capsys.readouterr().err


def test_what_a_killed_run_left_is_taken_away(
    em_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".out.0123456789ab.part"
    left.mkdir()
    (left / "stale.nii.gz").write_bytes(b"half")
    scan = str(folder / "0.nii.gz")
    main(["--ckpt", str(em_run / "best.ckpt"), "--scan", scan, "--out", str(tmp_path / "out")])
    assert not left.exists()
    assert not (tmp_path / "out" / "stale.nii.gz").exists()
    monkeypatch.setattr(outputs, "numbers", lambda _: EMPTY["a bug"])
    with pytest.raises(KeyError):
        Segmenter([em_run / "best.ckpt"]).predict(Source("more", folder / "0.nii.gz"), tmp_path / "more")
    assert not [path for path in tmp_path.iterdir() if "more" in path.name]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_numbers_of_an_undisturbed_run(
    em_run: Path, folder: Path, tmp_path: Path
) -> None:
    def command(out: Path) -> list[str]:
        ends = ["--scan", str(folder), "--out", str(out)]
        return [sys.executable, "-m", "inference.predict", "--ckpt", str(em_run / "best.ckpt"), *ends]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    with subprocess.Popen(command(cut), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (cut / "scan-0002").exists():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    first = (cut / "scan-0001" / "measurements.json").stat()
    done = subprocess.run(command(cut), cwd=ROOT, check=True, capture_output=True, text=True)
    assert "4 segmented" in done.stdout
    assert "(0 of them before)" not in done.stdout
    assert (cut / "scan-0001" / "measurements.json").stat().st_mtime_ns == first.st_mtime_ns
    assert (cut / "measurements.csv").read_bytes() == (whole / "measurements.csv").read_bytes()
    assert not [path for path in cut.iterdir() if path.name.endswith(".part")]
