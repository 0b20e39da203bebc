"""A real Dask cluster of this machine: a scheduler and workers as processes, on the loopback, each to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS_TO_START = 60


class Cluster:
    """A scheduler, and as many workers as were started.

    Attributes:
        processes: By name; each leads a process group of its own.
        scheduler: Its address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.scheduler = ""

    def start_scheduler(self, address: str = "tcp://127.0.0.1:0") -> None:
        """Start the scheduler, on a free port by default."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        _, host, port = address.replace("//", "").split(":")
        self._start("scheduler", "--host", host, "--port", port, "--no-dashboard", "--scheduler-file", str(file))
        end = time.monotonic() + SECONDS_TO_START
        while not (file.is_file() and file.read_text().strip()):
            assert time.monotonic() < end, (self.folder / "scheduler.log").read_text()
            time.sleep(0.05)
        self.scheduler = json.loads(file.read_text())["address"]

    def start_worker(self, name: str, *options: str) -> None:
        """Start a worker with one thread; it ends when it has lost the scheduler."""
        where = ["--local-directory", str(self.folder / f"of-{name}"), "--host", "127.0.0.1", "--no-dashboard"]
        of_one = ["--name", name, "--nthreads", "1", "--death-timeout", "20"]
        self._start(name, self.scheduler, *of_one, *where, *options)

    @contextmanager
    def suspended(self, name: str) -> Iterator[Callable[[], bool]]:
        """Stop a worker with all that it started; until the block ends, it keeps tasks that it gets and finishes none.

        Yields:
            A function: whether it has got any.
        """
        from distributed import Client

        with Client(self.scheduler, set_as_default=False) as client:
            client.wait_for_workers(len(self.processes.keys() - {"scheduler"}), SECONDS_TO_START)
            workers = client.scheduler_info()["workers"]
            (address,) = (address for address, worker in workers.items() if worker["name"] == name)
            os.killpg(self.processes[name].pid, signal.SIGSTOP)
            try:
                yield lambda: bool(client.processing()[address])
            finally:
                os.killpg(self.processes[name].pid, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End a process and all that it started but its scans' own, as when a machine is lost, and wait."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _start(self, name: str, *options: str) -> None:
        module = "distributed.cli.dask_scheduler" if name == "scheduler" else "distributed.cli.dask_worker"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *options],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


@contextmanager
def running_cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """Give a cluster with workers named worker-0 and so on; all of its processes end with the block."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'ground-glass[dask]'")
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder)
    try:
        cluster.start_scheduler()
        for number in range(workers):
            cluster.start_worker(f"worker-{number}")
        yield cluster
    finally:
        for name in list(cluster.processes):
            cluster.kill(name)
