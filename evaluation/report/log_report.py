"""Upload of a report's figures and tables to W&B."""

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
    """Log a report as a W&B run of its own, since an offline run takes no more once it has ended.

    It is in the group of its experiment with the job type `report`; its config names the run. It stays offline, in
    <folder>/wandb, unless WANDB_MODE says otherwise; WANDB_MODE=disabled leaves it out.

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
    # Nothing that holds paths: not the real program, its arguments, its folder or its console.
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

    report = start(mode) if mode == "offline" else started(lambda: start(mode), lambda: start("offline"), folder)
    images = {f"report/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
    logged_tables = {f"report/table/{name}": wandb.Table(dataframe=_plain(table)) for name, table in tables.items()}
    with unhindered():
        report.log(images | logged_tables)
    finish()


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Turn pandas' own types of text and whole numbers into plain ones, and <NA> into NaN, as W&B expects."""
    numbers = {name: pd.api.types.is_numeric_dtype(table[name]) for name in table.columns}
    return table.astype({name: float if number else object for name, number in numbers.items()})
