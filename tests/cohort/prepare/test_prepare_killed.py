import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from file_tree import tree
from noise_scans import write_noise_scans
from tqdm import tqdm

import cohort.prepare.prepare_scan as prepare_scan_module
from cohort.prepare.prepare_cohort import prepare_cohort
from ct.files.read import read_scan
from ct.scan import Scan


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A cohort of five scans of differing content, one of them broken, one repaired."""
    return write_noise_scans(tmp_path, 5, (20, 60, 60))


def in_own_group(cohort: Path, out: Path) -> None:
    os.setpgid(0, 0)
    # The bars' lock is shared by forks: a process that is killed while it holds it would stop this one for ever.
    tqdm.set_lock(threading.RLock())
    prepare_cohort(cohort, out, size=48, jobs=2)


def start(cohort: Path, out: Path) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=in_own_group, args=(cohort, out))
    process.start()
    assert process.pid is not None
    while process.is_alive() and os.getpgid(process.pid) != process.pid:  # it makes its group itself
        time.sleep(0.001)
    return process


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_bytes_of_an_undisturbed_run(cohort: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    undisturbed = start(cohort, tmp_path / "whole")
    undisturbed.join()
    duration = time.monotonic() - began
    assert undisturbed.exitcode == 0
    moments = random.Random(0)
    killed = 0
    for _ in range(6):
        process = start(cohort, tmp_path / "killed")
        # On a busy machine one may take far less time than the first: until one was killed, it is early.
        time.sleep(moments.uniform(0.02, 0.9 * duration) if killed else 0.02)
        if process.is_alive():
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed >= 1
    done = prepare_cohort(cohort, tmp_path / "killed", size=48, jobs=1)
    assert [verdict.verdict for verdict in done.verdicts] == ["pass", "pass", "repaired", "refused", "pass"]
    expected = tree(tmp_path / "whole")
    assert len(expected) == 4 * 4 + 2
    assert tree(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed").glob(".*.part"))
    assert prepare_cohort(cohort, tmp_path / "killed", size=48).fresh == 0


@pytest.mark.slow
def test_when_the_parent_alone_is_killed_the_next_run_waits_for_what_still_works(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    marks.mkdir()

    def read_when_the_gate_is_open(path: Path, name: str, *more: Any) -> Scan:
        (marks / name).touch()
        while not gate.exists():
            time.sleep(0.01)
        return read_scan(path, name, *more)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_scan_module, "read_scan", read_when_the_gate_is_open)
        process = start(cohort, tmp_path / "out")
        while len(list(marks.iterdir())) < 2:
            time.sleep(0.01)
        process.kill()
        process.join()
    threading.Timer(0.3, gate.touch).start()
    done = prepare_cohort(cohort, tmp_path / "out", size=48)
    assert "another command is still at work" in capfd.readouterr().err
    # The two scans in work were finished by the orphans; the next run took them as they were.
    assert done.fresh == 2
    prepare_cohort(cohort, tmp_path / "fresh", size=48)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
