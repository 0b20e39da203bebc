"""The run folder: where it is, what logs into it, and when it becomes the latest."""

import datetime
import os
import shutil
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

VARIABLE = "GROUND_GLASS_RUN"  # processes that DDP starts again inherit the folder that the first one chose


def new_run_folder(runs: str | Path, experiment: str) -> Path:
    """runs/<experiment>/<timestamp>, the same in every process of a run."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    return Path(os.environ.setdefault(VARIABLE, str(Path(runs) / experiment / stamp)))


def loggers(folder: Path, experiment: str) -> list[Logger]:
    """CSV always; W&B online when the user is logged in, else offline: no question and no error."""
    csv = CSVLogger(folder, name="", version="")
    if os.environ.get("WANDB_MODE") == "disabled":
        return [csv]
    logged_in = wandb.Settings().api_key or os.environ.get("WANDB_API_KEY") or _key_in_netrc()
    offline = os.environ.get("WANDB_MODE") == "offline" or not logged_in
    os.environ.setdefault("WANDB_SILENT", "true")
    # The folder must exist, or wandb falls back to a temporary one.
    rank_zero_only(folder.mkdir)(parents=True, exist_ok=True)
    name = f"{experiment}/{folder.name}"
    return [csv, WandbLogger(save_dir=folder, project="ground-glass", name=name, group=experiment, offline=offline)]


def _key_in_netrc() -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return path.is_file() and "api.wandb.ai" in path.read_text()


def checkpoints(folder: Path, monitor: str | None) -> ModelCheckpoint:
    """best.ckpt and last.ckpt in the run folder.

    Args:
        folder: The run folder.
        monitor: Key of the metric to maximise; with None, best.ckpt is the last epoch.
    """
    return ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=monitor,
        mode="max",
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


class KeepVerdicts(Callback):
    """Copy verdicts.csv into the run folder: which scans of the cohort this run could not use, and why.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trainer.datamodule.verdicts_csv, self.folder / "verdicts.csv")


class MarkLatest(Callback):
    """Point runs/<experiment>/latest to this run once it is finished, so that it never names a broken one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        link, new = self.folder.parent / "latest", self.folder.parent / ".latest"
        new.unlink(missing_ok=True)
        new.symlink_to(self.folder.name)
        new.replace(link)
