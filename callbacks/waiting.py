"""The share of a training's time that is spent waiting for batches: a run that waits needs faster data."""

import time
from typing import Any

from pytorch_lightning import Callback


class WaitingShare(Callback):
    """Log `train/waiting_share` once per epoch: the share of the steps' time spent between two steps.

    From the end of a step to the start of the next the loop fetches a batch, hands it to the device and makes the
    network's input of it. Only the host's clock is read, nothing waits for the device: on a GPU the figure is how long
    no new work was queued, and 0 where the host is ahead. What comes before an epoch's first step (workers starting,
    the E-step) and validation in between do not count.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._waited = self._stepped = 0.0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._forget()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._since = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        if self._since is not None:
            self._waited += now - self._since
        self._started = now

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._since = time.perf_counter()
        self._stepped += self._since - self._started

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        total = self._waited + self._stepped
        if total > 0:
            pl_module.log("train/waiting_share", self._waited / total, rank_zero_only=True)
