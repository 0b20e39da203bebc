"""Difficulty of the phantom for the -200 HU threshold, and the place of its false positives, as one JSON line.

It takes the infected region that a trained model predicts on the test scans, so the figures are those of metrics.json.

    python -m benchmarks.phantom_hardness --ckpt runs/unet_em/latest/best.ckpt
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ct.resample import plan_transform
from datamodules.infection_data import InfectionData
from inference.load import load_module
from lightning_modules.base import network_units

VESSEL_SHARE = 0.3  # of a voxel's volume: from here on it shows as a vessel


def vessels_on_prepared_grid(truth: Path, size: int) -> np.ndarray:
    """Return the vessels of the phantom's truth file, bool (Z, size, size)."""
    with np.load(truth) as arrays:
        vessels = arrays["vessels"] / 255 > VESSEL_SHARE
        return plan_transform(vessels.shape, tuple(arrays["spacing_mm"]), size).apply_mask(vessels) > 0


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--cohort", default="cohorts/phantom/cohort.csv")
    parser.add_argument("--prepared", default="prepared")
    options = parser.parse_args()
    module = load_module(options.ckpt)
    data = InfectionData(options.cohort, options.prepared, size=module.size, context=module.hparams["context"])
    data.prepare_data()
    table = data.slice_table("test")
    dice, tp, fn, fp, fp_on_vessels = [], 0, 0, 0, 0
    for number, scan_id in enumerate(table.scans["scan_id"]):
        batch = next(data.batches("test", np.flatnonzero(table.scan == number), 1000))
        x = network_units(batch["image"]) * batch["lung"]
        with torch.inference_mode():
            infected = (module.segment(x)["infection"] > 0.5) & batch["lung"]
        dense = (infected[:, 0] & (batch["image"][:, batch["image"].shape[1] // 2] > -200)).numpy()
        truth = (batch["target"][:, 1] > 0).numpy() & batch["lung"][:, 0].numpy()
        vessels = vessels_on_prepared_grid(Path(options.cohort).parent / "truth" / f"{scan_id}.npz", module.size)
        tp, fn, fp = tp + (dense & truth).sum(), fn + (~dense & truth).sum(), fp + (dense & ~truth).sum()
        fp_on_vessels += (dense & ~truth & vessels).sum()
        dice += [2 * (dense & truth).sum() / (dense.sum() + truth.sum())] if truth.any() else []
    line = {
        "name": "phantom_hardness",
        "threshold_dice": np.mean(dice),
        "threshold_tpr": tp / (tp + fn),
        "n": len(dice),
    }
    print(json.dumps(line | {"false_positives_on_vessels": fp_on_vessels / fp}, default=float))


if __name__ == "__main__":
    main()
