"""Files and folders that are whole or not there."""

import contextlib
import json
import stat
from pathlib import Path

import pytest

from machine.whole_file import remove_parts, whole_file, whole_folder, write_json, write_text


def test_a_file_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_text("old", path)
    with pytest.raises(LookupError), whole_file(path) as temporary:
        temporary.write_text("half", encoding="no such encoding")
    with pytest.raises(ValueError, match="JSON"):
        write_json({"dice": float("nan")}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with whole_file(path) as first:
        first.write_text("1")
        with whole_file(path) as second:
            second.write_text("2")
            assert first != second
    assert json.loads(path.read_text()) == 1, "who ends last has the last word"


def test_what_a_killed_process_left_of_a_file_of_its_own_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for content in ("first", "second"):
        with whole_file(path, alone=True) as temporary:
            temporary.write_text(content)
            left = temporary
    left.write_text("half of a third, longer than the second")
    with whole_file(path, alone=True) as temporary, temporary.open("r+") as file:
        file.write("fourth")
    assert path.read_text() == "fourth"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("open to all")
    with whole_file(path, private=True) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "scan 1.2"
    with whole_folder(path) as temporary:
        (temporary / "hu.npy").write_text("new")
        assert not path.exists()
    assert (path / "hu.npy").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_that_is_there_is_replaced_only_where_that_is_wanted(tmp_path: Path, replace: bool) -> None:
    path = tmp_path / "scan"
    path.mkdir()
    (path / "old").touch()
    expected = contextlib.nullcontext() if replace else pytest.raises(OSError, match="not empty")
    with expected, whole_folder(path, replace) as temporary:
        (temporary / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new" if replace else "old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_was_there_stays_when_filling_fails(tmp_path: Path) -> None:
    path = tmp_path / "scan"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(LookupError), whole_folder(path, replace=True) as temporary:
        (temporary / "half").write_text("half", encoding="no such encoding")
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_names_the_one_around_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_folder(tmp_path / "gone" / "scan"):
        pass
    assert caught.value.filename == str(tmp_path / "gone")


def test_parts_of_killed_processes_are_removed_by_name_or_all(tmp_path: Path) -> None:
    parts = [tmp_path / f".{name}.0123456789ab.part" for name in ("a[1]", "a1", "b")]
    for part in parts:
        part.mkdir()
        (part / "half").touch()
    (tmp_path / ".other").mkdir()
    remove_parts(tmp_path, {"a[1]"})
    assert [part.is_dir() for part in parts] == [False, True, True]
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".other"]
