"""What both stages share: input units, augmentation on the device, confusion tables."""

import os
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from batch import SliceBatch
from lightning_modules.augment import Augmentation, draw_affine, vary_acquisition, warp
from metrics.scan_confusion import ScanConfusion
from metrics.summary import Metrics, summarise

HU_OFFSET, HU_PER_UNIT = 1024.0, 110.0


def network_units(hu: Tensor) -> Tensor:
    """x = (HU + 1024) / 110 (paper EM, section III-B). Any shape; float32 out."""
    return (hu.float() + HU_OFFSET) / HU_PER_UNIT


class SegmentationModule(LightningModule):
    """Mechanics of a slice segmenter; subclasses hold the maths of their paper.

    A subclass names its tables in `table_names`, fills them in `update_tables`, and declares `monitor` once.

    Args:
        augmentation: How training batches are augmented.
    """

    table_names: tuple[str, ...]
    monitor: str | None
    task: str
    size: int

    def __init__(self, augmentation: Augmentation) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.tables = nn.ModuleDict()

    @property
    def data(self) -> Any:
        """The datamodule: offers `slice_table(split)` and `size`."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it when it is attached

    # -- data, on the device -------------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: SliceBatch, dataloader_idx: int) -> SliceBatch:
        """Make the network's input; augment it in training."""
        batch = self.to_input(batch)
        return self.augment(batch) if self.trainer.training else batch

    def to_input(self, batch: SliceBatch) -> SliceBatch:
        """Add `x`: network units, and 0 outside the lungs."""
        batch["x"] = network_units(batch["image"]) * batch["lung"]
        return batch

    def augment(self, batch: SliceBatch) -> SliceBatch:
        """Move x, lung and target together. What enters from outside is x = 0, not lung, target 0."""
        generator = self.generator()
        theta = draw_affine(len(batch["x"]), self.augmentation, generator).to(self.device)
        masks = torch.cat([batch["lung"], batch["target"]], 1).float()
        warped = warp(masks, theta, "nearest").to(torch.int8)
        batch["lung"], batch["target"] = warped[:, :1].bool(), warped[:, 1:]
        batch["x"] = warp(batch["x"], theta, "bilinear")
        return batch

    def vary(self, batch: SliceBatch) -> Tensor:
        """The network's training input: x as another scanner would have made it, lungs only."""
        x = vary_acquisition(batch["x"], HU_PER_UNIT, self.augmentation, self.generator(stream=1))
        return x * batch["lung"]

    def generator(self, stream: int = 0) -> torch.Generator:
        """Random numbers of (seed, step, rank): a resumed run draws what the uninterrupted one would have drawn."""
        key = [int(os.environ.get("PL_GLOBAL_SEED", 0)), self.global_step, self.global_rank, stream]
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(self.device).manual_seed(seed)

    # -- evaluation: one confusion table per name ----------------------------------------------------------------------

    def update_tables(self, batch: SliceBatch) -> None:
        """Enter the predictions for a batch into `self.tables`."""
        raise AssertionError(f"{type(self).__name__} must define update_tables")

    def confusion_tables(self) -> dict[str, NDArray[np.int64]]:
        """Every table, (num_slices, 3, 2), reduced over ranks; every rank must call it."""
        return {name: self.table(name).compute().cpu().numpy() for name in self.tables}

    def table(self, name: str) -> ScanConfusion:
        """One of the tables."""
        return cast(ScanConfusion, self.tables[name])

    def reset_tables(self, split: str) -> None:
        """Empty tables for the slices of a split."""
        slices = len(self.data.slice_table(split))
        self.tables = nn.ModuleDict({name: ScanConfusion(slices) for name in self.table_names}).to(self.device)

    def summary(self, split: str) -> tuple[Metrics, pd.DataFrame]:
        """(metrics, scans) of the split that was just evaluated, as metrics.json and scans.csv hold them."""
        return summarise(self.confusion_tables(), self.data.slice_table(split).described)

    def on_validation_epoch_start(self) -> None:
        self.reset_tables("val")

    def validation_step(self, batch: SliceBatch, batch_idx: int) -> None:
        self.update_tables(batch)

    def on_validation_epoch_end(self) -> None:
        metrics, _ = self.summary("val")
        name = self.table_names[0]
        shown = {"dice": f"{name}/dice_mean", "iou": f"{name}/iou_pooled", "relative_volume": f"{name}/relative_volume"}
        values = {f"val/{short}": metrics[key] for short, key in shown.items()}
        # Every rank computed the same table, so every rank logs the same figure: nothing to reduce.
        self.log_dict({k: float("nan") if v is None else v for k, v in values.items()}, prog_bar=True)

    def on_test_epoch_start(self) -> None:
        self.reset_tables("test")

    def test_step(self, batch: SliceBatch, batch_idx: int) -> None:
        self.update_tables(batch)

    def on_test_epoch_end(self) -> None:
        self.test_metrics, self.test_scans = self.summary("test")

    # -- new scans -----------------------------------------------------------------------------------------------------

    def segment(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, context, H, W) in network units -> probabilities (B, 1, H, W) by name, outermost region first."""
        raise AssertionError(f"{type(self).__name__} must define segment")

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Under Lightning's own key, its command line would put these over the flags that the user gives.
        arguments = dict(checkpoint.pop("hyper_parameters"))
        checkpoint["ground_glass"] = {"task": self.task, "size": self.data.size, "arguments": arguments}
