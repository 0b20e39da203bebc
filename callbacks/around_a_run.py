"""The loggers and callbacks that every run has besides those of its experiment, in the order in which they must act."""

import sys
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

from callbacks.describe_training import DescribeTraining
from callbacks.epoch_lines import EpochLines
from callbacks.keep_checkpoints import KeepCheckpoints
from callbacks.log_slices import LogSlices
from callbacks.stop_on_divergence import StopOnDivergence
from callbacks.stop_on_signal import StopOnSignal
from callbacks.waiting import WaitingShare
from callbacks.write_results import WriteResults
from training.history import ContinueHistory, History
from training.run_folder import KeepVerdicts, MarkLatest, Run
from training.wandb_run import DescribeRun, wandb_loggers


def around_fit(run: Run, config: dict[str, Any], monitor: str | None, chosen: list[Callback]) -> dict[str, Any]:
    """`logger` and `callbacks` of a training that ends with its test.

    Args:
        run: Its folder.
        config: Its resolved configuration.
        monitor: Key of the metric by which the best checkpoint is chosen.
        chosen: The experiment's own callbacks.
    """
    history, folder = History(run.folder), run.folder
    # What is saved is what was logged so far; W&B's run begins with the description; `latest` is a promise that all is
    # written.
    first = [DescribeRun(config), KeepCheckpoints(folder, monitor), ContinueHistory(folder, history)]
    last = [LogSlices(folder), WriteResults(folder), KeepVerdicts(folder), MarkLatest(folder)]
    loggers = [history, *wandb_loggers(folder, config["experiment"], run.id)]
    ends = [StopOnSignal(folder), StopOnDivergence(folder)]
    return {"logger": loggers, "callbacks": [*first, *ends, *chosen, WaitingShare(), DescribeTraining(), *last]}


def around_test(folder: Path, chosen: list[Callback]) -> dict[str, Any]:
    """`logger` and `callbacks` of a test or validation of weights in a run folder."""
    return {"logger": False, "callbacks": [StopOnSignal(folder), *chosen, LogSlices(folder), WriteResults(folder)]}


def progress_bar(trainer: Any) -> list[Callback]:
    """A bar that shows the loss as often as it is logged, unless the settings of the trainer name one or want none.

    Lightning's own reads the loss in every step, for which the host must wait until the device is done. Where standard
    output is no terminal, a line an epoch.
    """
    if trainer.enable_progress_bar is False or any(isinstance(each, ProgressBar) for each in trainer.callbacks or []):
        return []
    if not sys.stdout.isatty():
        return [EpochLines()]
    return [TQDMProgressBar(refresh_rate=trainer.log_every_n_steps or 50)]
