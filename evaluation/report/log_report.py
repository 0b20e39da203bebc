"""The figures and tables of a report -> W&B."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from machine.network import bounds, finish, started, unhindered

PROJECT = "ground-glass"


def log_report(
    folder: Path, experiment: str, run: str, pictures: Mapping[str, Path], tables: Mapping[str, pd.DataFrame]
) -> None:
    """Log a report as a W&B run of its own, since nothing can be added to an offline run once it has ended.

    It is in the group of its experiment with the job type `report`; its config says which run it is about. It stays
    offline, in <folder>/wandb, unless WANDB_MODE says otherwise; with WANDB_MODE=disabled there is none.

    Args:
        folder: The report's folder.
        experiment: Name of the experiment.
        run: Name of the run folder, a timestamp; W&B gets no path.
        pictures: PNG files by name.
        tables: Tables by name.
    """
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    if mode == "disabled":
        return
    # Without what would give away paths: the program, its arguments and its folder, its console.
    settings = wandb.Settings(
        console="off",
        disable_git=True,
        host="-",
        program="evaluation.report.write_reports",
        silent=True,
        x_disable_meta=True,
        x_disable_stats=True,
        **bounds(),
    )

    def start(mode: Any) -> wandb.Run:
        return wandb.init(
            project=PROJECT,
            dir=folder,
            name=f"{experiment}/{run}/report",
            group=experiment,
            job_type="report",
            config={"experiment": experiment, "run": run},
            mode=mode,
            settings=settings,
        )

    logged = start(mode) if mode == "offline" else started(lambda: start(mode), lambda: start("offline"), folder)
    figures = {f"report/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
    shown = {f"report/table/{name}": wandb.Table(dataframe=_plain(table)) for name, table in tables.items()}
    with unhindered():
        logged.log({**figures, **shown})
    finish()


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """A table that W&B can hold: pandas' own types of text and whole numbers become plain ones, <NA> becomes NaN."""
    numbers = {name: pd.api.types.is_numeric_dtype(table[name]) for name in table.columns}
    return table.astype({name: float if number else object for name, number in numbers.items()})
