"""A finished stage-2 run of four small scans, written by hand: no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from report_harness import data_section

SHAPE = (5, 9, 11)
SPACING_MM = (4.0, 2.0, 1.0)
# b and c are of one patient; d has no known spacing and no consolidation mask.
PATIENTS = {"a": "p1", "b": "p2", "c": "p2", "d": "p3"}
SITES = {"a": "A", "b": "B", "c": "B", "d": "B"}
SOURCE_MM = {"a": 1.0, "b": 5.0, "c": 8.0, "d": None}


def random_arrays(scan_id: str) -> dict[str, np.ndarray]:
    """Masks of a scan as `callbacks.save_masks` writes them, and its HU; every kind of voxel occurs."""
    rng = np.random.default_rng(ord(scan_id))
    lung = rng.random(SHAPE) < 0.8
    probability = {name: rng.random(SHAPE) * lung for name in ("infection", "consolidation")}
    probability["consolidation"] *= probability["infection"] > 0.5
    arrays: dict[str, np.ndarray] = {"z": np.arange(SHAPE[0]), "lung": lung.astype(np.int8)}
    for name, p in probability.items():
        arrays[f"truth_{name}"] = rng.integers(-1, 2, SHAPE).astype(np.int8)
        arrays[name], arrays[f"probability_{name}"] = (p > 0.5).astype(np.int8), np.round(255 * p).astype(np.uint8)
    if scan_id == "d":
        arrays["truth_consolidation"] = np.full(SHAPE, -1, np.int8)
    return arrays | {"hu": rng.integers(-900, 300, SHAPE).astype(np.int16)}


def write_run(root: Path, arrays: dict[str, dict[str, np.ndarray]] | None = None) -> Path:
    """Write a run folder with masks under `root`, and the prepared scans they belong to.

    Args:
        root: An empty folder.
        arrays: The scans' arrays where they are not to be random; all four or fewer.
    """
    arrays = arrays or {scan_id: random_arrays(scan_id) for scan_id in PATIENTS}
    folder = root / "runs" / "unet_em" / "2026-01-01"
    (folder / "masks").mkdir(parents=True)
    rows, described = [], []
    for scan_id, of_scan in arrays.items():
        prepared = root / "prepared" / scan_id
        prepared.mkdir(parents=True)
        np.save(prepared / "hu.npy", of_scan["hu"])
        masks: dict[str, Any] = {name: array for name, array in of_scan.items() if name != "hu"}
        np.savez_compressed(folder / "masks" / f"{scan_id}.npz", **masks)
        rows.append({"scan_id": scan_id, "site": SITES[scan_id], **counts_of(of_scan)})
        spacing = SPACING_MM if SOURCE_MM[scan_id] else (None,) * 3
        about = {"scan_id": scan_id, "patient": PATIENTS[scan_id], "site": SITES[scan_id], "weak_label": 1}
        about |= {"readers": 0, **dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), spacing, strict=True))}
        described.append(about | {"source_spacing_z_mm": SOURCE_MM[scan_id], "folder": scan_id, "split": "test"})
    pd.DataFrame(rows).to_csv(folder / "scans.csv", index=False)
    pd.DataFrame(described).to_csv(folder / "masks" / "scans.csv", index=False)
    data = data_section(root / "prepared", 8)
    (folder / "config.yaml").write_text(yaml.safe_dump({"experiment": "unet_em", "data": {"init_args": data}}))
    (folder / "metrics.json").write_text(json.dumps({"scans": len(rows), "infection/dice_mean": None}))
    (folder.parent / "latest").symlink_to(folder.name)
    return folder


def counts_of(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """The columns of scans.csv, counted voxel by voxel."""
    columns: dict[str, float] = {}
    predicted = {name: arrays[name] > 0 for name in ("infection", "consolidation")}
    predicted["threshold"] = predicted["infection"] & (arrays["hu"] > -200)
    for finding, found in predicted.items():
        truth = arrays["truth_infection" if finding == "infection" else "truth_consolidation"]
        pairs = list(zip(truth[arrays["lung"] > 0].tolist(), found[arrays["lung"] > 0].tolist(), strict=True))
        tp, fp, fn, tn = (pairs.count(pair) for pair in ((1, True), (0, True), (1, False), (0, False)))
        columns |= {f"{finding}_tp": tp, f"{finding}_fp": fp, f"{finding}_fn": fn, f"{finding}_tn": tn}
        columns[f"{finding}_dice"] = 2 * tp / (2 * tp + fp + fn) if tp + fn else np.nan
    return columns
