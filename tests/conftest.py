"""The tiny phantom cohort and the runs of both stages, made once for all tests."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dask_harness import Cluster, running_cluster
from harness import train_in_process
from places import ROOT

from phantom.mixed.write_mixed import write_mixed
from phantom.plan import STUDY_SCANS
from phantom.write_phantom import write_cohort
from training.run_folder import VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    # Other work on a shared machine makes several threads wait for each other; the tensors here are small anyway.
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    # What `make test ARGS=...` was given, and exports, is not for the targets that tests make.
    os.environ.pop("MAKEFLAGS", None)
    for name in re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _no_run_left_open() -> Iterator[None]:
    # Set up before every other fixture of a test, so that it ends after them.
    yield
    assert os.environ.pop(VARIABLE, None) is None, "the next test in this process would go on with this one's run"


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of the tiny phantom."""
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "tiny", 0, True, None, 1)


@pytest.fixture(scope="session")
def panel_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of the tiny phantom with a panel of three readers, who label one training scan in common."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDY_SCANS, "train", 1)
        return write_cohort(tmp_path_factory.mktemp("cohorts") / "panel", 0, True, None, 1, readers=3)


@pytest.fixture(scope="session")
def mixed_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of the tiny phantom whose sites have different labels."""
    return write_mixed(tmp_path_factory.mktemp("cohorts") / "mixed", 0, True, None, 1)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared arrays and runs go."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def infection_run(cohort: Path, work: Path) -> Path:
    """Run folder of stage 1."""
    return train_in_process("smoke_infection", cohort, work)


@pytest.fixture(scope="session")
def em_run(cohort: Path, work: Path, infection_run: Path) -> Path:
    """Run folder of stage 2."""
    return train_in_process("smoke", cohort, work, f"--model.init_weights={infection_run / 'best.ckpt'}")


@pytest.fixture(scope="session")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Dask cluster of two workers that no test kills."""
    with running_cluster(tmp_path_factory.mktemp("dask"), 2) as cluster:
        yield cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A Dask cluster of four workers to be killed."""
    with running_cluster(tmp_path / "dask", 4) as cluster:
        yield cluster
