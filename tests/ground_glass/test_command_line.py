"""The command `ground-glass`: what it says, how fast, and where it leads."""

import contextlib
import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from phantom_scan import save_phantom
from places import ROOT

import ground_glass
from ground_glass.__main__ import COMMANDS, main, usage
from inference.result import Result
from machine.package import here

SCREEN = 40  # lines


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says of itself."""
    with contextlib.suppress(SystemExit):
        main([name, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_a_screen_and_says_what_it_is_called(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = help_of(name, capsys)
    assert f"ground-glass {name}" in said
    assert 3 < len(said.splitlines()) <= SCREEN
    assert max(map(len, said.splitlines())) <= 132, "an importer's head is long"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_waits_for_no_library(name: str) -> None:
    program = (
        "import sys; from ground_glass.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sorted({'torch', 'monai', 'pandas', 'matplotlib', 'scipy', 'wandb', 'streamlit'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program, name, "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == ""
    assert after.ru_utime - before.ru_utime < 0.5, "seconds of this process alone, whatever else the machine does"


def test_every_command_is_there() -> None:
    for module, _ in COMMANDS.values():
        assert callable(importlib.import_module(here(module)).main)


def test_what_is_no_command_is_answered_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    for args, said in ((["perdict"], "error: there is no command 'perdict'"), ([], "error: name a command")):
        assert main(args) == 2
        first, *rest = capsys.readouterr().err.splitlines()
        assert first == said
        assert "\n".join(rest) == usage()


def test_it_names_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{ground_glass.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", ground_glass.__version__)


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["--fast"], "there is no --fast here; a scan takes seconds as it is: leave it out"),
        (
            ["--roi", "lung"],
            "there is no --roi here; a model finds all that its class set names: choose one with --ckpt",
        ),
        (["--roi_subset=lung"], "there is no --roi_subset here; a model finds all that its class set names"),
        (["--statistics"], "there is no --statistics here; volumes are always written, into measurements.json"),
    ],
)
def test_an_option_of_totalsegmentator_is_answered_with_what_there_is_instead(
    words: list[str], instead: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "scan.nii.gz", "-o", str(tmp_path / "out"), *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {instead}")
    assert not (tmp_path / "out").exists()


def test_the_gate_alone_says_of_every_scan_whether_it_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    save_phantom(folder / "good.nii.gz")
    (folder / "bad.nii.gz").write_bytes(b"no volume")
    (folder / "notes.txt").write_text("x")
    assert main(["check", str(folder), "-o", str(tmp_path / "verdicts.csv")]) == 1
    bad, good, left_out, summary = capsys.readouterr().out.splitlines()
    assert bad.startswith("refused  bad.nii.gz: ")
    assert good.startswith("pass     good.nii.gz")
    assert left_out.startswith("left out notes.txt: no scan")
    assert summary.startswith("2 scans: 1 passed, 0 repaired, 1 refused")
    rows = (tmp_path / "verdicts.csv").read_text().splitlines()
    assert len(rows) == 3
    assert main(["check", str(folder / "good.nii.gz")]) == 0
    assert main(["check", str(tmp_path / "nothing.nii.gz")]) == 1


def test_an_experiment_is_trained_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def note(args: list[str]) -> int:
        asked.append(args)
        return 0

    monkeypatch.setattr("launch.main", note)
    assert main(["train", "smoke", "--cohort", "c.csv", "--fresh", "--trainer.max_epochs=1"]) == 0
    (words,) = asked
    assert words[0] == "fit"
    assert [Path(word.partition("=")[2]).name for word in words[1:3]] == ["base.yaml", "smoke.yaml"]
    assert words[-3:] == ["--data.cohort=c.csv", "--fresh=true", "--trainer.max_epochs=1"]
    own = tmp_path / "mine.yaml"
    main(["train", str(own)])
    assert asked[1][2] == f"--config={own}"


def test_without_a_name_the_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "unet_em " in capsys.readouterr().out


@pytest.mark.slow
def test_the_library_segments_a_path_a_zip_and_a_scan_alike(tmp_path: Path) -> None:
    import numpy as np

    from ct.files.read import read_scan

    path = save_phantom(tmp_path / "scans" / "chest.nii.gz")
    zipped = shutil.make_archive(str(tmp_path / "scan"), "zip", path.parent)
    model = ground_glass.load_model()
    results = [model.segment(path), model.segment(str(zipped)), model.segment(read_scan(path))]
    for result in results:
        assert result.masks["lungs"].any()
        assert json.dumps(dict(result.measurements)) == json.dumps(dict(results[0].measurements))
        assert all(np.array_equal(mask, results[0].masks[name]) for name, mask in result.masks.items())


@pytest.mark.slow
def test_the_examples_of_the_pages_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_phantom(tmp_path / "scans" / "scan.nii.gz", slices=12)
    shutil.make_archive(str(tmp_path / "scan"), "zip", tmp_path / "scans")
    shutil.copy(tmp_path / "scans" / "scan.nii.gz", tmp_path)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"`(ground_glass\.load_model\(\)[^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert eval(example, {"ground_glass": ground_glass}) > 0
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    block = page.partition("## As a library\n\n")[2].partition("\n\n`import")[0]
    names: dict[str, object] = {}
    exec(textwrap.dedent(block), names)
    assert isinstance(names["result"], Result)


def test_a_device_that_is_not_there_is_refused() -> None:
    import torch

    with pytest.raises(ValueError, match="the device 'tpu'; expected one of auto, cpu, gpu"):
        ground_glass.load_model(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU; expected one of auto, cpu, gpu"):
            ground_glass.load_model(device="gpu")


# A command that is interrupted at its work, whatever the shell that started the tests does with the signal.
AT_WORK = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import {module} as module
def work(*args):
    print("at work", flush=True)
    time.sleep(60)
module.{function} = work
from ground_glass.__main__ import console
console()
"""


@pytest.mark.parametrize(
    ("command", "module", "function", "last"),
    [
        (["predict", "scan.zip", "-o", "out"], "inference.predict", "run", "; the same command goes on with a batch"),
        (["report"], "evaluation.report.__main__", "_report", ""),
    ],
)
def test_an_interrupted_command_ends_with_130_and_a_sentence(
    command: list[str], module: str, function: str, last: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK.format(module=module, function=function), *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert said == "at work\n", error
    assert process.returncode == 130
    assert error == f"interrupted{last}\n"


def test_the_page_of_the_api_links_what_the_library_takes_and_gives() -> None:
    page = (ROOT / "docs" / "api" / "ground_glass.md").read_text(encoding="utf-8")
    places = dict(re.findall(r"\[`(\w+)`\]\[([\w.]+)\]", page))
    assert set(places) >= {"Segmenter", "Result", "Scan"}
    for name, place in places.items():
        assert place.endswith(f".{name}")
        assert pkgutil.resolve_name(place).__doc__
