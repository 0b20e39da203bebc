"""The result files of a run: metrics.json, scans.csv, and classes.json, which says what its findings are."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from machine.whole_file import write_json


class WriteResults(Callback):
    """Write the test figures that the module computed, and put them into the W&B run: summary, and a table of sites.

    The module offers `test_metrics` (flat keys, None for NaN) and `test_scans` (a row per scan).

    Args:
        folder: The run folder.
        alone: No other process writes into it, as in the training that it is of; several may test its weights.
    """

    def __init__(self, folder: Path, alone: bool) -> None:
        self.folder, self.alone = folder, alone

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        pl_module.test_scans.to_csv(self.folder / "scans.csv", index=False)
        write_json(pl_module.test_metrics, self.folder / "metrics.json", self.alone)
        write_json(pl_module.classes.plain(), self.folder / "classes.json", self.alone)
        figures = {f"test/{key}": value for key, value in pl_module.test_metrics.items() if value is not None}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):  # metrics.csv holds the course of training, metrics.json these
                logger.experiment.summary.update(figures)
                columns, rows = per_site(pl_module.test_metrics, sorted(set(pl_module.test_scans["site"])))
                logger.log_table("test/sites", columns, rows)


def per_site(metrics: dict[str, Any], sites: list[str]) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows of a table of the figures of each site, the keys `site/<site>/<key>`."""
    heads = [f"site/{site}/" for site in sites]
    names = list(dict.fromkeys(key.removeprefix(head) for head in heads for key in metrics if key.startswith(head)))
    rows = [[site, *(metrics.get(head + name) for name in names)] for site, head in zip(sites, heads, strict=True)]
    return ["site", *names], rows
