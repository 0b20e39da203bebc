"""How the tests call train.py: with the arguments of `make train`, in this process."""

import os
from pathlib import Path

import pytest
from places import ROOT

from train import main

EXPERIMENTS = ROOT / "experiments"


def experiment_args(name: str, cohort: Path, work: Path, *more: str) -> list[str]:
    """The arguments with which `make train` calls train.py."""
    configs = [f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={EXPERIMENTS / name}.yaml"]
    places = [f"--runs={work / 'runs'}", f"--data.cohort={cohort}", f"--data.prepared={work / 'prepared'}"]
    return [*configs, *places, *more]


def train_in_process(name: str, cohort: Path, work: Path, *more: str) -> Path:
    """Run an experiment through train.py's main and return its run folder."""
    os.environ.pop("GROUND_GLASS_RUN", None)  # a process makes one run; a test process makes several
    main(["fit", *experiment_args(name, cohort, work, *more)])
    return (work / "runs" / name / "latest").resolve()


def errors_of(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Run train.py's main with arguments that it refuses, with exit code 2, and return what it wrote to stderr."""
    os.environ.pop("GROUND_GLASS_RUN", None)
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    return capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Do as `errors_of`, but return the last line alone."""
    return errors_of(capsys, args).strip().splitlines()[-1]
