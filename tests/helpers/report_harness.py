"""Finished runs of both papers on four small scans, their figures counted as a test counts them: no training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cohort.prepare.prepare_cohort import prepared_folder
from ct.classes import L3
from evaluation.run_data import Run, read_run
from metrics.group_summary import summarise_groups
from metrics.summary import INFECTED_CONSOLIDATION, summarise

SHAPE = (4, 18, 22)
SPACING_MM = (5.0, 2.0, 2.0)
# c and d are of one patient; b has no consolidation; only a and c have readers.
SCANS = {"a": ("A", "p1", 1, 3), "b": ("A", "p2", 0, 0), "c": ("B", "p3", 1, 3), "d": ("B", "p3", 1, 0)}
CODES = (5, 7, 10)
# Of two epochs, as a training logs it; the second was cut off after its first step.
HISTORY = """epoch,step,train/dice,train/loss,train/loss_epoch,val/dice,val/iou
0,9,,0.75,,,
0,11,,,,0.25,0.15
0,11,0.125,,0.5,,
1,19,,0.25,,,
"""


def truth_of(scan_id: str) -> np.ndarray:
    """int8 (Z, H, W) class codes: a lesion of every pattern in the lungs, whose first row is unlabelled."""
    codes = np.zeros(SHAPE, np.int8)
    codes[:, 2:-2, 2:-2] = 1
    shift = ord(scan_id) - ord("a")
    codes[1:, 4 + shift : 9 + shift, 4:9] = 5
    codes[2:, 5:11, 12:16] = 7
    if SCANS[scan_id][2]:
        codes[1:3, 6 + shift : 10, 5:8] = 10
    codes[:, 2] = -1
    return codes


def _shifted(codes: np.ndarray, seed: int) -> np.ndarray:
    """The codes as somebody else would draw them: moved by a pixel and with some noise."""
    rng = np.random.default_rng(seed)
    moved = np.roll(codes, rng.integers(-1, 2), axis=int(rng.integers(1, 3)))
    noisy = np.where((rng.random(codes.shape) < 0.05) & (codes > 0), rng.choice([1, *CODES], codes.shape), moved)
    return np.where(codes == -1, -1, np.where(codes == 0, 0, np.maximum(noisy, 1))).astype(np.int8)


def _prepare(root: Path) -> None:
    rows = []
    for scan_id, (site, patient, label, readers) in SCANS.items():
        folder, truth = root / scan_id, truth_of(scan_id)
        folder.mkdir(parents=True)
        hu = np.where(truth == 10, 20, np.where(truth >= 5, -500, -850)) + np.random.default_rng(1).integers(
            0, 99, SHAPE
        )
        np.save(folder / "hu.npy", hu.astype(np.int16))
        np.save(folder / "lung.npy", (truth != 0).astype(np.int8))
        if readers:
            np.save(folder / "readers.npy", np.stack([_shifted(truth, seed) for seed in range(readers)]))
        rows.append(
            {"scan_id": scan_id, "patient_id": patient, "site": site, "split": "test", "weak_label": label}
            | {
                "slices": SHAPE[0],
                "folder": scan_id,
                "has_infection_mask": 1,
                "has_pattern_mask": 1,
                "readers": readers,
            }
            | dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), SPACING_MM, strict=True))
        )
    pd.DataFrame(rows).to_csv(root / "index.csv", index=False)


def _arrays(scan_id: str, task: str, seed: int, hu: np.ndarray) -> dict[str, np.ndarray]:
    truth, found = truth_of(scan_id), _shifted(truth_of(scan_id), seed)
    rng, lung = np.random.default_rng(seed), truth != 0
    arrays = {"z": np.arange(SHAPE[0]), "lung": lung.astype(np.int8)}
    if task == "opacity":
        arrays |= {"truth_groups": L3.leaves_of(truth), "groups": np.maximum(L3.leaves_of(found), 0)}
        masks = {"opacity": found >= 5}
        named = {"infection": found >= 5}
    else:
        masks = {"infection": found >= 5, "consolidation": found == 10}
        masks = masks if task == "consolidation" else {"infection": masks["infection"]}
        named = masks
        for name, least in (("infection", 5), ("consolidation", 10)):
            arrays[f"truth_{name}"] = np.where(truth < 0, -1, truth >= least).astype(np.int8)
    arrays |= {name: (mask & lung).astype(np.int8) for name, mask in masks.items()}
    for name, mask in named.items():
        level = np.where(mask & lung, 0.55 + 0.44 * rng.random(SHAPE), 0.45 * rng.random(SHAPE)) * lung
        arrays[f"probability_{name}"] = np.round(255 * level).astype(np.uint8)
    return arrays


def _table(truth: np.ndarray, found: np.ndarray, lung: np.ndarray, classes: int) -> np.ndarray:
    """int64 (Z, classes + 1, classes): truth (last row unknown) x prediction over the lungs, per slice."""
    table = np.zeros((len(truth), classes + 1, classes), np.int64)
    for z in range(len(truth)):
        inside = lung[z] > 0
        np.add.at(table[z], (truth[z][inside], found[z][inside].astype(int)), 1)  # -1 is the last row
    return table


def _tables(arrays: dict[str, np.ndarray], task: str, hu: np.ndarray) -> dict[str, np.ndarray]:
    lung = arrays["lung"]
    if task == "opacity":
        groups = arrays["truth_groups"]
        opaque = np.where(groups < 0, -1, groups >= 2)
        sums = {"reliability": (20, 3), "group_reliability": (20, 3), "loss": (2,)}
        return {
            "opacity": _table(opaque, arrays["opacity"], lung, 2),
            "groups": _table(groups, arrays["groups"], lung, 5),
        } | {name: np.ones((len(lung), *shape)) for name, shape in sums.items()}
    tables = {"infection": _table(arrays["truth_infection"], arrays["infection"], lung, 2)}
    if task == "consolidation":
        truth, infected = arrays["truth_consolidation"], arrays["infection"]
        tables["consolidation"] = _table(truth, arrays["consolidation"] & infected, lung, 2)
        tables["threshold"] = _table(truth, (hu > -200) & (infected > 0), lung, 2)
        tables[INFECTED_CONSOLIDATION] = _table(truth, infected, lung, 2)
    return tables


def data_section(prepared: Path, size: int) -> dict[str, Any]:
    """The data of a configuration by which a run finds the scans in a folder."""
    cohort, places = "cohorts/four/cohort.csv", str(prepared.parent / "places")
    place = prepared_folder(cohort, size, places)
    place.parent.mkdir(exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(prepared)
    return {"cohort": cohort, "size": size, "prepared": places}


def make_run(
    runs: Path, experiment: str, task: str, seed: int = 7, scans: Sequence[str] = tuple(SCANS), **model: Any
) -> Run:
    """Write <runs>/<experiment>/2026-01-01 with masks and `latest`; its prepared scans lie beside <runs>."""
    prepared, folder = runs.parent / "prepared", runs / experiment / "2026-01-01"
    if not prepared.is_dir():
        _prepare(prepared)
    (folder / "masks").mkdir(parents=True)
    index = pd.read_csv(prepared / "index.csv")
    index["source_spacing_z_mm"] = [1.0, 5.0, 10.0, np.nan]
    index = index[index["scan_id"].isin(scans)].reset_index(drop=True)
    tables: list[dict[str, np.ndarray]] = []
    for scan_id in scans:
        hu = np.load(prepared / scan_id / "hu.npy")
        arrays: dict[str, Any] = _arrays(scan_id, task, seed, hu)
        if task == "consolidation":
            arrays["consolidation"] &= arrays["infection"]
        np.savez_compressed(folder / "masks" / f"{scan_id}.npz", **arrays)
        tables.append(_tables(arrays, task, hu))
    slices = index.loc[index.index.repeat(SHAPE[0])].reset_index(drop=True)
    slices["voxel_ml"] = np.prod(SPACING_MM) / 1000
    stacked = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    metrics, table = (summarise_groups if task == "opacity" else summarise)(stacked, slices)
    table.to_csv(folder / "scans.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    described = index.rename(columns={"patient_id": "patient"}).assign(folder=list(scans))
    described.to_csv(folder / "masks" / "scans.csv", index=False)
    data = data_section(prepared, SHAPE[1])
    config: dict[str, Any] = {"experiment": experiment, "seed_everything": seed, "data": {"init_args": data}}
    config["model"] = {"init_args": {"prior": {"class_path": "losses.em.Phi2"}} | model}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(HISTORY)
    (folder.parent / "latest").symlink_to(folder.name)
    return read_run(folder)
