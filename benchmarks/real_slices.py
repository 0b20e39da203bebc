"""Ranking of the labelled slices of a real scan by the infected share that a model predicts, as one JSON line.

Area alone is confounded by how much lung a slice shows, so the same AUC is given for lung area and for a plain HU
threshold inside the lungs; and the share on a normal scan, which should be 0.

    python -m benchmarks.real_slices --ckpt runs/unet_em/latest/best.ckpt --data ../shared/data/covidctmd_dev
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from inference.load import load_module
from inference.scan_masks import segment_scan

PLAIN_THRESHOLD_HU = -600


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the ROC curve: the Mann-Whitney statistic, scaled."""
    positive, negative = score[label == 1], score[label == 0]
    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def label_of_slices(table: pd.DataFrame, z_mm: np.ndarray) -> np.ndarray:
    """Return the label of the nearest row of table (z_mm, slice_infected) for each position z_mm (Z,)."""
    nearest = np.abs(z_mm[:, None] - table["z_mm"].to_numpy()[None]).argmin(1)
    return table["slice_infected"].to_numpy()[nearest]


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--data", required=True, type=Path)
    options = parser.parse_args()
    module = load_module(options.ckpt)
    result: dict[str, float | str | int] = {"name": "real_slices"}
    for scan_id in ("P002", "normal002"):
        scan = read_scan(options.data / f"{scan_id}_2x2x4mm.nii.gz")
        lung = find_lungs(scan).mask
        masks = segment_scan(scan, lung, [module]).masks
        shown = lung.sum((1, 2)) > 0
        area = lung.sum((1, 2))[shown]
        share = masks["infection"].sum((1, 2))[shown] / area
        dense = ((scan.hu > PLAIN_THRESHOLD_HU) & lung).sum((1, 2))[shown] / area
        result[f"{scan_id}_infected_share"] = float(masks["infection"].sum() / lung.sum())
        if scan_id == "P002":
            z_mm = scan.affine[2, 3] + scan.affine[2, 2] * np.flatnonzero(shown)
            label = label_of_slices(pd.read_csv(options.data / "P002_slices.csv"), z_mm)
            scores = {"infected_share": share, "lung_area": area, "plain_threshold_share": dense}
            result |= {f"auc_{name}": auc(score, label) for name, score in scores.items()} | {"n": len(label)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
