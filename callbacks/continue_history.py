"""A single history, in metrics.csv and in W&B, of a run that goes on after it was cut off."""

import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from training.history import History, Row


class ContinueHistory(Callback):
    """Cut the history of a run at the checkpoint from which it goes on, in metrics.csv and in W&B.

    W&B cannot add to an offline run: syncing a second folder of the same run replaces what the first one sent. So a run
    that goes on starts a new folder with the same id, logs the kept rows again, and drops the old folder.

    Args:
        folder: The run folder.
        history: The logger of its metrics.csv.
    """

    def __init__(self, folder: Path, history: History) -> None:
        self.folder, self.history = folder, history
        self._steps = 0

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._steps = checkpoint["global_step"]

    @rank_zero_only
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        rows = self.history.keep_before(self._steps)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and logger.experiment.offline:
                _replay(rows, logger)
                _drop_older(self.folder / "wandb", logger.experiment)


def _replay(rows: list[Row], logger: WandbLogger) -> None:
    for row in rows:
        numbers = {key: float(value) for key, value in row.items() if key != "step"}
        logger.log_metrics(numbers, int(row["step"]))


def _drop_older(folder: Path, run: Any) -> None:
    for earlier in folder.glob(f"offline-run-*-{run.id}"):
        if earlier != Path(run.dir).parent:
            shutil.rmtree(earlier)
