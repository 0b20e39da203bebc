"""One printed line per epoch, for logs in files, which a progress bar would fill with thousands of lines."""

import sys
import time
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

MINUTE_S, HOUR_S = 60, 3600


class EpochLines(ProgressBar):
    """Print epoch, steps, loss, the validation figure, the duration, and about how long the rest will take.

    A line is printed once all that its epoch logs is known: as the next epoch begins, or at the end. The module offers
    `monitor`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown = True
        self._forget()

    def _forget(self) -> None:
        self._epochs, self._steps, self._seconds = 0, 0, 0.0
        self._pending: str | None = None  # the beginning of the line of an epoch whose figures are not known yet

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._forget()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._print_line(trainer, pl_module)
        self._started_s, self._first_step, self._validated = time.perf_counter(), trainer.global_step, False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        seconds, steps = time.perf_counter() - self._started_s, trainer.global_step - self._first_step
        self._epochs, self._steps, self._seconds = self._epochs + 1, self._steps + steps, self._seconds + seconds
        in_epochs, in_steps = (trainer.max_epochs or -1) > 0, trainer.max_steps > 0
        total = f" of {trainer.max_epochs}" if in_epochs else ""
        done = f"{trainer.global_step} of {trainer.max_steps}" if in_steps and not in_epochs else f"{steps}"
        self._pending = f"epoch {trainer.current_epoch + 1}{total}: {done} steps"
        remaining_s = self._remaining_s(trainer)
        self._timing = duration(seconds) + (f", about {duration(remaining_s)} left" if remaining_s >= 0.5 else "")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._print_line(trainer, pl_module)

    def _print_line(self, trainer: Any, module: Any) -> None:
        if self._pending is None:
            return
        key = module.monitor or "val/dice"
        figures = {"loss": "train/loss_epoch"} | ({key: key} if self._validated else {})
        values = {name: trainer.callback_metrics.get(logged) for name, logged in figures.items()}
        texts = [f"{name} {_text(float(value))}" for name, value in values.items() if value is not None]
        if self._shown:
            print(", ".join([self._pending, *texts, self._timing]), flush=True)
        self._pending = None

    def _remaining_s(self, trainer: Any) -> float:
        """Estimate the seconds until the last epoch or step at the pace so far; 0 where no last one is set."""
        limits = []
        if (trainer.max_epochs or -1) > 0:
            limits.append((trainer.max_epochs - trainer.current_epoch - 1) * self._seconds / self._epochs)
        if trainer.max_steps > 0 and self._steps:
            limits.append((trainer.max_steps - trainer.global_step) * self._seconds / self._steps)
        return min(limits, default=0.0)


def progress_bar(trainer: Any) -> list[Callback]:
    """Return a bar that shows the loss as often as it is logged, or `EpochLines` where standard output is no terminal.

    Lightning's own bar reads the loss in every step, for which the host must wait until the device is done. The list is
    empty where the trainer's settings name or refuse a bar.
    """
    callbacks = trainer.callbacks or []
    if trainer.enable_progress_bar is False or any(isinstance(callback, ProgressBar) for callback in callbacks):
        return []
    if not sys.stdout.isatty():
        return [EpochLines()]
    return [TQDMProgressBar(refresh_rate=trainer.log_every_n_steps or 50)]


def duration(seconds: float) -> str:
    """Return seconds as people say them: "8 s", "12 min", "3 h 05 min"."""
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min"
    minutes = round(seconds / MINUTE_S)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _text(value: float) -> str:
    return f"{value:.4g}" if value == value else "-"
