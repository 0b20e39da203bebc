"""The clean end of every rank on SIGTERM (preemption, a time limit, a sweep's early stop), so that it can go on."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

# Batch systems announce a time limit by the latter, to every process of a job: those that help this one ignore it
# (loader workers, W&B's), while SIGTERM would end them first.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# A rank that waits for another cannot be asked; after this it is ended. Batch systems grant 30 s, sweeps 10.
GRACE_S = 5.0


class StopOnSignal(Callback):
    """Stop before the next batch, all ranks at the same one, with exit code 143; a sweep's trial with 0.

    last.ckpt holds the last finished epoch, where resuming is exact (in the middle of an epoch it is not: EM's labels
    belong to the weights of its beginning), and the same command repeats the cut epoch. Lightning's own handler gives
    way to this one: it lets ranks wait for each other inside the handler, which can hang for ever.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._requested = self._in_loop = self._said = False
        self._group: Any = None
        self._trainer: Any = None

    def listen(self, trainer: Any) -> None:
        """Take over the signals, from before the ranks are started until `stop_listening`."""
        stop_listening()
        self._trainer = trainer
        reader, writer = os.pipe()
        _pipe.append(writer)
        os.set_blocking(writer, False)
        self._take_over()
        # Python calls a handler when the main thread returns to it, and that may be waiting for another rank for ever;
        # the number of the signal goes to the pipe at once.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._enter_loop()
        if trainer.world_size > 1:
            # A group of CPUs: asking through the devices would make them wait in every step.
            self._group = torch.distributed.new_group(backend="gloo")

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._in_loop = False

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._enter_loop()

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._in_loop = False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        requested = self._requested
        if trainer.world_size > 1:
            of_any_rank = torch.tensor(int(requested))
            torch.distributed.all_reduce(of_any_rank, torch.distributed.ReduceOp.MAX, self._group)
            requested = bool(of_any_rank)
        if requested:
            raise SIGTERMException

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        self._stop_alone(trainer)

    def on_test_batch_start(self, trainer: Any, *args: Any) -> None:
        self._stop_alone(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):
            exception.code = _exit_code(trainer)
            self._say(trainer)
        elif self._requested:
            self._leave()  # the same signal has ended W&B's process or another rank, and this is what came of it

    def _say(self, trainer: Any) -> None:
        if trainer.is_global_zero and not self._said:
            self._said = True
            print(f"stopped by a signal; {self._how_to_resume()}", file=sys.stderr, flush=True)

    def _leave(self) -> None:
        """End this process where it stands: it waits for another rank, or for what the signal has ended."""
        self._say(self._trainer)
        os._exit(_exit_code(self._trainer))

    def _how_to_resume(self) -> str:
        if (self.folder / "last.ckpt").is_file():
            return f"the same command goes on from {self.folder / 'last.ckpt'}, the last finished epoch"
        return f"no epoch was finished: the same command begins again, in {self.folder}"

    def _stop_alone(self, trainer: Any) -> None:
        # In the middle of an evaluation ranks cannot agree without waiting for each other; the grace ends several.
        if self._requested and trainer.world_size == 1:
            raise SIGTERMException

    def _enter_loop(self) -> None:
        self._in_loop = True
        self._take_over()  # Lightning has just put its own handler before this one

    def _take_over(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self._in_loop:  # no batch will come soon, and nothing is half done
            raise SystemExit(_exit_code(self._trainer))

    def _watch(self, reader: int) -> None:
        while (byte := os.read(reader, 1)) and byte[0] not in SIGNALS:
            pass
        os.close(reader)
        if not byte:
            return  # nobody listens any more
        self._requested = True
        launcher = self._trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGTERM)
        deadline = threading.Timer(GRACE_S, self._leave)
        deadline.daemon = True
        deadline.start()


def _exit_code(trainer: Any) -> int:
    # Lightning kills all ranks, the first included, when one that it started ends with anything but 0. And an agent
    # takes other codes for failures, of which a few make it give up the sweep.
    return 0 if not trainer.is_global_zero or "WANDB_SWEEP_ID" in os.environ else 128 + signal.SIGTERM


_pipe: list[int] = []  # the end to write to, while anybody listens


def stop_listening() -> None:
    """Let signals end this process as they end others."""
    if _pipe:
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.close(_pipe.pop())


def _listen_as_a_child() -> None:
    """Be no child that speaks into its parent's pipe, nor one that a batch system ends before the parent has."""
    if _pipe:
        stop_listening()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


os.register_at_fork(after_in_child=_listen_as_a_child)


def listen(trainer: Any) -> None:
    """Let the trainer's StopOnSignal take over the signals, from before its ranks are started."""
    next(callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal)).listen(trainer)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """End this process without the interpreter's own end where it was stopped: for programs, around all that they do.

    What was registered for the end is done: W&B ends its run, loader workers end. Then Python would take apart what was
    imported, for 3 s of CPU time in every rank, and whoever stopped it is waiting.
    """
    try:
        yield
    except SIGTERMException as stop:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(stop.code or 0))
