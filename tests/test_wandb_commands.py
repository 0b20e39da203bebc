"""W&B's own commands `sweep`, `agent` and `sync`, with a stand-in server on the loopback."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from harness import experiment_args, train_in_process
from places import ROOT
from sweep_server import SWEEP, SweepServer, ranks_of, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="needs /proc")]

DDP = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
# Nested keys, a boolean, a float that YAML 1.1 takes for text, a word.
TRIALS = [
    {"optimizer.lr": 3e-05, "model.augmentation.flip": False, "data.batch_size": 4, "model.dice_over": "batch"},
    {"optimizer.lr": 1e-2, "model.augmentation.flip": True, "data.batch_size": 8, "model.dice_over": "image"},
]
STOPS = 10
SOON_S = 10.0


def sweep_file(path: Path, cohort: Path, *more: str, experiment: str = "smoke_infection") -> Path:
    """A sweep like those of experiments/sweeps, over a training of seconds."""
    arguments = experiment_args(experiment, cohort, path.parent, "--trainer.log_every_n_steps=1", *more)
    parameters = {name: {"values": [trial[name] for trial in TRIALS]} for name in TRIALS[0]}
    sweep = {"program": "launch.py", "method": "grid", "parameters": parameters, "project": "ground-glass"}
    sweep |= {"metric": {"name": "val/dice", "goal": "maximize"}}
    path.write_text(yaml.safe_dump(sweep | {"command": [sys.executable, "${program}", "fit", *arguments, "${args}"]}))
    return path


def call_wandb(server: SweepServer, place: Path, arguments: list[str | Path], module: str = "wandb") -> str:
    """The command `wandb`, or another module's, talking to the server; returns what it said."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "GROUND_GLASS"))}
    environment = inherited | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}
    environment |= {"WANDB_DIR": str(place), "WANDB_ERROR_REPORTING": "false", "WANDB_CONFIG_DIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def run_agent(server: SweepServer, sweep: Path) -> str:
    """`wandb sweep` and `wandb agent` with a sweep file; returns what the agent and its trials said."""
    call_wandb(server, sweep.parent, ["sweep", "--entity", "me", sweep])
    return call_wandb(server, sweep.parent, ["agent", f"me/ground-glass/{SWEEP}"])


def test_a_sweep_is_handed_over_and_worked_for(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    sweep = {"program": "launch.py", "method": "grid", "parameters": {"x": {"values": [1]}}, "project": "ground-glass"}
    path.write_text(yaml.safe_dump(sweep | {"metric": {"name": "val/dice", "goal": "maximize"}}))
    with serving(SweepServer([])) as server:
        output = call_wandb(server, tmp_path, [path], "evaluation.sweeps.server_sweep")
    assert yaml.safe_load(server.sweep) == yaml.safe_load(path.read_text())
    assert f"Create sweep with ID: {SWEEP}" in output
    assert "Starting wandb agent" in output


@pytest.mark.parametrize("more", [[], DDP], ids=["one device", "DDP"])
def test_an_agent_runs_trials(more: list[str], cohort: Path, tmp_path: Path) -> None:
    with serving(SweepServer(TRIALS)) as server:
        output = run_agent(server, sweep_file(tmp_path / "sweep.yaml", cohort, *more))
    home = tmp_path / "runs" / "smoke_infection"
    folders = sorted(path for path in home.iterdir() if not path.is_symlink())
    assert len(folders) == len(TRIALS), output[-3000:]
    for number, (trial, folder) in enumerate(zip(TRIALS, folders, strict=True), 1):
        run_id = f"trial{number}"
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert {name: value_of(config, name) for name in trial} == trial  # the program's own configuration
        assert {name: type(value_of(config, name)) for name in trial} == {k: type(v) for k, v in trial.items()}
        assert server.config[run_id]["optimizer.lr"] == trial["optimizer.lr"]  # and W&B's
        assert len(list((folder / "wandb").glob("run-*"))) == 1
        assert server.exit_codes[run_id] == [0]  # of one writer
        rows = server.history[run_id]
        steps = [row["_step"] for row in rows]
        assert steps == sorted(set(steps)), "two processes, or one twice, logged to this run"
        assert sum("val/dice" in row for row in rows) == 6
        assert (folder / "metrics.json").is_file()
    assert set(server.history) == {"trial1", "trial2"}
    for secret in (str(ROOT), str(tmp_path.parent), str(Path.home()), f'"host": "{socket.gethostname()}"'):
        assert not [body[:999] for body in server.received if secret.encode() in body], "W&B gets no path and no host"


def value_of(config: dict[str, Any], name: str) -> Any:
    """The value of `data.batch_size` in a resolved configuration."""
    part: Any = config
    for key in name.split("."):
        part = part["init_args"][key] if key not in part else part[key]
    return part


def test_a_stop_from_the_agent_ends_every_rank(cohort: Path, tmp_path: Path) -> None:
    """Ten times: while the ranks start, and anywhere in the training."""
    home, random_of = tmp_path / "runs" / "smoke_infection", random.Random(0)
    asked: dict[str, int] = {}

    def stop(run_id: str) -> bool:
        if int(run_id.removeprefix("trial")) % 5 == 0:  # as soon as both ranks are there
            return len(ranks_of(run_id)) == 2
        folders = [path for path in home.iterdir() if not path.is_symlink()] if home.is_dir() else []
        newest = max(folders, default=None)
        if len(folders) < int(run_id.removeprefix("trial")) or newest is None or not (newest / "metrics.csv").is_file():
            return False
        asked[run_id] = asked.get(run_id, 0) + 1
        return random_of.random() < 0.7

    trials = [{"optimizer.lr": 1e-3}] * STOPS
    with serving(SweepServer(trials, stop)) as server:
        output = run_agent(server, sweep_file(tmp_path / "sweep.yaml", cohort, "--trainer.max_epochs=100000", *DDP))
    print(pd.Series(server.seconds_to_stop).round(2).to_string())
    assert len(server.seconds_to_stop) == STOPS, output[-3000:]
    assert max(server.seconds_to_stop.values()) < SOON_S
    assert not [run_id for run_id in server.seconds_to_stop if ranks_of(run_id)]
    assert asked, "none was stopped while it trained"


def test_trials_on_an_empty_box_train_stage_1_once(cohort: Path, tmp_path: Path) -> None:
    trials = [{"model.prior.k2": 0.5, "data.batch_size": 4}, {"model.prior.k2": 1.0, "data.batch_size": 8}]
    more = [f"--stage1_runs={tmp_path / 'runs'}", "--trainer.max_epochs=1"]
    with serving(SweepServer(trials)) as server:
        output = run_agent(server, sweep_file(tmp_path / "sweep.yaml", cohort, *more, experiment="smoke"))
    (stage_1,) = (path for path in (tmp_path / "runs" / "smoke_infection").glob("2*"))
    config = yaml.safe_load((stage_1 / "config.yaml").read_text())
    assert value_of(config, "data.batch_size") == 8, "as its own file says, not as the first trial does"
    assert value_of(config, "trainer.max_epochs") == 1
    trained = [path for path in (tmp_path / "runs" / "smoke").glob("2*/metrics.json")]
    assert len(trained) == 2, output[-3000:]
    of_stage_1 = set(server.exit_codes) - {"trial1", "trial2"}
    assert len(of_stage_1) == 1, "a run of its own"
    assert all(codes == [0] for codes in server.exit_codes.values())
    assert server.config["trial2"]["model.prior.k2"] == 1.0
    for run_id in ("trial1", "trial2"):  # its last row has the figures of the test
        assert sum("val/dice" in row for row in server.history[run_id]) == 1, "one epoch each"
        assert any("train/loss" in row for row in server.history[run_id])


@pytest.mark.parametrize(
    ("experiment", "options", "fragment"),
    [
        ("smoke_infection", ["--model.dice_over=Zelda"], "an option or its value was refused"),
        ("smoke_infection", ["--data.cohort=Zelda/no.csv"], "the cohort: no such cohort file"),
        ("smoke", [], "stage 1 could not be trained"),
        (
            "smoke_infection",
            ["--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val/nothing"],
            "MisconfigurationException in ",
        ),
    ],
    ids=["an option", "a file", "stage 1", "in the middle"],
)
def test_a_trial_that_fails_says_why_in_its_run(
    experiment: str, options: list[str], fragment: str, cohort: Path, tmp_path: Path
) -> None:
    if experiment == "smoke":  # whose stage 1 cannot read this
        cohort = tmp_path / "Zelda.csv"
        cohort.write_text("no cohort")
        options = [f"--stage1_runs={tmp_path / 'Zelda'}"]
    with serving(SweepServer([{"optimizer.lr": 1e-3}])) as server:
        file = sweep_file(tmp_path / "sweep.yaml", cohort, *options, experiment=experiment)
        output = run_agent(server, file)
    assert server.exit_codes["trial1"] == [1], output[-3000:]
    assert fragment in server.summary["trial1"]["error"]
    assert "\n" not in server.summary["trial1"]["error"]
    for secret in ("Zelda", str(tmp_path)):
        assert not [body[:999] for body in server.received if secret.encode() in body]


def test_wandb_sync_later_sends_the_same_run(cohort: Path, tmp_path: Path) -> None:
    run = train_in_process(
        "smoke_infection", cohort, tmp_path, "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"
    )
    (offline,) = (run / "wandb").glob("offline-run-*")
    course = pd.read_csv(run / "metrics.csv")
    with serving(SweepServer([])) as server:
        output = call_wandb(server, tmp_path, ["sync", offline])
    ((run_id, rows),) = server.history.items()
    assert run_id == (run / ".run").read_text(), output
    assert server.exit_codes[run_id] == [0]
    for key in ("val/dice", "train/loss"):
        sent = [row[key] for row in rows if key in row]
        assert sent == pytest.approx(course[key].dropna().tolist())
        assert len(sent) >= 2


def test_a_run_that_is_stopped_is_whole_for_wandb(cohort: Path, tmp_path: Path) -> None:
    """What W&B does at the end of a program is done, though the program leaves before Python's own end."""
    args = experiment_args("smoke_infection", cohort, tmp_path, "--trainer.max_epochs=100000")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "GROUND_GLASS"))}
    environment = inherited | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    log, home = tmp_path / "log", tmp_path / "runs" / "smoke_infection"
    with log.open("w") as file:
        program = subprocess.Popen(
            [sys.executable, "train.py", "fit", *args], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    deadline = time.monotonic() + 300
    while not (course := list(home.glob("2*/metrics.csv"))) or "val/dice" not in course[0].read_text():
        assert program.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == 128 + signal.SIGTERM
    (offline,) = (course[0].parent / "wandb").glob("offline-run-*")
    with serving(SweepServer([])) as server:
        output = call_wandb(server, tmp_path, ["sync", offline])
    ((run_id, rows),) = server.history.items()
    assert len(server.exit_codes[run_id]) == 1, output
    logged = pd.read_csv(course[0])["val/dice"].dropna().tolist()
    assert [row["val/dice"] for row in rows if "val/dice" in row] == pytest.approx(logged)
    assert logged
