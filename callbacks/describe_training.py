"""The description of a training set, written into best.ckpt so that `predict` can flag scans unlike it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_info
from tqdm import tqdm

from callbacks.epoch_lines import duration
from training.training_set import TrainingSet, lung_histogram

# More slices say the same; a covariance of some hundred features needs about as many.
MOST_SLICES = 1000
BATCH_SIZE = 16


class DescribeTraining(Callback):
    """Add `training.training_set.TrainingSet` to best.ckpt, as tensors and numbers under ground_glass / training.

    The numbers of scans, patients, sites and whole images that were trained on go under ground_glass / trained_on.

    It waits for the test that ends a fit: the best weights have been loaded then, also in a run that went on after it
    was cut off. The first rank alone computes. The module offers `to_input(batch)` and `features(x)`; the data
    `slice_table`, `usable` and `batches`.
    """

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            start = time.perf_counter()
            # A network that was compiled for the training would ignore the hook that collects its features.
            with torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
                training_set = describe(trainer, pl_module)
            if training_set is not None:
                counts = count_training(trainer.datamodule)
                _add(training_set, counts, trainer.strategy.checkpoint_io, Path(trainer.ckpt_path))
                rank_zero_info(
                    f"looked at {training_set.slices} training slices in {duration(time.perf_counter() - start)}: "
                    "best.ckpt can now tell scans that are unlike them, which make predict flags"
                )
        trainer.strategy.barrier("describe_training")  # no rank reads the file before it is rewritten


def describe(trainer: Any, module: Any) -> TrainingSet | None:
    """Describe up to `MOST_SLICES` training slices with lung, evenly spread; return None where there is none."""
    data = trainer.datamodule
    table, rows = data.slice_table("train"), training_rows(data)
    if not len(rows):
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_SLICES)).round().astype(np.int64)]
    batches = tqdm(
        data.batches("train", rows, BATCH_SIZE),
        "look at training slices, to flag scans unlike them later",
        -(-len(rows) // BATCH_SIZE),
        leave=False,
        disable=trainer.progress_bar_callback is None or None,
    )
    histograms: list[NDArray[np.int64]] = []
    features: list[NDArray[np.float32]] = []
    for batch in batches:
        centre = batch["image"][:, batch["image"].shape[1] // 2].numpy()
        histograms += [lung_histogram(*pair) for pair in zip(centre, batch["lung"][:, 0].numpy(), strict=True)]
        batch = module.to_input(module.transfer_batch_to_device(batch, module.device, 0))
        features.append(module.features(batch["x"]).cpu().numpy())
    scans, patients = (table.per_slice(column)[rows] for column in ("scan_id", "patient_id"))
    return TrainingSet.describe(np.stack(histograms), np.concatenate(features), scans, patients)


def training_rows(data: Any) -> NDArray[np.int64]:
    """Return the rows of the train table that are trained on and show lung."""
    table = data.slice_table("train")
    return np.flatnonzero(data.usable(table, training=True) & (table.lung_pixels > 0))


def count_training(data: Any) -> dict[str, int]:
    """Count the scans, patients and sites that are trained on, also those whose slices are not looked at.

    `whole_images` is the number of scans whose every pixel counts as lung: where it is that of all, the network has
    seen what lies around lungs.
    """
    table = data.slice_table("train")
    trained_on = np.unique(table.scan[training_rows(data)])
    columns = {"scans": "scan_id", "patients": "patient_id", "sites": "site"}
    counts = {name: int(table.scans[column].iloc[trained_on].nunique()) for name, column in columns.items()}
    return counts | {"whole_images": int(table.whole_image[trained_on].sum())}


def _add(training_set: TrainingSet, counts: dict[str, int], files: Any, path: Path) -> None:
    """Write the checkpoint again with a description; plain values only, since nothing else is read back."""
    checkpoint = files.load_checkpoint(path)
    values = training_set.to_dict()
    plain = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}
    checkpoint["ground_glass"] |= {"training": plain, "trained_on": counts}
    files.save_checkpoint(checkpoint, path)
