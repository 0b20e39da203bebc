"""Every file of experiments/sweeps/ is a sweep that train.py understands, and no experiment."""

import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from places import ROOT

from evaluation.sweeps.sweep_file import Sweep, metric_warning, read_sweep
from launch import read_settings, stage_1_of
from train import main

FILES = sorted((ROOT / "experiments" / "sweeps").iterdir())


def make(*arguments: str) -> str:
    # Also below another make; what is installed is not looked at.
    command = ["make", "--no-print-directory", "--old-file=.venv/.installed", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def parse(sweep: Sweep) -> None:
    """Parse the command of the last trial as train.py does, and print the configuration instead of training."""
    points = sweep.grid() or [{name: next(iter(s.values())) for name, s in sweep.parameters.items()}]
    command = sweep.expand(points[-1], [])
    main([*command[command.index(sweep.program) + 1 :], "--print_config"])


def test_there_are_sweeps() -> None:
    assert ROOT / "experiments" / "sweeps" / "unet_em_prior.yaml" in FILES
    assert {path.suffix for path in FILES} == {".yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_parameters_are_real_arguments(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(path)
    with pytest.raises(SystemExit) as stop:
        parse(sweep)
    assert stop.value.code == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    for name, specification in sweep.parameters.items():
        value = parsed
        for part in name.split("."):
            value = value.get("init_args", value)[part]
        assert value == specification.get("values", [specification.get("value")])[-1], name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_head_says_what_it_is_and_make_finds_it(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert head[1].startswith("# Needs: ")
    assert f"make sweep-offline SWEEP={path.stem}" in head[2]
    assert yaml.safe_load(path.read_text())["name"] == path.stem
    planned = shlex.split(make("-n", "sweep-offline", f"SWEEP={path.stem}", "JOBS=3").replace("\\\n", " "))
    expected = ["sweep.py", f"experiments/sweeps/{path.stem}.yaml", "--runs", "runs", "--jobs", "3", "--"]
    assert planned[planned.index("sweep.py") :] == expected


def test_the_prior_is_searched_from_one_shared_stage_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(ROOT / "experiments" / "sweeps" / "unet_em_prior.yaml")
    points = {(point["model.prior.b2"], point["model.prior.k2"]) for point in sweep.grid() or []}
    assert points == set(itertools.product([8, 8.5, 9, 9.5], [0.25, 0.5, 0.75, 1, 1.25]))
    stage_1 = stage_1_of(read_settings(sweep.expand({}, [])))
    assert stage_1 is not None
    assert stage_1.weights == Path("runs/unet_infection/latest/best.ckpt")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_trials_are_chosen_by_validation_and_make_what_they_need(path: Path) -> None:
    sweep = read_sweep(path)
    assert metric_warning(path) == ""
    assert sweep.metric.startswith("val/")
    assert sweep.program == "launch.py"


def test_make_sweep_hands_over_the_file_with_what_it_must_refuse() -> None:
    planned = shlex.split(make("-n", "sweep", "SWEEP=unet_em_prior", "COHORT=a.csv", "ARGS=--b=1"))
    module = planned.index("evaluation.sweeps.server_sweep")
    assert planned[module + 1 :] == ["experiments/sweeps/unet_em_prior.yaml", "--data.cohort=a.csv", "--b=1"]


def test_a_sweep_is_no_experiment() -> None:
    shown = dict(re.findall(r"^  (sweeps|experiments): (.*)$", make("help"), re.MULTILINE))
    shown = {name: names.split() for name, names in shown.items()}
    assert shown["sweeps"] == [path.stem for path in FILES]
    assert not {"sweeps", *shown["sweeps"]} & set(shown["experiments"])
    assert "unet_em" in shown["experiments"]
