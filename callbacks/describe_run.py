"""The inputs of a run, recorded as its fit starts: configuration, code and split in W&B, verdicts in its folder."""

from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from ct.refusal import Refusal
from machine.whole_file import write_text
from training.wandb_run import allowed_config, git_commit, split_hash

STEP = "trainer/global_step"


class DescribeRun(Callback):
    """Send W&B the configuration, code and split of a run, and which metric is best at its highest.

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


class KeepVerdicts(Callback):
    """Write verdicts.csv into the run folder: which scans of the cohort this run could use, and which not.

    Why not stands in the verdicts.csv of the prepared folder, which names files, and those may bear a patient's name.
    A run that goes on must find the scans that it began with.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path, verdicts = self.folder / "verdicts.csv", _without_reasons(Path(trainer.datamodule.verdicts_csv))
        if path.is_file() and path.read_text(encoding="utf-8") != verdicts:
            raise Refusal(
                "{path} differs from {file}: the cohort has changed since this run began, so it cannot "
                "go on as it would have; start over with FRESH=1",
                path=path,
                file=trainer.datamodule.verdicts_csv,
            )
        write_text(verdicts, path, alone=True)


def _without_reasons(verdicts_csv: Path) -> str:
    columns = ["scan_id", "site", "split", "verdict"]
    return pd.read_csv(verdicts_csv, dtype=str, usecols=columns)[columns].to_csv(index=False)
