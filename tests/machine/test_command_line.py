"""How command lines end: readers who leave, places that cannot be written, mistakes of users and of ours."""

import errno
import ipaddress
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from places import ROOT

from machine.command_line import one_line_errors

TALKS = """
import sys
from pathlib import Path
from machine.command_line import run_command

def main():
    for number in range(20_000):
        print("line", number)
        print("line", number, file=sys.stderr)
    Path(sys.argv[1]).write_text("done")
    return 3

run_command(main)
"""


def start(code: str, *arguments: str, stdout: int | IO[str], stderr: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=stdout, stderr=stderr)


@pytest.mark.parametrize("streams", [("stdout",), ("stdout", "stderr")])
def test_work_is_done_to_the_end_when_nobody_reads_on(streams: tuple[str, ...], tmp_path: Path) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT if "stderr" in streams else subprocess.PIPE}
    process = start(TALKS, str(tmp_path / "result"), **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    errors = process.stderr.read().splitlines() if process.stderr else []
    assert process.wait(60) == 3
    assert (tmp_path / "result").read_text() == "done"
    assert errors == ([] if "stderr" in streams else [f"line {number}" for number in range(20_000)])


def test_a_full_disk_behind_stdout_is_called_that(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(TALKS.replace(", file=sys.stderr", ""), str(tmp_path / "result"), stdout=full, stderr=-1)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert errors == "error: /dev/fd/1: No space left on device; make room, or name another place\n"


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "expected a place that you may write to: name another"),
        (errno.EPERM, "expected a place that you may write to: name another"),
        (errno.EROFS, "expected a place that you may write to: name another"),
        (errno.ENOSPC, "make room, or name another place"),
        (errno.EDQUOT, "make room, or name another place"),
        (errno.ENOTDIR, "expected a folder"),
        (errno.EISDIR, "expected a file"),
        (errno.EEXIST, "expected a folder"),
        (errno.ENAMETOOLONG, "give it a shorter name"),
        (errno.EIO, "have the disk checked"),
    ],
)
def test_what_a_file_system_refuses_is_one_line(code: int, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise OSError(code, "so it is", "/data/runs")
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: /data/runs: so it is; {advice}")


@pytest.mark.parametrize(
    "error", [OSError(errno.EBADF, "bad descriptor", "x"), OSError("nameless"), KeyError("x"), RuntimeError("x")]
)
def test_what_we_did_wrong_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), one_line_errors():
        raise error


def test_values_that_a_library_refuses_keep_their_traceback() -> None:
    with pytest.raises(ValueError, match="does not appear to be"), one_line_errors():
        ipaddress.ip_address("x")
