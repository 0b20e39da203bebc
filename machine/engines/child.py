"""A process that works for another one, one item after the other, and ends with it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ct.refusal import Refusal, cause_of, sentence_of
from machine.engines.engine import NotBegun
from machine.engines.processes import death_of
from machine.package import ROOT, program


class Child:
    """A process of its own for work that may end it.

    It is started as a program, since a process that multiprocessing started as a daemon, as Dask does with its workers,
    may have no children of that kind.

    Args:
        folder: Its working directory.
    """

    def __init__(self, folder: str) -> None:
        self._pipe, theirs = Pipe()
        lifeline, self._alive = os.pipe()
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            self._process = subprocess.Popen(
                [sys.executable, *program("machine.engines.child"), str(theirs.fileno()), str(lifeline)],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": paths},
                pass_fds=(theirs.fileno(), lifeline),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(lifeline)

    def begin(self, task: bytes) -> None:
        """Hand it a pickled function of one argument and that argument; both must be importable there."""
        with suppress(BrokenPipeError):  # it died since its last answer, as `answer` will tell
            self._pipe.send_bytes(task)

    def is_done(self, seconds: float) -> bool:
        """Wait for its answer or its death for so many seconds at most; tell whether there is one."""
        return self._pipe.poll(seconds)

    def answer(self) -> Any:
        """Return its result, `Died`, or `NotBegun`."""
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            return death_of(self._process.wait())

    @property
    def is_alive(self) -> bool:
        """Whether it can be handed another item."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it with whatever it started."""
        if self.is_alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()
        os.close(self._alive)


def main() -> None:
    """Answer until the other end is gone."""
    pipe, lifeline = Connection(int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            return
        try:
            work, item = pickle.loads(task)
        except Exception as error:
            pipe.send(NotBegun(sentence_of(error) if isinstance(error, Refusal) else cause_of(error)))
        else:
            pipe.send(work(item))


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written: it ends when the parent does
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
