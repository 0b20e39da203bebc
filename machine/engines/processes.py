"""A process for each item: one that dies (out of memory, a crash in a decoder) takes nothing else with it."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ct.refusal import Word
from machine.engines.engine import Died, Item, Result


class Processes:
    """Engine that forks a process for each item.

    Args:
        jobs: Processes that run at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, items: Mapping[str, Item], work: Callable[[Item], Result]) -> Generator[tuple[str, Result | Died]]:
        """Do the work; see `Engine.run`. Results must be picklable."""
        waiting = deque(items)
        running: dict[Connection, tuple[BaseProcess, str]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    name = waiting.popleft()
                    pipe, process = _start(work, items[name])
                    running[pipe] = process, name
                for pipe in [end for end in wait(list(running)) if isinstance(end, Connection)]:
                    process, name = running.pop(pipe)
                    yield name, _result(pipe, process)
        finally:
            for process, _ in running.values():
                process.kill()
                process.join()


def death_of(code: int) -> Died:
    """Return how a process ended that gave no result, by its exit code as Python has it."""
    return Died(Word(f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"))


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
        return death_of(process.exitcode or 0)
    finally:
        pipe.close()
    process.join()
    return result
