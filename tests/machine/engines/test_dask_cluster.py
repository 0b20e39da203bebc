import importlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from dask_harness import Cluster, running_cluster
from scan_work import kill_worker, kill_worker_once, note_and_wait, poisoned_square, process, slow_square, square

from ct.refusal import Word
from machine.engines.dask_cluster import DaskCluster
from machine.engines.engine import Died, work_on


def named(numbers: range) -> dict[str, int]:
    return {f"s{number}": number for number in numbers}


def test_every_item_gets_its_result(steady: Cluster) -> None:
    results = dict(work_on(named(range(30)), square, DaskCluster(steady.scheduler)))
    assert results == {f"s{number}": number * number for number in range(30)}
    assert dict(DaskCluster(steady.scheduler).run({}, square)) == {}


def test_a_child_is_started_once_a_worker_and_is_no_thread_of_it(steady: Cluster) -> None:
    children = set(dict(work_on(named(range(20)), process, DaskCluster(steady.scheduler))).values())
    assert 1 <= len(children) <= 2
    assert not children & {process.pid for process in steady.processes.values()}


def test_exactly_the_poisoned_are_lost(steady: Cluster) -> None:
    results = dict(work_on(named(range(12)), poisoned_square, DaskCluster(steady.scheduler)))
    dead = {name: result for name, result in results.items() if isinstance(result, Died)}
    assert dead == {"s3": Died(Word("killed by SIGKILL")), "s7": Died(Word("ended with exit code 9"))}
    assert len(results) == 12


def test_closing_ends_what_runs_and_what_waits(steady: Cluster, tmp_path: Path) -> None:
    items = {str(number): (str(tmp_path / str(number)), 0.0 if number == 0 else 60.0) for number in range(9)}
    results = DaskCluster(steady.scheduler).run(items, note_and_wait)
    next(results)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    results.close()
    for file in [file for file in tmp_path.iterdir() if file.name != "0"]:
        while os.path.exists(f"/proc/{file.read_text()}"):
            assert time.monotonic() < deadline, "the scan of a cancelled command is still at work"
            time.sleep(0.05)
    assert dict(work_on(named(range(3)), square, DaskCluster(steady.scheduler))) == {"s0": 0, "s1": 1, "s2": 4}


def test_few_tasks_lie_at_the_scheduler(steady: Cluster) -> None:
    from distributed import Client

    results = DaskCluster(steady.scheduler).run(named(range(200)), slow_square)
    with Client(steady.scheduler, set_as_default=False) as client:
        most = 0
        for _ in range(6):
            next(results)
            most = max(most, client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
    results.close()
    assert 0 < most <= 8


@pytest.mark.slow
def test_an_item_whose_worker_dies_is_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    items = {f"s{number}": (number, str(tmp_path / "killed")) for number in range(10)}
    results = dict(work_on(items, kill_worker_once, DaskCluster(cluster.scheduler)))
    assert results == {f"s{number}": number * number for number in range(10)}


@pytest.mark.slow
def test_an_item_that_kills_every_worker_is_lost_alone(cluster: Cluster) -> None:
    results = dict(work_on(named(range(12)), kill_worker, DaskCluster(cluster.scheduler)))
    dead = [name for name, result in results.items() if isinstance(result, Died)]
    assert dead == ["s5"]
    assert {name: result for name, result in results.items() if name != "s5"} == {
        f"s{number}": number * number for number in range(12) if number != 5
    }


@pytest.mark.slow
def test_machines_come_and_go(cluster: Cluster) -> None:
    results = work_on(named(range(40)), slow_square, DaskCluster(cluster.scheduler))
    done = [next(results) for _ in range(4)]
    cluster.kill("worker-1")
    cluster.kill("worker-3")
    cluster.start_worker("late")
    done += list(results)
    assert dict(done) == {f"s{number}": number * number for number in range(40)}
    assert "Starting established connection" in (cluster.folder / "late.log").read_text()


@pytest.mark.slow
def test_a_lost_scheduler_is_told_in_a_sentence(cluster: Cluster) -> None:
    results = work_on(named(range(40)), slow_square, DaskCluster(cluster.scheduler))
    next(results)
    began = time.monotonic()
    cluster.kill("scheduler")
    with pytest.raises(ValueError, match=r"the Dask scheduler at tcp://[\d.:]+ was lost; what is done is kept"):
        list(results)
    assert time.monotonic() - began < 60


def test_no_scheduler_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machine.engines.dask_cluster.SECONDS_TO_ANSWER", 1)
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 .*start one with"):
        next(DaskCluster("tcp://127.0.0.1:9").run({"a": 1}, square))
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at nonsense://x"):
        next(DaskCluster("nonsense://x").run({"a": 1}, square))


def test_a_worker_that_lacks_a_folder_or_a_module_is_told(
    steady: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getcwd", lambda: str(tmp_path / "of another machine"))
    with pytest.raises(ValueError, match=r"does not see the folder .*of another machine; expected a file system"):
        next(DaskCluster(steady.scheduler).run({"a": 1}, square))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"cannot begin: ModuleNotFoundError .*expected the same project"):
        next(DaskCluster(steady.scheduler).run({"a": 1}, Elsewhere()))


class Elsewhere:
    """Work that only this machine has."""

    def __call__(self, item: int) -> int:
        return item

    def __reduce__(self) -> tuple[object, ...]:
        return importlib.import_module, ("only_here",)


def test_the_child_of_a_killed_worker_ends_too(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "dask", 1) as cluster:
        items = {"a": (str(tmp_path / "a"), 60.0)}
        results = DaskCluster(cluster.scheduler).run(items, note_and_wait)
        threading.Thread(target=lambda: list(results), daemon=True).start()
        deadline = time.monotonic() + 30
        while not (tmp_path / "a").exists() or not (tmp_path / "a").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = int((tmp_path / "a").read_text())
        os.kill(child, 0)
        os.killpg(cluster.processes["worker-0"].pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{child}"):
            assert time.monotonic() < deadline + 20
            time.sleep(0.05)
