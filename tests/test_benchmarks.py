"""All benchmarks in one command."""

from pathlib import Path

import pytest
from places import ROOT

from benchmarks import __main__ as command


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(command, "measure", lambda *words: calls.append(words))
    return calls


def test_all_that_make_their_own_data_are_measured(
    measured: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--ckpt", str(tmp_path / "best.ckpt")])
    assert command.main() == 0
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "python -m benchmarks." in path.read_text()}
    of_others = {command.OF_A_MODEL, *command.OF_THE_USER}
    assert of_others <= names
    assert [name for (name,) in measured] == sorted(names - of_others)
    (tmp_path / "best.ckpt").touch()
    assert command.main() == 0
    assert measured[-1] == ("phantom_hardness", "--ckpt", str(tmp_path / "best.ckpt"))
