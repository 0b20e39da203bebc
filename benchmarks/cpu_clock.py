"""CPU time of a training: of its process and of the workers that it started, without the time of evaluating it."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def own_cpu_seconds() -> float:
    """Return the user and system time of this process and of its children that have ended, in seconds."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def workers_cpu_seconds() -> float:
    """Return the user and system time of the descendants of this process that still run, in seconds (Linux).

    `getrusage` counts a child only once it has ended, and a loader's workers run as long as the training.
    """
    return sum(map(_cpu_seconds, _descendants(os.getpid())))


def _descendants(process: int) -> Iterator[int]:
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # it has ended
            for child in map(int, path.read_text().split()):
                yield child
                yield from _descendants(child)


def _cpu_seconds(process: int) -> float:
    """Return the time of a process and of its children that have ended; 0 once it has ended itself."""
    try:
        # The name of the program, in parentheses, may hold blanks. What follows it begins with field 3 of proc(5).
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND


class CpuClock:
    """CPU seconds of a training, which may go on in another process.

    Args:
        spent: Seconds of the processes before.
    """

    def __init__(self, spent: float = 0.0) -> None:
        self._start = own_cpu_seconds() + workers_cpu_seconds() - spent
        self._left_out = 0.0

    @property
    def seconds(self) -> float:
        """The CPU seconds so far."""
        return own_cpu_seconds() + workers_cpu_seconds() - self._start - self._left_out

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what this process does meanwhile; its workers read for the training, so theirs counts."""
        started = own_cpu_seconds()
        try:
            yield
        finally:
            self._left_out += own_cpu_seconds() - started
