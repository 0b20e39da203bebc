"""The model of a run as an artifact of W&B: an option, since a model may be large and need not leave the machine."""

from typing import Any

import wandb
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from machine.network import unhindered


class KeepModel(Callback):
    """Keep best.ckpt in W&B as the artifact `model-<run id>` (list it in trainer.callbacks).

    An offline run's file notes where best.ckpt lies, so that `wandb sync` can send it.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.ckpt_path:  # an ensemble's are kept by its members' runs
                artifact = wandb.Artifact(f"model-{logger.experiment.id}", "model", metadata={"task": pl_module.task})
                # Nobody changes it after the training: no second copy is needed until it is sent.
                artifact.add_file(str(trainer.ckpt_path), name="best.ckpt", policy="immutable")
                with unhindered():
                    logger.experiment.log_artifact(artifact)
