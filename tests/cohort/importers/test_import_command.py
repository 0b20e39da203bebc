"""One command for every public data set."""

from pathlib import Path

import pytest

from cohort.importers import mosmed
from cohort.importers.__main__ import heads, main


def test_a_data_set_that_is_not_known_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["", "--folder", "", "--out", "cohorts/"], ["mosmet", "--folder", "a"]):
        assert main(arguments) == 2
        head, *others = capsys.readouterr().err.splitlines()
        assert head == (
            "error: name a data set: ground-glass import <one of these> --folder <as downloaded> --out <folder>"
        )
        assert [line.split(maxsplit=1)[0] for line in others] == list(heads())
    assert heads()["mosmed"].startswith("MosMedData COVID19_1110: ")
    assert heads()["grey_slices"].endswith("one scan per case.")


def test_a_folder_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mosmed", "--folder", "", "--out", "cohorts/mosmed"]) == 2
    said = capsys.readouterr().err
    assert said == "error: name the folder of mosmed as downloaded: --folder <folder>, FOLDER=<folder> of make\n"


def test_its_importer_gets_all_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def called(options: list[str]) -> int:
        calls.append(options)
        return 3

    monkeypatch.setattr(mosmed, "main", called)
    options = ["--folder", "my folder", "--out", str(tmp_path), "--more", "--groups=a b.csv"]
    assert main(["mosmed", *options]) == 3
    assert calls == [options]


@pytest.mark.parametrize("name", heads())
def test_the_usage_of_an_importer_names_the_command_that_was_given(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: ground-glass import {name} ")
