"""CPU time of a training and of its workers, each test in a process that has no other children."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import wraps

import pytest

from benchmarks.cpu_clock import CpuClock, own_cpu_seconds, workers_cpu_seconds

BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n"


def in_a_fresh_process(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test where what other tests have left behind (a server, a loader) cannot compute beside it."""

    @wraps(test)
    def run() -> None:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            pool.submit(_run, test.__name__).result()

    return run


def _run(name: str) -> None:
    globals()[name].__wrapped__()


def work(seconds: float) -> None:
    """Use CPU time of this process."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@in_a_fresh_process
def test_time_asleep_does_not_count_and_work_does() -> None:
    clock = CpuClock()
    time.sleep(0.3)
    assert clock.seconds < 0.2
    work(0.3)
    assert clock.seconds == pytest.approx(0.3, abs=0.1)


@in_a_fresh_process
def test_what_other_processes_of_the_training_spent_is_added() -> None:
    clock = CpuClock(spent=100.0)
    work(0.1)
    assert clock.seconds == pytest.approx(100.1, abs=0.08)


@in_a_fresh_process
def test_evaluation_does_not_count() -> None:
    clock = CpuClock()
    with clock.paused():
        work(0.4)
    assert clock.seconds < 0.1
    with suppress(KeyError), clock.paused():  # nor one that fails
        work(0.2)
        raise KeyError
    assert clock.seconds < 0.1


@in_a_fresh_process
def test_a_worker_counts_while_it_runs_and_once_after_it_has_ended() -> None:
    clock = CpuClock()
    code = BUSY.format(seconds=0.8) + "print('done', flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "done\n"
        assert workers_cpu_seconds() == pytest.approx(0.8, abs=0.15)
        assert clock.seconds == pytest.approx(0.8, abs=0.2)
        worker.communicate("\n")
    assert workers_cpu_seconds() == pytest.approx(0, abs=0.1)
    assert clock.seconds == pytest.approx(0.8, abs=0.3)


@in_a_fresh_process
def test_a_worker_of_a_worker_counts_and_other_processes_do_not() -> None:
    inner = BUSY.format(seconds=0.5) + "print('done', flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "done\n"
        assert workers_cpu_seconds() == pytest.approx(0.5, abs=0.2)  # but not all that this machine has computed
        worker.communicate("\n")


@in_a_fresh_process
def test_what_workers_do_during_an_evaluation_counts() -> None:
    clock, before = CpuClock(), own_cpu_seconds()
    code = BUSY.format(seconds=0.5) + "print('done', flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        with clock.paused():
            assert worker.stdout is not None
            worker.stdout.readline()
            work(0.3)
        assert own_cpu_seconds() - before >= 0.3
        assert clock.seconds == pytest.approx(0.5, abs=0.15)
        worker.communicate("\n")
