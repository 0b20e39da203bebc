"""The workers of a Dask cluster that runs already: paths and small results go through its scheduler, never arrays."""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import sys
import threading
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ct.refusal import Refusal, Word, cause_of
from machine.engines.child import Child
from machine.engines.engine import Died, Item, NotBegun, Result

# Tasks a thread that wait at the scheduler: enough that none is idle, few enough that a million scans do not lie there.
AHEAD = 4
SECONDS_TO_ANSWER = 10
MOST_LOSSES = 5  # of one scan, before the scheduler counts as lost
SECONDS_BETWEEN_LOOKS = 0.2
LOST = (
    "the Dask scheduler at {scheduler} was lost; what is done is kept: start it and its workers again, and the same "
    "command goes on"
)
_of_thread = threading.local()


class CancelledTaskError(Exception):
    """Nobody waits for the task any more."""


class UnseenFolderError(Exception):
    """A worker does not see the folder in which the command runs."""


class DaskCluster:
    """Engine that hands each item to a worker of a running cluster, in a child process there.

    A scan that kills its process is that scan's fault, and the worker goes on. A worker that dies takes its scans with
    it, which others then do. The file system is shared: every machine must see the same paths.

    Args:
        scheduler: Address, for example tcp://10.0.0.1:8786.
        resources: What a task takes of a worker that was started with as much, for example {"GPU": 1}.

    Raises:
        ValueError: Dask is not installed.
    """

    def __init__(self, scheduler: str, resources: Mapping[str, float] | None = None) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise Refusal("--engine dask needs Dask: pip install 'ground-glass[dask]'") from error
        self.scheduler, self.resources = scheduler, dict(resources or {})

    def run(self, items: Mapping[str, Item], work: Callable[[Item], Result]) -> Generator[tuple[str, Result | Died]]:
        """Do the work; see `Engine.run`. `work`, items and results must be picklable and small.

        Raises:
            ValueError: The scheduler cannot be reached, was lost, or its workers cannot do this work.
        """
        from distributed import as_completed

        client = self._connect()
        names: dict[Any, str] = {}  # of the futures that are not done
        try:
            waiting, run, again = deque(items), secrets.token_hex(4), Counter[str]()
            completed = as_completed(loop=client.loop)
            while True:
                with self._watched():
                    room = AHEAD * max(1, _threads(client)) - len(names)
                    for name in [waiting.popleft() for _ in range(min(room, len(waiting)))]:
                        future = client.submit(
                            do_in_child,
                            pickle.dumps((work, items[name])),
                            os.getcwd(),
                            key=f"{name}-{run}-{again[name]}",
                            pure=False,
                            resources=self.resources or None,
                        )
                        names[future] = name
                        completed.add(future)
                    if not names:
                        return
                    future = next(completed)
                name = names.pop(future)
                try:
                    result = self._result(future)
                except CancelledError as error:  # lost on the way, as with a worker that dies when it is done
                    again[name] += 1
                    if again[name] > MOST_LOSSES or client.status != "running":
                        raise Refusal(LOST, scheduler=self.scheduler) from error
                    waiting.append(name)
                    continue
                yield name, result
                future.release()
        finally:
            if client.status == "running":
                client.cancel(list(names), force=True)
            client.close(timeout=SECONDS_TO_ANSWER)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell in a sentence that the scheduler does not answer any more."""
        try:
            yield
        except (OSError, CancelledError) as error:
            raise Refusal(LOST, scheduler=self.scheduler) from error

    def _connect(self) -> Any:
        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said here, in a sentence
        try:
            client = Client(self.scheduler, timeout=SECONDS_TO_ANSWER, set_as_default=False)
        except (OSError, ValueError) as error:  # a wrong address is a ValueError of Dask's
            raise Refusal(
                "no Dask scheduler answers at {scheduler} ({cause}); start one with `dask scheduler`, and give its "
                "address as --scheduler tcp://<host>:<port>",
                scheduler=self.scheduler,
                cause=cause_of(error),
            ) from error
        if not _threads(client):
            print(
                f"the scheduler at {self.scheduler} has no workers yet: start some with `dask worker {self.scheduler}`",
                file=sys.stderr,
            )
        return client

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        if future.status in ("cancelled", "lost"):
            raise CancelledError
        error = future.exception() if future.status == "error" else None
        if error is None:
            result = future.result()
            if isinstance(result, NotBegun):
                raise Refusal(
                    "a worker of {scheduler} cannot begin: {cause}; expected the same project and the same files on "
                    "every machine",
                    scheduler=self.scheduler,
                    cause=result.cause,
                )
            return result
        if isinstance(error, KilledWorker):
            return Died(Word("lost with several workers of the cluster"))
        if isinstance(error, ImportError):
            raise Refusal(
                "the workers of {scheduler} cannot import this project ({cause}); start them with the Python that it "
                "is installed in: .venv/bin/dask worker <scheduler>",
                scheduler=self.scheduler,
                cause=cause_of(error),
            ) from error
        if isinstance(error, UnseenFolderError):
            raise Refusal(
                "a worker of {scheduler} does not see the folder {folder}; expected a file system that all machines "
                "share, under the same paths",
                scheduler=self.scheduler,
                folder=os.getcwd(),
            ) from error
        raise error


def do_in_child(task: bytes, folder: str) -> Any:
    """Do a task in this worker thread's child process and return its result; runs on a worker.

    The task stays pickled here: what it needs is loaded by the child alone, once.

    Raises:
        UnseenFolderError: The folder of the command is not there.
        CancelledTaskError: The task was cancelled, or its client has gone.
    """
    child = _child_of_this_thread(folder)
    child.begin(task)
    while not child.is_done(SECONDS_BETWEEN_LOOKS):
        if _is_cancelled():
            child.kill()
            raise CancelledTaskError
    result = child.answer()
    if isinstance(result, Died):
        child.kill()
    return result


def _child_of_this_thread(folder: str) -> Child:
    """Return the thread's child, which keeps what it has loaded, in the folder in which the command was given."""
    earlier: tuple[str, Child] | None = getattr(_of_thread, "child", None)
    if earlier and earlier[0] == folder and earlier[1].is_alive:
        return earlier[1]
    if not os.path.isdir(folder):
        raise UnseenFolderError(folder)
    _of_thread.child = folder, Child(folder)
    child: Child = _of_thread.child[1]
    return child


def _is_cancelled() -> bool:
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state not in ("executing", "long-running")


def _threads(client: Any) -> int:
    return sum(client.nthreads().values())
