"""Predicted probabilities against the phantom's fuzzy truth, which no reader knows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only
from scipy.special import rel_entr
from tqdm import tqdm

from ct.classes import L3
from ct.refusal import Refusal
from ct.resample import Transform
from metrics.reliability import BINS, expected_calibration_error, reliability

BATCH_SIZE = 32
# Probabilities below are taken for this: KL to a network that calls a class impossible would be infinite.
LEAST_PROBABILITY = 1e-6


class FuzzyTruth(Callback):
    """Add to the test figures how far the probabilities are from the fractions of tissue that the phantom painted.

    `fuzzy/kl`: mean over the lung voxels of KL(truth || prediction) over the groups, in nats. `fuzzy/ece`: expected
    calibration error, the confidence in the predicted group against the fraction of the voxel that it fills.
    `fuzzy/opacity_ece`: the same for the summed probability of the opacity groups. Needs truth/<scan_id>.npz beside
    cohort.csv, as `phantom.write_phantom` writes it. The module is called on `x` and offers `to_input(batch)`; the data
    `cohort`, `slice_table` and `batches`.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        table = trainer.datamodule.slice_table("test")
        divergence, voxels = 0.0, 0
        calibration = {"fuzzy/ece": np.zeros((BINS, 3)), "fuzzy/opacity_ece": np.zeros((BINS, 3))}
        for number, scan in enumerate(
            tqdm(table.scans.itertuples(), "fuzzy truth", len(table.scans), leave=False, disable=None)
        ):
            truth = read_truth(Path(trainer.datamodule.cohort).parent, scan.scan_id, Path(scan.folder))
            predicted, lung = _predict(trainer, pl_module, np.flatnonzero(table.scan == number))
            p, q = np.moveaxis(predicted, 1, -1)[lung], np.moveaxis(truth, 1, -1)[lung]
            divergence += float(rel_entr(q, p.clip(LEAST_PROBABILITY)).sum())
            voxels += len(q)
            best = p.argmax(1)[:, None]
            pairs = {
                "fuzzy/ece": [np.take_along_axis(part, best, 1)[:, 0] for part in (p, q)],
                "fuzzy/opacity_ece": [part[:, list(L3.opacities)].sum(1) for part in (p, q)],
            }
            for name, pair in pairs.items():
                confidence, fraction = (torch.from_numpy(part[None]) for part in pair)
                valid = torch.ones_like(confidence, dtype=torch.bool)
                calibration[name] += reliability(confidence, fraction, valid)[0].numpy()
        errors = {name: expected_calibration_error(table) for name, table in calibration.items()}
        pl_module.test_metrics |= {"fuzzy/kl": divergence / voxels, "fuzzy/voxels": voxels} | errors


def read_truth(cohort: Path, scan_id: str, prepared: Path) -> NDArray[np.float64]:
    """Return the painted fractions of the groups on the prepared grid.

    Args:
        cohort: Folder of cohort.csv.
        scan_id: The scan.
        prepared: Its prepared folder.

    Returns:
        float64 (Z, 5, H, W), sums to 1 over the groups.

    Raises:
        ValueError: The cohort has no truth.
    """
    path = cohort / "truth" / f"{scan_id}.npz"
    if not path.is_file():
        raise Refusal("{path}: not found; only phantoms have a fuzzy truth: leave callbacks.fuzzy_truth out", path=path)
    transform = Transform.from_dict(json.loads((prepared / "scan.json").read_text(encoding="utf-8"))["transform"])
    with np.load(path) as file:
        lung = transform.apply_fraction(file["lung_fraction"] / 255)
        fractions = np.zeros((len(lung), len(L3.indices), *lung.shape[1:]))
        for index in L3.opacities:
            for code in L3.leaves[index].codes:
                fractions[:, index] += transform.apply_fraction(file[f"pattern_{code}"] / 255)
    fractions = fractions.clip(0, 1)
    opaque = fractions.sum(1)
    fractions[:, 1] = (lung - opaque).clip(min=0)
    fractions[:, 0] = (1 - opaque - fractions[:, 1]).clip(min=0)
    return fractions / fractions.sum(1, keepdims=True)


@torch.no_grad()
def _predict(trainer: Any, module: Any, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return probabilities (Z, 5, H, W) and lungs (Z, H, W) of a scan."""
    module.eval()
    probabilities, lungs = [], []
    for batch in trainer.datamodule.batches("test", rows, BATCH_SIZE):
        batch = module.to_input(module.transfer_batch_to_device(batch, module.device, 0))
        with trainer.precision_plugin.forward_context():
            probabilities.append(module(batch["x"]).double().cpu().numpy())
        lungs.append(batch["lung"][:, 0].cpu().numpy())
    return np.concatenate(probabilities), np.concatenate(lungs)
