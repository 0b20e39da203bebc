"""Ranks that something else than Lightning starts, as on several machines: torchrun, and SLURM's variables."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from harness import experiment_args
from offline_run import read_offline_run
from places import ROOT

pytestmark = pytest.mark.slow

# Only ranks that wait for each other take as long; starting all processes takes minutes where others use the machine.
TIMEOUT_S = 900
NODES = ["--trainer.devices=1", "--trainer.num_nodes=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def torchrun(arguments: list[str], environment: dict[str, str]) -> list[subprocess.Popen[str]]:
    """Two machines, each with its own torchrun."""
    port = free_port()
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    return [
        started([*command, f"--node-rank={node}", str(ROOT / "train.py"), *arguments], environment) for node in (0, 1)
    ]


def srun(arguments: list[str], environment: dict[str, str]) -> list[subprocess.Popen[str]]:
    """Two tasks with what srun tells its tasks of two machines."""
    of_job = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}
    of_job |= {"SLURM_JOB_NAME": "gg", "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0", "SLURM_RESTART_COUNT": "0"}
    # Lightning derives the port of all ranks from the job's id; another may be taken on this machine.
    of_job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    ranks = [{"SLURM_PROCID": rank, "SLURM_NODEID": rank} for rank in ("0", "1")]
    return [started(command, environment | of_job | rank) for rank in ranks]


def started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("launch", [torchrun, srun])
def test_ranks_started_side_by_side_are_one_run(launch: object, cohort: Path, tmp_path: Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "GROUND_GLASS"))}
    environment = inherited | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    arguments = ["fit", *experiment_args("smoke_infection", cohort, tmp_path, "--trainer.max_epochs=2", *NODES)]
    assert callable(launch)
    processes = launch(arguments, environment)
    try:
        outputs = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-4000:]
    home = tmp_path / "runs" / "smoke_infection"
    (run,) = (path for path in home.iterdir() if not path.is_symlink())
    assert (home / "latest").resolve() == run
    assert (run / "metrics.json").is_file()
    course = pd.read_csv(run / "metrics.csv")
    assert course["val/dice"].notna().sum() == 2
    assert len(set(read_offline_run(run).ids)) == 1


def test_trials_of_a_sweep_without_a_server_run_on_several_processes(cohort: Path, tmp_path: Path) -> None:
    arguments = experiment_args("smoke_infection", cohort, tmp_path, "--trainer.max_epochs=1")
    command = ["${interpreter}", "${program}", "fit", *arguments, "${args}"]
    sweep = {"program": "train.py", "method": "grid", "parameters": {"optimizer.lr": {"values": [1e-3, 3e-5]}}}
    sweep |= {"metric": {"name": "val/dice", "goal": "maximize"}, "command": command}
    (tmp_path / "rates.yaml").write_text(yaml.safe_dump(sweep))
    devices = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    call = [sys.executable, "sweep.py", str(tmp_path / "rates.yaml"), "--runs", str(tmp_path), "--", *devices]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    trials = pd.read_csv(tmp_path / "sweeps" / "rates" / "trials.csv")
    assert trials["state"].tolist() == ["ok", "ok"]
    for rate, folder in zip(trials["optimizer.lr"], trials["run"], strict=True):
        config = yaml.safe_load((ROOT / folder / "config.yaml").read_text())
        assert config["optimizer"]["init_args"]["lr"] == rate
        assert str(config["trainer"]["devices"]) == "2"
        assert len(list((ROOT / folder / "wandb").glob("offline-run-*"))) == 1
