"""One line an epoch, for a log that nobody watches: where a bar would write a line over itself a thousand times."""

import sys
import time
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

MINUTE_S, HOUR_S = 60, 3600


class EpochLines(ProgressBar):
    """Print epoch, steps, loss, the validation figure, seconds, and about how long the rest will take.

    A line is printed when all that its epoch logs is known: as the next one begins, or at the end. The module offers
    `monitor`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown = True
        self._forget()

    def _forget(self) -> None:
        self._epochs, self._steps, self._seconds = 0, 0, 0.0
        self._ended: str | None = None  # the epoch that waits for its line

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
        most = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self._ended = f"epoch {trainer.current_epoch + 1}{most}: {steps} steps"
        self._took = duration(seconds)
        left = self._left_s(trainer)
        self._took += f", about {duration(left)} left" if left >= 0.5 else ""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._print_line(trainer, pl_module)

    def _print_line(self, trainer: Any, module: Any) -> None:
        if self._ended is None:
            return
        key = module.monitor or "val/dice"
        figures = {"loss": "train/loss_epoch"} | ({key: key} if self._validated else {})
        values = {name: trainer.callback_metrics.get(logged) for name, logged in figures.items()}
        texts = [f"{name} {_text(float(value))}" for name, value in values.items() if value is not None]
        if self._shown:
            print(", ".join([self._ended, *texts, self._took]), flush=True)
        self._ended = None

    def _left_s(self, trainer: Any) -> float:
        """Seconds until the last epoch or step at the pace so far; 0 where nothing says which is the last."""
        limits = []
        if (trainer.max_epochs or -1) > 0:
            limits.append((trainer.max_epochs - trainer.current_epoch - 1) * self._seconds / self._epochs)
        if trainer.max_steps > 0 and self._steps:
            limits.append((trainer.max_steps - trainer.global_step) * self._seconds / self._steps)
        return min(limits, default=0.0)


def progress_bar(trainer: Any) -> list[Callback]:
    """Return a bar that shows the loss as often as it is logged; none where the trainer's settings name or refuse one.

    Lightning's own reads the loss in every step, for which the host must wait until the device is done. Where standard
    output is no terminal, a line an epoch.
    """
    if trainer.enable_progress_bar is False or any(isinstance(each, ProgressBar) for each in trainer.callbacks or []):
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
