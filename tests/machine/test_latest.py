"""`latest`: a link where there are links, a file elsewhere, and the same to all who read it."""

import errno
import os
from pathlib import Path

import pytest

from machine.latest import followed, latest_run, mark_latest, through_latest


@pytest.fixture(params=["links", "no links"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment's folder with two runs, on a file system with or without symbolic links."""
    if request.param == "no links":
        refuse_links(monkeypatch)
    for name in ("first", "second"):
        (tmp_path / "exp" / name).mkdir(parents=True)
        (tmp_path / "exp" / name / "best.ckpt").write_text(name)
    return tmp_path / "exp"


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As exFAT does."""

    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refused)
    monkeypatch.setattr(os, "link", refused)


def test_it_names_the_run_that_was_marked_last(home: Path) -> None:
    assert latest_run(home) is None
    for name in ("second", "first"):
        mark_latest(home / name)
        assert latest_run(home) == home / name
        assert through_latest(home / "latest" / "best.ckpt").read_text() == name
    assert sorted(path.name for path in home.iterdir()) == ["first", "latest", "second"]


def test_a_folder_may_move_between_file_systems(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_latest(home / "first")
    refuse_links(monkeypatch)
    mark_latest(home / "second")
    assert latest_run(home) == home / "second"
    monkeypatch.undo()
    mark_latest(home / "first")
    assert (home / "latest").is_symlink()
    assert latest_run(home) == home / "first"


def test_it_names_no_run_that_is_gone(home: Path) -> None:
    mark_latest(home / "first")
    (home / "first").rename(home / "moved")
    assert latest_run(home) is None


def test_options_are_followed(home: Path) -> None:
    mark_latest(home / "first")
    option = followed(f"--ckpt_path={home}/latest/best.ckpt")
    assert Path(option.removeprefix("--ckpt_path=")).read_text() == "first"
    assert Path(followed(f"{home}/latest/best.ckpt")).read_text() == "first"
    for other in ("--a=b=c", "--flag", "", "--x=./a//b", "--x=a/./latest/"):
        assert followed(other) == other


def test_other_paths_stay(home: Path) -> None:
    mark_latest(home / "first")
    for path in (home / "second" / "best.ckpt", home / "nowhere" / "latest" / "best.ckpt", Path("latest"), Path("a")):
        assert through_latest(path) == path


def test_one_sentence_says_what_stands_for_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_links(monkeypatch)
    for _ in range(2):
        mark_latest(tmp_path / "run")
    sentence = f"{tmp_path} has no symbolic links (Operation not permitted): the file latest there names the run\n"
    assert capsys.readouterr().err == sentence
