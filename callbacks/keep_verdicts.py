"""The scans of the cohort that a run could use, kept with the run."""

from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only

from ct.refusal import Refusal
from machine.whole_file import write_text


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
        kept, verdicts = self.folder / "verdicts.csv", _without_reasons(Path(trainer.datamodule.verdicts_csv))
        if kept.is_file() and kept.read_text(encoding="utf-8") != verdicts:
            raise Refusal(
                "{path} differs from {file}: the cohort has changed since this run began, so it cannot "
                "go on as it would have; start over with FRESH=1",
                path=kept,
                file=trainer.datamodule.verdicts_csv,
            )
        write_text(verdicts, kept, alone=True)


def _without_reasons(verdicts_csv: Path) -> str:
    columns = ["scan_id", "site", "split", "verdict"]
    return pd.read_csv(verdicts_csv, dtype=str, usecols=columns)[columns].to_csv(index=False)
