"""Truth and prediction of every test scan, so that anybody can recompute the figures."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm

from batch import SliceBatch
from callbacks.write_results import WriteResults

Arrays = dict[str, NDArray[Any]]

SPACING = ["spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "source_spacing_z_mm"]
COLUMNS = ["scan_id", "patient", "site", "weak_label", "readers", *SPACING, "folder", "split"]


class SaveMasks(Callback):
    """Write masks/<scan_id>.npz and masks/scans.csv beside the figures of the test, on the prepared grid.

    A scan's arrays: z int64 (Z,), its rows of the prepared scan; lung int8 (Z, H, W); int8 (Z, H, W) truth_infection
    and truth_consolidation (-1 unknown), infection and, for stage 2, consolidation; or, for the multi-class task,
    truth_groups (-1 unlabelled), groups and opacity; and probability_<name> uint8 (Z, H, W), 255 times the
    probability, for every name of the module's `segment`. Predictions and probabilities are 0 outside the lungs.

    scans.csv says of each scan: patient (a pseudonym), site, weak label, number of readers, spacing of the prepared
    grid and between the slices of the source (blank if unknown), name of the prepared folder, split. It is written
    last, so where it stands all masks do. weights.sha256 says which checkpoint they are of.

    The module offers `truth(batch)`, `prediction(batch)`, `segment(x)` and `to_input(batch)`; the data `slice_table`,
    `batches` and `batch_size`.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        (results,) = (callback for callback in trainer.callbacks if isinstance(callback, WriteResults))
        folder = results.folder / "masks"
        folder.mkdir(exist_ok=True)
        for stale in (folder / "scans.csv", *folder.glob("*.npz")):
            stale.unlink(missing_ok=True)
        scans = trainer.datamodule.slice_table("test").scans
        masks = _scan_arrays(trainer, pl_module)
        bar = tqdm(masks, "save masks", len(scans), unit="scan", leave=False, disable=None)
        for scan_id, arrays in zip(scans["scan_id"], bar, strict=True):
            np.savez_compressed(folder / f"{scan_id}.npz", **arrays)
        if trainer.ckpt_path:  # an ensemble's checkpoints stand in members.json
            digest = hashlib.sha256(Path(trainer.ckpt_path).read_bytes()).hexdigest()
            (folder / "weights.sha256").write_text(f"{digest}\n")
        describe_scans(scans).to_csv(folder / "scans.csv", index=False)


def describe_scans(scans: pd.DataFrame) -> pd.DataFrame:
    """Return the table of masks/scans.csv.

    Args:
        scans: Rows of the prepared index.csv, `folder` being the whole path.
    """
    records = [json.loads((Path(folder) / "scan.json").read_text()) for folder in scans["folder"]]
    between = [record["spacing_mm"][0] if record["spacing_known"] else np.nan for record in records]
    # The rest of the path is in config.yaml; it may bear a patient's name, and tables are passed on.
    names = [Path(folder).name for folder in scans["folder"]]
    return scans.rename(columns={"patient_id": "patient"}).assign(source_spacing_z_mm=between, folder=names)[COLUMNS]


def _scan_arrays(trainer: Any, module: Any) -> Iterator[Arrays]:
    """Yield the arrays of one scan after the other."""
    data = trainer.datamodule
    table = data.slice_table("test")
    pieces: dict[int, list[Arrays]] = {}
    # Batches as the test cuts them, across scans: in others a probability may round to the other side of one half.
    for batch in data.batches("test", np.arange(len(table)), data.batch_size):
        rows = batch["slice_index"].numpy()
        arrays = {"z": table.z[rows], **_batch_arrays(trainer, module, batch)}
        for scan in np.unique(table.scan[rows]):
            inside = table.scan[rows] == scan
            pieces.setdefault(scan, []).append({name: array[inside] for name, array in arrays.items()})
        while len(pieces) > 1:
            yield _joined(pieces.pop(min(pieces)))
    yield _joined(pieces.pop(min(pieces)))


def _joined(pieces: list[Arrays]) -> Arrays:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


@torch.no_grad()
def _batch_arrays(trainer: Any, module: Any, batch: SliceBatch) -> Arrays:
    """Return lung, truth, prediction and probability of a batch, each (B, H, W)."""
    batch = module.to_input(module.transfer_batch_to_device(batch, module.device, 0))
    lung = batch["lung"][:, 0]
    with trainer.precision_plugin.forward_context():
        prediction, probability = module.prediction(batch), module.segment(batch["x"])
    truth = {f"truth_{name}": mask for name, mask in module.truth(batch).items()}
    masks = {name: mask.to(torch.int8) for name, mask in {"lung": lung, **truth, **prediction}.items()}
    levels = {f"probability_{name}": (255 * p[:, 0] * lung).round().to(torch.uint8) for name, p in probability.items()}
    return {name: array.cpu().numpy() for name, array in {**masks, **levels}.items()}
