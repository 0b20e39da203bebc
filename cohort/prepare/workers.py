"""A process for each item: one that dies (out of memory, a crash in a decoder) takes nothing else with it."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """The end of an item's process without a result, also when nothing else was running.

    Attributes:
        how: For example "killed by SIGKILL" or "ended with exit code 3".
    """

    how: str


def run_each(items: Sequence[Item], work: Callable[[Item], Result], jobs: int) -> Generator[tuple[Item, Result | Died]]:
    """Do the work of every item in a process of its own.

    An item whose process dies is tried once more, alone, when all others are done: so what becomes of an item does not
    depend on what ran beside it, and memory that two need at once is no fault of either.

    Args:
        items: What to work on.
        work: Called in a forked process; its result must be picklable.
        jobs: Processes that run at the same time.

    Yields:
        Each item with its result, as they are done. Closing the generator ends the processes that still run.
    """
    dead: list[Item] = []
    for item, result in _run(items, work, jobs):
        if isinstance(result, Died):
            dead.append(item)
        else:
            yield item, result
    yield from _run(dead, work, 1)


def _run(items: Sequence[Item], work: Callable[[Item], Result], jobs: int) -> Generator[tuple[Item, Result | Died]]:
    waiting = deque(items)
    running: dict[Connection, tuple[BaseProcess, Item]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                item = waiting.popleft()
                pipe, process = _start(work, item)
                running[pipe] = process, item
            for pipe in [end for end in wait(list(running)) if isinstance(end, Connection)]:
                process, item = running.pop(pipe)
                yield item, _result(pipe, process)
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()


def _start(work: Callable[[Item], Result], item: Item) -> tuple[Connection, BaseProcess]:
    # Forked, a process costs milliseconds and no imports, and it shares the file lock of its parent: if that is killed,
    # the next command waits for those that still work.
    context = multiprocessing.get_context("fork")
    pipe, child_end = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(child_end, work, item), daemon=True)
    process.start()
    child_end.close()
    return pipe, process


def _child(pipe: Connection, work: Callable[[Item], Result], item: Item) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its children
    result = work(item)
    with suppress(BrokenPipeError):  # the parent was killed; what is done is done
        pipe.send(result)


def _result(pipe: Connection, process: BaseProcess) -> Result | Died:
    try:
        result: Result = pipe.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        return Died(f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")
    finally:
        pipe.close()
    process.join()
    return result
