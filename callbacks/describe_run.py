"""The configuration, code and split of a run, for W&B."""

from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from training.wandb_run import allowed_config, git_commit, split_hash

STEP = "trainer/global_step"


class DescribeRun(Callback):
    """Tell W&B what was run: configuration, code, split; and which figure is best at its highest.

    It waits for the fit to start, when every rank has been launched: ranks would inherit a W&B run that is older than
    they are, and break. The module offers `monitor`; the data `slice_table`.

    Args:
        config: The resolved configuration of the experiment, as config.yaml holds it.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @rank_zero_only
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        identifiers = {"git_commit": git_commit(), "split_sha256": split_hash(trainer.datamodule)}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(allowed_config(self.config) | identifiers)
                if pl_module.monitor:
                    logger.experiment.define_metric(pl_module.monitor, summary="max", step_metric=STEP, step_sync=True)
