"""SIGTERM (preemption, a time limit, a sweep's early stop) ends every rank soon, cleanly, and so that it can go on."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

EXIT_CODE = 128 + signal.SIGTERM
# A rank that waits for another cannot be asked; after this it is ended. Batch systems grant 30 s, sweeps 10.
GRACE_S = 7.0


class StopOnSignal(Callback):
    """Stop before the next batch, all ranks at the same one, with exit code 143.

    last.ckpt holds the last finished epoch, where resuming is exact (in the middle of an epoch it is not: EM's labels
    belong to the weights of its beginning), and the same command repeats the cut epoch. Lightning's own handler is
    replaced: it lets ranks wait for each other inside the handler, which can hang for ever.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asked = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._listen(trainer)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._listen(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        asked = self._asked
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)  # one number per step
        if asked:
            raise SIGTERMException

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        self._stop_alone(trainer)

    def on_test_batch_start(self, trainer: Any, *args: Any) -> None:
        self._stop_alone(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):
            # Lightning kills all ranks, the first included, when one that it started ends with anything but 0.
            exception.code = EXIT_CODE if trainer.is_global_zero else 0
            if trainer.is_global_zero:
                print(f"stopped by a signal; {self._where()}", file=sys.stderr)

    def _where(self) -> str:
        if (self.folder / "last.ckpt").is_file():
            return f"the same command goes on from {self.folder / 'last.ckpt'}, the last finished epoch"
        return f"no epoch was finished: the same command begins again, in {self.folder}"

    def _stop_alone(self, trainer: Any) -> None:
        # Ranks evaluate different numbers of batches and cannot agree; the grace ends several.
        if self._asked and trainer.world_size == 1:
            raise SIGTERMException

    def _listen(self, trainer: Any) -> None:
        def ask(number: int, frame: Any) -> None:
            if not self._asked:
                self._asked = True
                if trainer.strategy.launcher is not None:
                    trainer.strategy.launcher.kill(signal.SIGTERM)
                deadline = threading.Timer(GRACE_S, os._exit, [EXIT_CODE if trainer.is_global_zero else 0])
                deadline.daemon = True
                deadline.start()

        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, ask)
