"""Commands on systems that lack what Linux has: macOS, which tells no process its cores, and Windows without POSIX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from phantom_scan import save_phantom
from places import ROOT

from machine.cores import usable_cores
from machine.threads import load_of_last_minute

# What Python lacks there, as far as Linux's own libraries do without it.
LACKS = {
    "macos": ((), ("sched_getaffinity", "sched_setaffinity")),
    "windows": (
        ("fcntl", "grp", "pwd", "resource", "termios"),
        ("sched_getaffinity", "sched_setaffinity", "getloadavg", "getuid", "geteuid", "killpg", "setsid", "sysconf"),
    ),
}
HIDE = "import os, runpy, sys\nsys.modules |= dict.fromkeys({})\nfor name in {}: delattr(os, name)\n"
COMMAND = "runpy.run_module('ground_glass', run_name='__main__', alter_sys=True)"


def run_on(system: str, rest: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a process from which everything is hidden that a system lacks."""
    modules, functions = LACKS[system]
    program = HIDE.format(modules, functions) + rest
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"USERNAME": "ada"},  # Windows sets it, and libraries ask for it
        capture_output=True,
        text=True,
    )


def test_cores_are_those_of_the_process_or_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3} if process == 0 else set(), raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_a_load_that_nothing_tells_is_that_of_an_idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise OSError("Load averages are unobtainable")

    monkeypatch.setattr(os, "getloadavg", lambda: (3.5, 1.0, 1.0), raising=False)
    assert load_of_last_minute() == 3.5
    monkeypatch.setattr(os, "getloadavg", hidden)
    assert load_of_last_minute() == 0
    monkeypatch.delattr(os, "getloadavg")
    assert load_of_last_minute() == 0


@pytest.mark.parametrize("command", ["predict", "check", "view"])
def test_help_needs_nothing_of_linux_or_posix(command: str) -> None:
    done = run_on("windows", COMMAND, command, "--help")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"usage: ground-glass {command} ")


@pytest.mark.parametrize("system", LACKS)
def test_inference_is_imported_and_its_threads_are_chosen(system: str) -> None:
    done = run_on(system, "import inference; print('GOMP_SPINCOUNT' in os.environ or 'OMP_WAIT_POLICY' in os.environ)")
    assert done.stdout == "True\n", done.stderr[-2000:]


@pytest.mark.slow
def test_the_viewer_is_imported_and_scans_are_segmented_under_a_lock_of_a_file(tmp_path: Path) -> None:
    save_phantom(tmp_path / "scans" / "scan.nii.gz", slices=8)
    out = tmp_path / "out"
    both = f"import viewer.serve, viewer.segment_page\n{COMMAND}"
    done = run_on("windows", both, "predict", tmp_path / "scans", "-o", out)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 segmented" in done.stdout
    assert f"{out} has no file locks (this system has no flock): .lock.held there stands for one" in done.stderr
    assert not (out / ".lock.held").exists()
