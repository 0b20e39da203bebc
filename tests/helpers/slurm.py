"""A real SLURM cluster of one node on this machine, with its own ports, keys and folders, for root to run tests on."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch")
CPUS = 16  # as told to SLURM, whatever the machine has: tests ask for tasks, not for speed
SECONDS_TO_START = 30
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,requeue_delay=1
KillWait=5
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=20000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running cluster.

    Attributes:
        folder: Of its state and logs.
        environment: With which its commands find it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command of SLURM's; return what it prints."""
        done = subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def submit(self, *arguments: str, cwd: Path) -> str:
        """Submit a batch script with its options; return the job's number."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd).strip().partition(";")[0]

    def states(self, job: str) -> list[str]:
        """Return the state of each of a job's tasks, or of the job alone."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return [word.partition("=")[2] for word in shown.split() if word.startswith("JobState=")]

    def field(self, job: str, name: str) -> str:
        """Return a field of a job, for example Restarts."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def wait(self, job: str, seconds: float) -> list[str]:
        """Wait until all of a job's tasks have ended; return their states."""
        self.wait_for(lambda: all(state in ENDED for state in self.states(job)), seconds)
        return self.states(job)

    def wait_for(self, condition: Callable[[], bool], seconds: float = SECONDS_TO_START) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            outputs = "\n".join(f"{file.name}: {file.read_text()[-1500:]}" for file in self.folder.glob("*.out"))
            assert time.monotonic() < end, f"not within {seconds} s\n{outputs}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        files = (self.folder / "slurmctld.log", self.folder / "slurmd.log")
        return "\n".join(f"{file.name}:\n{file.read_text()[-2000:]}" for file in files if file.is_file())


def why_not() -> str:
    """Return why no cluster can be started here; empty where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "a cluster of SLURM's is started by root alone"


PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Give a cluster; the test is skipped where there is none. Its daemons end with the block, by their numbers."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    slurm = Slurm(folder)
    names = {"host": socket.gethostname().partition(".")[0], "folder": folder, "cpus": CPUS}
    ports = {"controller_port": free_port(), "node_port": free_port()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**names, **ports))
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
        files |= {"log-file": "munge.log", "seed-file": "munge.seed"}
        daemons.append(
            start(slurm, "munged", "--foreground", "--force", *(f"--{k}={folder / v}" for k, v in files.items()))
        )
        slurm.wait_for(lambda: (folder / "munge.socket").exists())
        daemons.append(start(slurm, "slurmctld", "-D", "-i"))
        daemons.append(start(slurm, "slurmd", "-D", "-N", names["host"]))
        slurm.wait_for(lambda: "idle" in state_of_node(slurm))
        yield slurm
    finally:
        if len(daemons) == len(DAEMONS):
            end_jobs(slurm)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def end_jobs(slurm: Slurm) -> None:
    """End what a failed test left running, with all of its processes, while somebody is there to do it."""
    everybodys: dict[str, Any] = {"env": slurm.environment, "capture_output": True, "text": True, "check": False}
    subprocess.run(["scancel", "--signal=KILL", "--full", "--user", "root"], **everybodys)
    subprocess.run(["scancel", "--user", "root"], **everybodys)
    end = time.monotonic() + SECONDS_TO_START
    while subprocess.run(["squeue", "-h"], **everybodys).stdout.strip() and time.monotonic() < end:
        time.sleep(0.2)


def start(slurm: Slurm, program: str, *options: object) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground of a session of its own."""
    path = shutil.which(program, path=PATH)
    assert path
    with (slurm.folder / f"{program}.out").open("wb") as log:
        return subprocess.Popen(
            [path, *map(str, options)], env=slurm.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip


def state_of_node(slurm: Slurm) -> str:
    """Return the node's state, or nothing while the controller does not answer."""
    shown = subprocess.run(
        ["sinfo", "-h", "-o", "%T"], env=slurm.environment, capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
