import errno
import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TypeVar

import pytest

from ct.refusal import Word
from machine.engines.engine import Died, work_on
from machine.engines.processes import Processes

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_each(items: Iterable[Item], work: Callable[[Item], Result], jobs: int) -> Generator[tuple[str, Result | Died]]:
    """Work on items that are named after themselves."""
    return work_on({str(item): item for item in items}, work, Processes(jobs))


def square(item: int) -> tuple[int, int]:
    return item * item, os.getpid()


def alive(results: Iterable[tuple[str, Result | Died]]) -> Iterator[tuple[str, Result]]:
    """Yield the results; assert that no process died."""
    for item, result in results:
        assert not isinstance(result, Died)
        yield item, result


def test_every_item_runs_once_in_a_process_of_its_own() -> None:
    results = dict(alive(run_each(range(7), square, 3)))
    assert {item: value for item, (value, _) in results.items()} == {str(item): item**2 for item in range(7)}
    assert len({process for _, process in results.values()} | {os.getpid()}) == 8
    assert list(run_each([], square, 2)) == []


def test_as_many_run_at_once_as_there_are_jobs() -> None:
    def work(_: int) -> tuple[float, float]:
        began = time.monotonic()
        time.sleep(0.3)
        return began, time.monotonic()

    spans = [span for _, span in alive(run_each(range(4), work, 2))]
    assert max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans) == 2


def test_the_dead_are_tried_again_alone_after_the_others(tmp_path: Path) -> None:
    def work(item: str) -> str:
        with (tmp_path / "log").open("a") as log:
            log.write(item)
        if item == "k":
            os.kill(os.getpid(), signal.SIGTERM)
        if item == "e":
            os._exit(7)
        if item == "o" and (tmp_path / "log").read_text().count("o") == 1:
            os.kill(os.getpid(), signal.SIGKILL)  # as when memory runs out because of what runs beside it
        return item.upper()

    results = list(run_each("kaeob", work, 2))
    assert dict(results) == {
        "a": "A",
        "b": "B",
        "o": "O",
        "k": Died(Word("killed by SIGTERM")),
        "e": Died(Word("ended with exit code 7")),
    }
    assert sorted((tmp_path / "log").read_text()[:5]) == sorted("kaeob")
    assert (tmp_path / "log").read_text()[5:] == "".join(item for item, _ in results[2:])


def test_a_result_that_is_larger_than_a_pipe_arrives() -> None:
    assert next(run_each([10**6], bytes, 1)) == ("1000000", bytes(10**6))


def test_closing_ends_what_still_runs(tmp_path: Path) -> None:
    def work(item: int) -> int:
        if item:
            (tmp_path / "began").touch()
            time.sleep(30)
        return os.getpid()

    results = run_each([1, 0], work, 2)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 10


def test_an_error_in_the_loop_reaches_the_caller_and_ends_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ForkProcess.start
    started: list[ForkProcess] = []

    def start_one(process: ForkProcess) -> None:
        if started:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(process)
        start(process)

    monkeypatch.setattr(ForkProcess, "start", start_one)
    with pytest.raises(BlockingIOError):
        list(run_each([30.0, 31.0], time.sleep, 2))
    assert not started[0].is_alive()
