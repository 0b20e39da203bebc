"""The base of all tasks' modules: input units, augmentation on the device, confusion tables, checkpoints."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from batch import SliceBatch
from ct.classes import EM, ClassSet
from lightning_modules.augment import Augmentation, affine_grid, draw_affine, vary_acquisition, warp
from lightning_modules.features import pooled_features
from lightning_modules.labels import require_labels
from lightning_modules.latent import PixelStore
from machine.host_memory import keep_freed_memory
from metrics.summary import Metrics, summarise
from metrics.training_figures import TrainingFigures
from networks.contract import Network, check_contract
from training.checkpoint_file import finite_weights
from training.schedule import check_same_length
from training.sync_batch_norm import CpuLayerSync

HU_OFFSET, HU_PER_UNIT = 1024.0, 110.0
Keep = Literal["best", "last"]
# Finds the class that a checkpoint describes, which must derive from another, and binds its arguments.
Find = Callable[[Any, type[Any]], "partial[Any]"]


def network_units(hu: Tensor) -> Tensor:
    """Return x = (HU + 1024) / 110 (paper EM, section III-B), float32, for HU of any shape."""
    # One new tensor: integers and a float give float32.
    return (hu + HU_OFFSET).float().div_(HU_PER_UNIT)


class SegmentationModule(LightningModule):
    """Mechanics of a slice segmenter; subclasses hold the maths of their paper.

    A subclass makes its tables in `new_tables`, fills them in `update_tables`, declares once `monitor`, `findings` (by
    which it is judged, its own first) and `outputs` (channels of the logits), knows the labels that it learns from
    (`labels`, `shows_finding`), and says what it looks for (`classes`).

    Args:
        augmentation: How training batches are augmented.
        keep: Which weights best.ckpt has: of the epoch with the highest `monitor`, or of the last one.
    """

    monitor: str | None
    task: str
    findings: tuple[str, ...]
    classes: ClassSet = EM
    outputs: int
    size: int
    whole_image: bool = False  # every pixel counted as lung in all that it learned from
    network: Network

    def __init__(self, augmentation: Augmentation, keep: Keep = "best") -> None:
        super().__init__()
        self.augmentation = augmentation
        if keep == "last":
            self.monitor = None
        self.tables = nn.ModuleDict()
        self.validation: Metrics = {}  # of the weights as they are
        self.training_figures: TrainingFigures | None = None  # of the epoch that is being trained

    @classmethod
    def restore(cls, arguments: Mapping[str, Any], find: Find) -> Self:
        """Make the module that a checkpoint describes, without its weights.

        Args:
            arguments: The checkpoint's; what an experiment chooses by class_path stands there as plain values.
            find: Finds the class of such a choice.
        """
        return cls(**dict(arguments) | {"network": find(arguments.get("network"), Network)})

    @property
    def data(self) -> Any:
        """The datamodule: offers `slice_table(split)`, `size`, and what `require_labels` asks of it."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it when it is attached

    # -- labels --------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse a training without a label to learn from, or with a network that breaks its contract."""
        if stage == "fit":
            require_labels(self, self.data)
            check_contract(self.network, self.hparams["context"], self.outputs, self.data.size)

    def labels(self, scans: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        """Tell which scans have each label that this module needs: bool (N,) by its name and the columns that give it.

        Args:
            scans: (N rows), as the SliceTable holds them.
        """
        raise AssertionError(f"{type(self).__name__} must define labels")

    def shows_finding(self, target: NDArray[Any]) -> bool:
        """Tell whether the target of a slice, as the data's `targets` gives it, shows what this module is to find."""
        raise AssertionError(f"{type(self).__name__} must define shows_finding")

    # -- data, on the device -------------------------------------------------------------------------------------------

    latent: PixelStore | None = None  # labels of the training slices that an E-step makes, in tasks that have one

    def on_before_batch_transfer(self, batch: SliceBatch, dataloader_idx: int) -> SliceBatch:
        """Join latent labels while it is known without asking the device which slices these are."""
        if self.latent is not None and self.trainer.training:
            self.latent.join(batch)
        return batch

    def on_after_batch_transfer(self, batch: SliceBatch, dataloader_idx: int) -> SliceBatch:
        """Make the network's input; augment it in training."""
        return self.augment(batch) if self.trainer.training else self.to_input(batch)

    def network_input(self, hu: Tensor, lung: Tensor) -> Tensor:
        """Turn HU (B, context, H, W) into network units, 0 outside the lungs (B, 1, H, W)."""
        return network_units(hu).mul_(lung)

    def to_input(self, batch: SliceBatch) -> SliceBatch:
        """Add `x`, laid out as the networks compute."""
        x = self.network_input(batch["image"], batch["lung"])
        batch["x"] = x.contiguous(memory_format=torch.channels_last)
        return batch

    def augment(self, batch: SliceBatch) -> SliceBatch:
        """Add `x`, and move x, lung and target together."""
        theta = self.draw_affine(len(batch["image"]))
        moved = self.moved(batch["image"], batch["lung"], batch["target"], theta)
        batch["x"], batch["lung"], batch["target"] = moved
        return batch

    def moved(self, hu: Tensor, lung: Tensor, target: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, lung and target moved by theta (B, 2, 3). What enters from outside is x = 0, not lung, target 0."""
        grid = affine_grid(theta, hu.shape)
        masks = warp(torch.cat([lung, target], 1).float(), grid, "nearest").to(torch.int8)
        return warp(self.network_input(hu, lung), grid, "bilinear"), masks[:, :1].bool(), masks[:, 1:]

    def draw_affine(self, batch_size: int) -> Tensor:
        """Draw how the slices of this step's batch are moved: (batch_size, 2, 3)."""
        return draw_affine(batch_size, self.augmentation, self.generator())

    def vary(self, batch: SliceBatch) -> Tensor:
        """Return the network's training input: x as another scanner would have made it, lungs only."""
        x = vary_acquisition(batch["x"], HU_PER_UNIT, self.augmentation, self.generator(stream=1))
        return x * batch["lung"]

    def generator(self, stream: int = 0) -> torch.Generator:
        """Make the generator of (seed, step, rank): a resumed run draws what the uninterrupted one would have drawn."""
        return torch.Generator(self.device).manual_seed(self._step_seed(stream))

    def _step_seed(self, stream: int) -> int:
        key = [int(os.environ.get("PL_GLOBAL_SEED", 0)), self.global_step, self.global_rank, stream]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)

    def on_train_batch_start(self, batch: SliceBatch, batch_idx: int) -> None:
        """Let dropout, which knows no generator, draw what it would have drawn in a run that was not resumed."""
        torch.manual_seed(self._step_seed(stream=3))

    # -- how well training goes ----------------------------------------------------------------------------------------

    def log_step(self, batch: SliceBatch, prediction: Tensor, target: Tensor, loss: Tensor) -> None:
        """Log the loss of a step, and count what its own forward pass predicted, for the figures of the epoch.

        Args:
            batch: As the step saw it, augmented.
            prediction: (B, H, W) bool.
            target: (B, H, W), what the step learned from: 1, 0 or -1.
            loss: The step's.
        """
        self.log("train/loss", loss, prog_bar=True)
        if self.training_figures is None:
            self.training_figures = TrainingFigures(self.data.slice_table("train").scan, self.device)
        self.training_figures.add(prediction, target, batch["lung"][:, 0], batch["slice_index"], loss.detach())

    # -- several ranks -------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Keep the memory of a step for the next, and make `trainer.sync_batchnorm` work, on CPUs."""
        strategy: Any = self.trainer.strategy
        if strategy.root_device.type == "cpu":
            keep_freed_memory()
        # As a plugin it would be applied whatever `sync_batchnorm` says; here Lightning has read that already.
        if strategy.root_device.type == "cpu" and getattr(strategy, "_layer_sync", None):
            strategy._layer_sync = CpuLayerSync()

    def on_train_epoch_end(self) -> None:
        """Log how the epoch's training went, and give every rank the running statistics of rank 0.

        Those are what checkpoints hold. Without SyncBatchNorm each rank has seen other batches, and the E-step of an
        epoch that no validation preceded would label by them.
        """
        if self.training_figures is not None:
            figures = self.training_figures.figures(self.trainer.world_size)
            self.log_figures({f"train/{name}": value for name, value in figures.items()}, prog_bar=False)
            self.training_figures = None
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_train_epoch_start(self) -> None:
        """Forget the last validation: its figures are not of the weights to come."""
        self.validation = {}

    # -- evaluation: one table of counts per name ----------------------------------------------------------------------

    def new_tables(self, slices: int) -> dict[str, nn.Module]:
        """Make empty tables for a number of slices, by name."""
        raise AssertionError(f"{type(self).__name__} must define new_tables")

    def update_tables(self, batch: SliceBatch) -> None:
        """Enter the predictions for a batch into `self.tables`."""
        raise AssertionError(f"{type(self).__name__} must define update_tables")

    def confusion_tables(self) -> dict[str, NDArray[Any]]:
        """Return every table, (num_slices, ...), reduced over ranks; every rank must call it."""
        return {name: self.table(name).compute().cpu().numpy() for name in self.tables}

    def table(self, name: str) -> Metric:
        """Return one of the tables."""
        return cast(Metric, self.tables[name])

    def reset_tables(self, split: str) -> None:
        """Begin empty tables for the slices of a split."""
        self.tables = nn.ModuleDict(self.new_tables(len(self.data.slice_table(split)))).to(self.device)

    def summary(self, split: str) -> tuple[Metrics, pd.DataFrame]:
        """Return (metrics, scans) of the split that was just evaluated, as metrics.json and scans.csv hold them."""
        return summarise(self.confusion_tables(), self.data.slice_table(split).described)

    def on_validation_epoch_start(self) -> None:
        self.reset_tables("val")

    def validation_step(self, batch: SliceBatch, batch_idx: int) -> None:
        self.update_tables(batch)

    def on_validation_epoch_end(self) -> None:
        metrics = self.validate()
        keys = {"dice": "dice_mean", "iou": "iou_pooled", "relative_volume": "relative_volume"}
        self.log_figures({f"val/{short}": metrics[f"{self.task}/{key}"] for short, key in keys.items()})

    def validate(self) -> Metrics:
        """Return the figures of the validation that ends; the mean Dice of each finding goes into checkpoints."""
        metrics, _ = self.summary("val")
        keys = [f"{finding}/dice_mean{count}" for finding in self.findings for count in ("", "_n")]
        self.validation = {key: metrics[key] for key in keys}
        return metrics

    def log_figures(self, figures: Metrics, prog_bar: bool = True) -> None:
        """Log figures of the whole split, None as NaN."""
        # Every rank computed the same table, so every rank logs the same figure: nothing to reduce.
        numbers = {key: float("nan") if value is None else value for key, value in figures.items()}
        self.log_dict(numbers, prog_bar=prog_bar)

    def on_test_epoch_start(self) -> None:
        self.reset_tables("test")

    def test_step(self, batch: SliceBatch, batch_idx: int) -> None:
        self.update_tables(batch)

    def on_test_epoch_end(self) -> None:
        self.test_metrics, self.test_scans = self.summary("test")

    # -- pictures, saved masks and new scans ---------------------------------------------------------------------------

    def truth(self, batch: SliceBatch) -> dict[str, Tensor]:
        """Return what the readers drew, int8 (B, H, W) by name; -1 is unknown."""
        return {"infection": batch["target"][:, 0], "consolidation": batch["target"][:, 1]}

    def prediction(self, batch: SliceBatch) -> dict[str, Tensor]:
        """Return what the model predicts inside the lungs, integers or bool (B, H, W) by name."""
        return {name: (p > 0.5)[:, 0] & batch["lung"][:, 0] for name, p in self.segment(batch["x"]).items()}

    def segment(self, x: Tensor) -> dict[str, Tensor]:
        """Return probabilities (B, 1, H, W) by name, outermost region first, for x as `network_input` makes it."""
        raise AssertionError(f"{type(self).__name__} must define segment")

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the network's deepest features, the mean over each slice, (B, C), for x of `network_input`."""
        self.network.eval()
        with pooled_features(self.network) as features:
            self.network(x)
        return torch.cat(features)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def weights_are_finite(self) -> Tensor:
        """Return whether the weights may be kept: a bool scalar on the device, for which the host has not waited."""
        return finite_weights(self.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a schedule of the learning rate that would end elsewhere."""
        if self.trainer.training:
            check_same_length(checkpoint, self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Under Lightning's own key, its command line would put these over the flags that the user gives.
        arguments = dict(checkpoint.pop("hyper_parameters"))
        checkpoint["ground_glass"] = {
            "task": self.task,
            "size": self.data.size,
            "arguments": arguments,
            "validation": self.validation,
        }
