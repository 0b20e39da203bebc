"""Completion in the shells that this machine has: what they offer is what the parsers of the commands take."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from cohort.importers.__main__ import heads
from ground_glass.__main__ import COMMANDS, main
from ground_glass.completion import SCRIPTS

# What a shell does when a user asks for the end of the last word, without a terminal; it prints a line of offers.
ASK = {
    "bash": 'COMP_WORDS=(ground-glass {line}); COMP_CWORD={last}; _ground_glass; echo "${{COMPREPLY[*]}}"',
    "zsh": 'words=(ground-glass {line}); CURRENT={last}+1; PREFIX=$words[-1]; print -r -- ${{(f)"$(_ground_glass)"}}',
    "fish": "echo (complete -C 'ground-glass {line}')",
}
BEFORE = {
    "zsh": "compdef() {:}; _files() {:}; compadd() { shift; print -rl -- ${(M)@:#$PREFIX*} }\n",
}


@pytest.fixture(params=SCRIPTS)
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.skip(f"no {name} on this machine")
    return name


def offers(shell: str, lines: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> list[set[str]]:
    """What a shell offers for the last word of each line, in a folder without files but the command itself."""
    capsys.readouterr()
    assert main(["completion", shell]) == 0
    program = BEFORE.get(shell, "") + capsys.readouterr().out
    program += "\n".join(ASK[shell].format(line=line, last=len(line.split(" "))) for line in lines)
    command = folder / "bin" / "ground-glass"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ground_glass "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run([shell, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    answers = [set(line.split()) - {"bin/"} for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    return answers


def long_options(words: list[str], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The long options of a command that its parser does not hide."""
    parsers: list[argparse.ArgumentParser] = []
    monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda parser, file=None: parsers.append(parser))
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    shown = [action for action in parsers[-1]._actions if action.help != argparse.SUPPRESS]
    return {name for action in shown for name in action.option_strings if name.startswith("--")}


def test_the_commands_are_offered(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert offers(shell, ["pre", "serve"], tmp_path, capsys) == [{"predict", "prepare"}, {"serve-page"}]


@pytest.mark.slow
def test_the_options_of_every_command_are_offered_and_no_others(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [[name] for name in COMMANDS if name != "import"] + [["import", "mosmed"], ["import", "medseg_slices"]]
    answers = offers(shell, [f"{' '.join(words)} --" for words in pages], tmp_path, capsys)
    assert dict(zip(map(tuple, pages), answers, strict=True)) == {
        tuple(words): long_options(words, monkeypatch) for words in pages
    }


@pytest.mark.slow
def test_data_sets_are_offered_options_begin_with_a_dash_and_the_rest_are_files(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["import m", "import medseg --gr", "predict scan.zip --fl", "predict scan.zip -o out --lung", "predict x"]
    first, *others = offers(shell, lines, tmp_path, capsys)
    assert first == {name for name in heads() if name.startswith("m")}
    assert others == [{"--groups"}, {"--flips"}, {"--lungs", "--lung-mask"}, set()]
