"""Work that takes time, dies or fails as that on scans does; child processes of a cluster's workers import it."""

import errno
import os
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy import save as np_save

from machine.engines.dask_cluster import DaskCluster
from machine.engines.engine import Died

SECONDS = 0.3


def square(number: int) -> int:
    """Square a number."""
    return number * number


def process(_: int) -> int:
    """Return the number of the process that works."""
    return os.getpid()


def worker_of(_: Any, segmenter: Any) -> int:
    """Return the worker that a child with a model works for."""
    assert segmenter.modules
    return os.getppid()


def slow_square(number: int) -> int:
    """Square a number, as slowly as a scan is read."""
    time.sleep(SECONDS)
    return number * number


def poisoned_square(number: int) -> int:
    """Square a number; 3 and 7 end their process."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        os._exit(9)
    return slow_square(number)


def kill_worker_once(item: tuple[int, str]) -> int:
    """Square a number; the first time, the worker that asks for it is killed meanwhile."""
    number, marker = item
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    return square(number)


def kill_worker(number: int) -> int:
    """Kill the worker that asks for 5, whenever it does."""
    if number == 5:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    return slow_square(number)


def note_and_wait(item: tuple[str, float]) -> str:
    """Write down the own process, and take some seconds."""
    Path(item[0]).write_text(str(os.getpid()))
    time.sleep(item[1])
    return item[0]


class SlowFolder:
    """The work on a file system that takes its time for every array."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def save(self, *arguments: Any) -> None:
        """Write an array, slowly."""
        time.sleep(0.2)
        np_save(*arguments)

    def __call__(self, item: Any) -> Any:
        """Do the work."""
        with patch.object(np, "save", self.save):
            return self.work(item)


class FullFolder(SlowFolder):
    """The work on a disk on which nothing fits."""

    def save(self, *arguments: Any) -> None:
        """Write nothing."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disturbed(DaskCluster):
    """A cluster whose work is wrapped.

    Args:
        scheduler: Its address.
        wrapper: Takes the work and returns the wrapped work.
    """

    def __init__(self, scheduler: str, wrapper: Callable[[Any], Any]) -> None:
        super().__init__(scheduler)
        self.wrapper = wrapper

    def run(self, items: Any, work: Any) -> Generator[tuple[str, Any | Died]]:
        """Do the wrapped work."""
        return super().run(items, self.wrapper(work))
