"""Trainings that are logged in to W&B where there is no network, or none any more."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import wandb
from harness import experiment_args
from offline_run import read_offline_run
from places import ROOT
from sweep_server import SweepServer

from machine.network import bounds, finish, started, unhindered

# The bounds may be shorter than a user's, so that nobody waits for them here.
PROGRAM = """
from machine import network
network.{bound} = 3
from train import main
main()
"""


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)


def refused() -> Any:
    raise wandb.errors.CommError("no route to host\nConsider increasing the init_timeout setting")


def test_a_run_that_the_server_does_not_take_is_offline(
    no_trial: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(wandb, "teardown", lambda: ended.append("the service that still tries"))
    (tmp_path / "wandb" / "run-1-a").mkdir(parents=True)  # of an earlier start, and it may hold what was never sent

    def online() -> Any:
        (tmp_path / "wandb" / "run-2-a").mkdir()
        return refused()

    assert started(online, lambda: "offline", tmp_path) == "offline"
    assert ended
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == ["run-1-a"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W&B did not take this run within 30 s (no route to host): ")
    assert "WANDB_MODE=offline" in line
    assert started(lambda: "online", refused, tmp_path) == "online"


def test_a_trial_of_an_agent_fails_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    with pytest.raises(ValueError, match="cannot reach W&B"):
        started(refused, lambda: "offline", tmp_path)
    assert "finish_timeout" not in bounds()


def test_what_cannot_be_sent_later_ends_nothing(
    no_trial: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb, "run", SimpleNamespace(offline=False))
    with unhindered():
        refused()
    assert capsys.readouterr().err == "W&B did not take a part of this run (no route to host); the run folder has all\n"
    monkeypatch.setattr(wandb, "run", SimpleNamespace(offline=True))
    with pytest.raises(wandb.errors.CommError), unhindered():  # no network could be at fault
        refused()


def test_the_end_waits_no_longer_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late() -> None:
        raise TimeoutError

    monkeypatch.setattr(wandb, "run", SimpleNamespace(dir=str(tmp_path / "run-1-a" / "files")))
    monkeypatch.setattr(wandb, "finish", late)
    finish()
    assert f"within 300 s; send the rest by `wandb sync {tmp_path / 'run-1-a'}`" in capsys.readouterr().err


def start(cohort: Path, place: Path, url: str, bound: str, *more: str) -> subprocess.Popen[str]:
    """A training of stage 1 that is logged in to the server at `url`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "GROUND_GLASS"))}
    environment = inherited | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}
    arguments = experiment_args("smoke_infection", cohort, place, "--trainer.log_every_n_steps=1", *more)
    command = [sys.executable, "-c", PROGRAM.format(bound=bound), "fit", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True)


def assert_whole(place: Path) -> Path:
    run = (place / "runs" / "smoke_infection" / "latest").resolve()
    assert json.loads((run / "metrics.json").read_text())["scans"] == 2
    return run


@pytest.mark.slow
def test_a_training_without_a_network_is_recorded_offline(cohort: Path, tmp_path: Path) -> None:
    process = start(cohort, tmp_path, "http://127.0.0.1:9", "START_TIMEOUT_S", "--trainer.max_epochs=2")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-3000:]
    assert [line for line in errors.splitlines() if "WANDB_MODE=offline" in line]
    run = assert_whole(tmp_path)
    rows = [row["val/dice"] for row in read_offline_run(run).history if "val/dice" in row]
    assert rows == pytest.approx(pd.read_csv(run / "metrics.csv")["val/dice"].dropna().tolist())
    assert len(rows) == 2
    assert not list(run.glob("wandb/run-*"))


@pytest.mark.slow
def test_a_network_that_fails_in_the_middle_ends_nothing(cohort: Path, tmp_path: Path) -> None:
    server = SweepServer([])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = start(cohort, tmp_path, server.url, "FINISH_TIMEOUT_S", "--trainer.max_epochs=4")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/*/last.ckpt")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.shutdown()
    server.server_close()
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-3000:]
    run = assert_whole(tmp_path)
    (folder,) = run.glob("wandb/run-*")
    assert f"wandb sync {folder}" in errors
    assert list(server.history), "it was online before"
