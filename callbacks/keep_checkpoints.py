"""best.ckpt and last.ckpt of a run, written when an epoch and everything that it logs are done."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn

from ct.refusal import Refusal


class KeepCheckpoints(Callback):
    """Write best.ckpt where it is the best so far, then last.ckpt; the last.ckpt before becomes previous.ckpt.

    Lightning's own checkpoints come before the epoch's row of the log and before schedulers that watch a metric have
    stepped: a run that goes on from them lacks both. These are written at the start of the next epoch, as if it had not
    begun, so a run that goes on from last.ckpt repeats nothing and misses nothing. Must stand before all that logs.

    Args:
        folder: The run folder.
        monitor: Key of the metric to maximise; with None, and while it has been undefined, best.ckpt is the last epoch.
    """

    def __init__(self, folder: Path, monitor: str | None) -> None:
        self.folder, self.monitor = folder, monitor
        self.best_score: float | None = None
        self._unsaved = self._saving = self._ended = False
        self._last_is_whole = True

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if progress["ready"] != progress["processed"]:
            raise Refusal(
                "{path} was saved in the middle of an epoch, from where no run goes on exactly; give "
                "--ckpt_path the last.ckpt of a run folder",
                path=trainer.ckpt_path,
            )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        resumed = Path(trainer.ckpt_path or "")
        self._last_is_whole = resumed.name != "previous.ckpt"
        # Early stopping, for one, would not know that it had ended this training, and would go on.
        trainer.should_stop = self._ended and resumed.parent == self.folder
        self._ended = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        # With max_steps, Lightning takes an epoch that had ended for one to go on with, and would count it twice.
        trainer.fit_loop._restarting = trainer.fit_loop.epoch_loop.restarting = False

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._unsaved = True

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._save(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._ended = True
        self._save(trainer)
        if self.monitor is not None and self.best_score is None:
            rank_zero_warn(
                f"{self.monitor} was undefined in every epoch, so best.ckpt is the last one and not chosen; give the "
                "validation split a scan with the finding and its mask"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "ended": self._ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self._ended = state_dict["best_score"], state_dict["ended"]

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._saving:
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            for counts in progress.values():
                counts["ready"] = counts["processed"]
            checkpoint["epoch"] = progress["current"]["processed"] - 1

    def _save(self, trainer: Any) -> None:
        if not self._unsaved:
            return
        self._unsaved, self._saving = False, True
        if self.is_best(trainer.callback_metrics):
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=False)
        if trainer.is_global_zero:
            _to_disk(self.folder / "metrics.csv")
            if self._last_is_whole:
                _keep(self.folder / "last.ckpt", self.folder / "previous.ckpt")
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)
        self._saving, self._last_is_whole = False, True

    def is_best(self, metrics: dict[str, torch.Tensor]) -> bool:
        """Tell whether the epoch is the best so far; every rank has the same figure, so all agree."""
        score = math.nan if self.monitor is None else float(metrics.get(self.monitor, math.nan))
        if not math.isfinite(score):  # undefined, as where no validation scan has the finding
            return self.best_score is None
        best = self.best_score is None or score > self.best_score
        self.best_score = score if best else self.best_score
        return best


def _to_disk(path: Path) -> None:
    """Flush a file: a crash of the machine must not leave a checkpoint without the history that belongs to it."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _keep(path: Path, name: Path) -> None:
    """Give a file, where it exists, a second name, so that the first one is free for the next file."""
    if path.is_file():
        link = name.with_name(f".{name.name}.new")
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)
        except OSError:  # a file system without links: until the next one is written, only the second name is left
            link = path
        link.replace(name)
