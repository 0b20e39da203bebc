"""Files that are whole or not there."""

import json
import stat
from pathlib import Path

import pytest

from machine.whole_file import whole_file, write_json, write_text


def test_a_file_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    with whole_file(path) as passing:
        passing.write_text("new")
        assert not path.exists()
        assert passing.suffix == ".csv"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_text("old", path)
    with pytest.raises(LookupError), whole_file(path) as passing:
        passing.write_text("half", encoding="no such encoding")
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


def test_a_private_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("open to all")
    with whole_file(path, private=True) as passing:
        assert stat.S_IMODE(passing.stat().st_mode) == 0o600
        passing.write_text("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
