"""What a run's own files say of it, for its model card and the methods section of a paper; nothing is typed by hand.

What a file does not say is not guessed: it is missing, and the documents name it as missing.
"""

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cohort.prepare.verdicts import REFUSED
from evaluation.run_data import Run, read_run
from evaluation.statistics import DRAWS, overlap_table

VERDICTS = "verdicts.csv"
FIGURES = ("dice_mean", "dice_pooled", "iou_pooled", "relative_volume")
# Two ways to the same figure agree but for the rounding of their sums.
SAME = 1e-9


def facts_of_run(folder: Path) -> dict[str, Any]:
    """Return what a finished run's files say, as plain values.

    Test figures are computed anew from the counts in scans.csv and compared with metrics.json.

    Args:
        folder: The run folder.

    Returns:
        `experiment`, `data`, `training` and `test`; see the functions below.

    Raises:
        ValueError: The run is not finished, or its figures do not follow from its scans.
    """
    run = read_run(folder)
    return {
        "experiment": run.experiment,
        "data": _data(run),
        "training": _training(run.config),
        "test": _test(run),
    }


def _data(run: Run) -> dict[str, Any]:
    """Return counts of scans by split and site, and the hash of the list of scans and splits; {} for older runs."""
    path = run.folder / VERDICTS
    if not path.is_file():
        return {}
    verdicts = pd.read_csv(path, dtype=str, keep_default_na=False)
    used = verdicts[verdicts["verdict"] != REFUSED]
    splits = {
        split: {"scans": len(rows), "sites": dict(sorted(Counter(rows["site"]).items()))}
        for split, rows in used.groupby("split")
    }
    return {
        "cohort_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "splits": splits,
        "refused": int((verdicts["verdict"] == REFUSED).sum()),
        "synthetic": run.is_phantom,
        "classes": run.classes.name,
    }


def _training(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that decide about the weights, from config.yaml."""
    trainer, model, data = config["trainer"], config["model"], config["data"]
    return {
        "seed": config.get("seed_everything"),
        "module": model["class_path"],
        "settings": {
            name: _public(value) for name, value in model["init_args"].items() if name not in ("network", "classes")
        },
        "data": data["class_path"],
        "batch_size": data["init_args"].get("batch_size"),
        "devices": trainer.get("devices"),
        "precision": trainer.get("precision"),
        "max_epochs": trainer.get("max_epochs"),
        "max_steps": trainer.get("max_steps"),
        "optimizer": config.get("optimizer"),
        "lr_scheduler": config.get("lr_scheduler"),
    }


def _public(value: Any) -> Any:
    """Return a setting without paths, which may bear names."""
    return "a file" if isinstance(value, str) and ("/" in value or "\\" in value) else value


def _test(run: Run) -> dict[str, Any]:
    """Return the figures of each finding over the test scans, with 95 % intervals.

    Patients are drawn whole; where the run has no masks, whose table names them, scans are, and `drawn` says so.
    """
    by_patient = bool(run.scans["patient"].notna().all())
    scans = run.scans if by_patient else run.scans.assign(patient=run.scans["scan_id"])
    table = overlap_table(scans, run.findings)
    overall = table[table["site"] == "all"]
    figures: dict[str, dict[str, Any]] = {}
    for row in overall.to_dict("records"):
        if row["figure"] not in FIGURES:
            continue
        key = f"{row['finding']}/{row['figure']}"
        stored = run.metrics.get(key)
        value = None if math.isnan(row["value"]) else row["value"]
        same = value is None if stored is None else value is not None and bool(np.isclose(value, stored, SAME, SAME))
        if not same:
            raise ValueError(
                f"{run.folder}: {key} is {stored} in metrics.json and {value} by scans.csv; test the run again "
                "(make evaluate), one of the files is of other weights"
            )
        low, high = (None if math.isnan(row[end]) else row[end] for end in ("low", "high"))
        figures[key] = {"value": value, "low": low, "high": high, "scans": row["scans"], "patients": row["patients"]}
    return {
        "scans": len(run.scans),
        "sites": dict(sorted(Counter(run.scans["site"]).items())),
        "drawn": "patients" if by_patient else "scans",
        "draws": DRAWS,
        "figures": figures,
    }
