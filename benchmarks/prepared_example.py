"""A prepared cohort for benchmarks: one phantom patient at the size of real scans, repeated with other noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct.classes import CONSOLIDATION, L3
from phantom.patient import make_phantom


def write_prepared(out: Path, scans: int, slices: int = 24, size: int = 256) -> Path:
    """Write index.csv and the folders of `scans` training scans, as `cohort.prepare.prepare_cohort` leaves them.

    Args:
        out: A folder that does not hold them yet.
        scans: Number of scans.
        slices: Number of slices of each.
        size: Pixels along each side.
    """
    phantom = make_phantom(1, "A", positive=True, size=size, slices=slices)
    codes, infection = phantom.reader(seed=1)
    arrays = {"lung": phantom.lungs > 0, "infection": infection, "patterns": codes}
    rng = np.random.default_rng(0)
    for scan in range(scans):
        folder = out / f"S{scan:04d}"
        folder.mkdir(parents=True)
        noise = rng.normal(0, 20, phantom.hu.shape).astype(np.int16)
        np.save(folder / "hu.npy", np.ascontiguousarray(phantom.hu + noise))
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array, dtype=np.int8))
        counts = {"lung_pixels": arrays["lung"], "labelled_pixels": codes >= 0}
        record = {name: values.sum((1, 2)).tolist() for name, values in counts.items()}
        (folder / "scan.json").write_text(json.dumps(record))
    index = pd.DataFrame({"scan_id": [f"S{scan:04d}" for scan in range(scans)]})
    index["folder"], index["patient_id"] = index["scan_id"], index["scan_id"]
    spacing = dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), phantom.spacing_mm, strict=True))
    same: dict[str, Any] = {"site": "A", "split": "train", "weak_label": 1, "slices": slices, "readers": 0} | spacing
    bits = {f"has_{key}": 1 if key == CONSOLIDATION else -1 for key in L3.unions}
    masks: dict[str, Any] = {"has_infection_mask": 1, "has_pattern_mask": 1, "draws_infection": 0, "labels": ""}
    index.assign(**same, **masks, **bits).to_csv(out / "index.csv", index=False)
    return out
