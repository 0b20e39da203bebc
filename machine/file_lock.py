"""Locks on files that end with the process that holds them, also where the file system knows none."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from filelock import SoftFileLock, Timeout

BUSY = (errno.EAGAIN, errno.EACCES)
# A marker that a dead process left is taken away first, and then made anew.
SECONDS_FOR_A_MARKER = 1.0
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class FileLock:
    """A lock that this process holds until it closes it or ends.

    Attributes:
        file: The locked file; children that inherit it hold the lock too, and for as long as they live.
        marker: What stands for the lock where the file system has none: a file that names this process.
    """

    file: IO[str] | None = None
    marker: SoftFileLock | None = None

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that a program must inherit to hold the lock as well."""
        return [self.file.fileno()] if self.file else []

    def keep_from_children(self) -> None:
        """Let the lock end with this process, whatever processes it has forked from now on."""
        if self.file:
            os.register_at_fork(after_in_child=self.file.close)

    def close(self) -> None:
        """Give the lock back."""
        if self.file:
            self.file.close()
        if self.marker:
            self.marker.release()


def try_lock(path: Path) -> FileLock | None:
    """Lock a file, which is made where it is missing; None where another process has locked it.

    Some file systems (Lustre, NFS, FUSE) have no locks, and Windows has none of this kind. There a file <path>.held
    with the machine and the process id of its owner stands for one, with a sentence on stderr: one of a process of
    this machine that has ended counts no longer, one of another machine counts until somebody removes it.

    Raises:
        OSError: The file cannot be written.
    """
    file = path.open("a")
    try:
        _flock(file)
    except OSError as error:
        file.close()
        return None if error.errno in BUSY else _try_marker(path, error.strerror or type(error).__name__)
    return FileLock(file)


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[FileLock]:
    """Hold the lock of a file, after waiting for whoever has it.

    Args:
        path: See `try_lock`.
        waiting: A sentence for stderr where another process has it.
    """
    lock = try_lock(path)
    if lock is None and waiting:
        print(waiting, file=sys.stderr)
    while lock is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        lock = try_lock(path)
    with closing(lock):
        yield lock


def _flock(file: IO[str]) -> None:
    """Lock an open file, or fail at once.

    Raises:
        OSError: Another process has it (`BUSY`), or there are no such locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        raise OSError(errno.ENOSYS, "this system has no flock") from None
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _try_marker(path: Path, reason: str) -> FileLock | None:
    marker = SoftFileLock(path.with_name(f"{path.name}.held"), timeout=SECONDS_FOR_A_MARKER)
    try:
        marker.acquire()
    except Timeout:
        _say(
            f"{marker.lock_file} says that another process (its number and machine stand there) is at work; remove "
            "that file if it is not"
        )
        return None
    _say(f"{path.parent} has no file locks ({reason}): {Path(marker.lock_file).name} there stands for one")
    return FileLock(marker=marker)


@cache
def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
