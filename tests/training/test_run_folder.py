"""Which folder a training uses."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from machine.command_line import one_line_errors
from machine.latest import latest_run
from training import run_folder
from training.run_folder import STATE, VARIABLE, Run, close_run, mark_finished, open_run

CONFIG = "a: 1\nb: {c: x}\n"


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    close_run()


def start(runs: Path, config: str = CONFIG, *, fresh: bool = False) -> Run:
    """A run of this process, which ends (or is killed) at once: its lock goes, its folder stays."""
    run = open_run(runs, "exp", config, fresh=fresh)
    close_run()
    return run


def finish(run: Run) -> None:
    (run.folder / "metrics.json").write_text("{}")
    mark_finished(run.folder)


def test_an_unfinished_run_goes_on(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert not first.resumed
    assert (first.folder / "config.yaml").read_text() == CONFIG
    again = start(tmp_path, "b:\n  c: x\na: 1\n")  # the same values
    assert again.resumed
    assert (again.folder, again.id) == (first.folder, first.id)
    assert [path.name for path in tmp_path.joinpath("exp").iterdir()] == [first.folder.name]


def test_another_configuration_or_fresh_is_another_run(tmp_path: Path) -> None:
    first = start(tmp_path)
    other = start(tmp_path, CONFIG.replace("x", "y"))
    fresh = start(tmp_path, fresh=True)
    assert len({run.folder for run in (first, other, fresh)}) == 3
    assert len({run.id for run in (first, other, fresh)}) == 3
    assert start(tmp_path).folder == fresh.folder, "the newest goes on"


def test_a_trial_of_a_sweep_never_goes_on_with_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    assert start(tmp_path).folder != first.folder


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first = start(tmp_path)
    finish(first)
    second = start(tmp_path)
    assert second.folder != first.folder
    finish(second)
    assert not start(tmp_path).resumed


class Clock:
    """Local time as a machine shows it; it stands still."""

    shown = ""

    @classmethod
    def now(cls) -> datetime:
        return datetime.fromisoformat(cls.shown)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(run_folder, "datetime", Clock)
    return Clock


def test_a_finished_run_is_finished_whatever_the_clock_says(tmp_path: Path, clock: type[Clock]) -> None:
    clock.shown = "2026-10-25 02:50:00"
    first = start(tmp_path)
    finish(first)
    clock.shown = "2026-10-25 02:10:00"  # an hour later, in winter time
    other = start(tmp_path, "a: 2\n")
    finish(other)
    assert other.folder.name < first.folder.name
    assert (tmp_path / "exp" / "latest").resolve() == other.folder
    assert not start(tmp_path).resumed, "the first run is finished"


def test_the_newest_run_is_the_one_that_began_last(tmp_path: Path, clock: type[Clock]) -> None:
    begun = []
    for clock.shown in ("2026-06-01 09:00:00", "2026-06-01 03:00:00", "2026-06-01 06:00:00"):  # with a laptop, westward
        begun.append(start(tmp_path, fresh=True).folder)
    assert start(tmp_path).folder == begun[-1]


def test_two_runs_of_one_moment_are_two(tmp_path: Path, clock: type[Clock]) -> None:
    clock.shown = "2026-06-01 09:00:00.999"  # and stands still
    names = [start(tmp_path, fresh=True).folder.name for _ in range(2)]
    assert names == ["2026-06-01_09-00-00-999", "2026-06-01_09-00-01-000"]
    assert len(list((tmp_path / "exp").iterdir())) == 2


@pytest.mark.parametrize("tested", [True, False])
def test_a_run_from_before_states_is_finished_when_it_was_tested(tested: bool, tmp_path: Path) -> None:
    run = start(tmp_path)
    (run.folder / STATE).unlink()
    if tested:
        (run.folder / "metrics.json").write_text("{}")
    assert start(tmp_path).resumed != tested


def test_without_links_and_locks_it_is_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    for module, name in ((os, "symlink"), (os, "link"), (fcntl, "flock")):
        monkeypatch.setattr(module, name, refused)
    first = start(tmp_path)
    again = open_run(tmp_path, "exp", CONFIG, fresh=False)
    assert (again.folder, again.resumed) == (first.folder, True)
    os.environ.pop(VARIABLE)  # a monkeypatch would bring it back when the test ends
    other = open_run(tmp_path, "exp", CONFIG, fresh=False)
    assert other.folder != first.folder, "the first is at work"
    close_run()
    finish(first)
    assert latest_run(tmp_path / "exp") == first.folder
    assert start(tmp_path).folder == other.folder
    lines = capsys.readouterr().err.splitlines()
    assert sum("has no file locks" in line for line in lines) == 2, "once for each folder"
    assert sum("has no symbolic links" in line for line in lines) == 1


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(place: str, mode: int = 0) -> None:
        raise OSError(errno.EROFS, "Read-only file system", place)

    (tmp_path / "file").write_text("")
    start(tmp_path)
    monkeypatch.setattr(os, "mkdir", read_only)
    for runs, place in ((tmp_path, tmp_path / "exp"), (tmp_path / "file", tmp_path / "file" / "exp")):
        with pytest.raises(SystemExit) as stop, one_line_errors():
            start(runs, fresh=True)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {place}: ")
        assert "name another" in line


def test_a_run_that_was_tested_but_never_marked_goes_on(tmp_path: Path) -> None:
    finish(start(tmp_path))
    second = start(tmp_path)
    (second.folder / "metrics.json").write_text("{}")
    assert start(tmp_path).folder == second.folder


def test_previous_goes_when_a_run_is_finished(tmp_path: Path) -> None:
    run = start(tmp_path)
    (run.folder / "previous.ckpt").write_text("")
    finish(run)
    assert not (run.folder / "previous.ckpt").exists()
    assert (tmp_path / "exp" / "latest").resolve() == run.folder


@pytest.mark.slow
def test_a_run_that_lives_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, time, os; from training.run_folder import open_run\n"
        f"print(open_run({str(tmp_path)!r}, 'exp', {CONFIG!r}, fresh=False).folder, flush=True)\n"
        "if os.fork() == 0: time.sleep(60)\n"  # a loader worker that outlives it
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        alive = Path(process.stdout.readline().strip())
        process.stdout.readline()
        second = start(tmp_path)
        assert second.folder != alive
        assert f"{alive} has the same configuration and is still running" in capsys.readouterr().err
        finish(second)
        process.kill()
        process.wait()
        # `second` is newer and finished; the killed one goes on although its child lives.
        assert start(tmp_path).folder == alive
    finally:
        os.killpg(process.pid, 9)


def test_processes_that_ddp_starts_use_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(tmp_path, "exp", CONFIG, fresh=False)
    assert os.environ[VARIABLE] == str(run.folder)
    child = open_run(tmp_path, "exp", CONFIG, fresh=False)
    assert child.folder == run.folder
    assert child.lock is None
    close_run()
    assert VARIABLE not in os.environ
