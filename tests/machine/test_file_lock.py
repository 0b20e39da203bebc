"""A lock keeps other processes out and ends with its own, on file systems with and without flock."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from machine import file_lock
from machine.file_lock import try_lock

WITHOUT = """
import fcntl
def flock(*args):
    raise OSError({code}, "not here")
fcntl.flock = flock
"""
HOLD = "import sys, time; from machine.file_lock import try_lock; from pathlib import Path\n{before}\n"
HOLD += "lock = try_lock(Path(sys.argv[1])); print(lock is not None, flush=True)\n{after}\ntime.sleep(60)"
REFUSALS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EPERM, errno.EINVAL)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    file_lock._say.cache_clear()


def refuse_flock(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSYS) -> None:
    def refused(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)


def holder(path: Path, before: str = "", after: str = "") -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    code = HOLD.format(before=before, after=after)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, *REFUSALS])
def test_it_keeps_another_process_out_until_that_ends(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if code:
        refuse_flock(monkeypatch, code)
    path = tmp_path / "lock"
    process = holder(path, WITHOUT.format(code=code) if code else "")
    try:
        assert try_lock(path) is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    lock = try_lock(path)
    assert lock is not None, "a killed process holds nothing"
    lock.close()
    lines = capsys.readouterr().err.splitlines()
    if code:
        assert "says that another process" in lines[0]
        assert lines[1] == f"{tmp_path} has no file locks ({os.strerror(code)}): lock.held there stands for one"
    assert len(lines) == (2 if code else 0)


def test_without_fcntl_a_marker_keeps_another_process_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    process = holder(tmp_path / "lock", "sys.modules['fcntl'] = None")
    try:
        assert try_lock(tmp_path / "lock") is None
    finally:
        process.kill()
        process.wait()
    lock = try_lock(tmp_path / "lock")
    assert lock is not None, "a killed process holds nothing"
    assert lock.descriptors == []
    lock.close()
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"{tmp_path} has no file locks (this system has no flock): lock.held there stands for one"


def test_it_can_be_taken_again_when_it_was_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flock(monkeypatch)
    for _ in range(2):
        lock = try_lock(tmp_path / "lock")
        assert lock is not None
        lock.close()
    assert not (tmp_path / "lock.held").exists()


def test_that_of_another_machine_counts_until_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_flock(monkeypatch)
    marker = tmp_path / "lock.held"
    marker.write_text("1\nanother-machine\n")
    assert try_lock(tmp_path / "lock") is None
    assert f"{marker} says that another process" in capsys.readouterr().err
    marker.unlink()
    assert try_lock(tmp_path / "lock") is not None


def test_children_hold_it_unless_it_is_kept_from_them(tmp_path: Path) -> None:
    fork = "import os\nif os.fork() == 0: time.sleep(60)\n"
    for after, free in ((f"{fork}", False), (f"lock.keep_from_children()\n{fork}", True)):
        process = holder(tmp_path / "lock", after=f"{after}print('forked', flush=True)")
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert len(children) == 1
        process.kill()
        process.wait()
        lock = try_lock(tmp_path / "lock")
        os.kill(int(children[0]), signal.SIGKILL)
        assert (lock is not None) == free
        if lock:
            lock.close()


def test_a_place_that_cannot_be_written_is_no_lock_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        try_lock(tmp_path / "file" / "lock")
