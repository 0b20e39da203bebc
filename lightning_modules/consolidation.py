"""Stage 2 of paper EM: UNet-2 learns consolidation from patient-level labels alone."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from batch import SliceBatch
from ct.refusal import Refusal, Word
from lightning_modules.augment import Augmentation
from lightning_modules.base import Find, SegmentationModule
from lightning_modules.latent import MaskStore, Pass, PixelStore
from lightning_modules.thresholds import ThresholdBaselines
from losses.dice import dice_loss
from losses.em import Phi2, Prior, e_step
from metrics.scan_confusion import ScanConfusion
from networks.contract import NetworkFactory
from networks.unet import UNet
from training.class_paths import as_plain_values
from training.weights import load_network_weights

PAPER_PRIOR = Phi2()


class ConsolidationModule(SegmentationModule):
    """UNet-2, trained by hard EM inside the region that UNet-1 calls infected (paper EM, Table I).

    Args:
        init_weights: Checkpoint of stage 1; both networks start from it. Empty when loaded from a checkpoint.
        network: UNet-1 and UNet-2; must be stage 1's.
        context: Adjacent slices in the input; must be stage 1's.
        supervision: Where training labels come from: `em`, or `masks` (pixel labels: the ceiling of what EM can reach).
        prior: phi(z, x) of the E-step: `losses.em.Phi2` (equation 13) or `losses.em.Phi1` (equation 12).
        dice_over: One Dice per `image`, averaged (equation 11), or one over the `batch`.
        augmentation: Augmentation of training batches.
    """

    task = "consolidation"
    findings = ("consolidation", "infection")
    outputs = 1
    monitor = None  # the last epoch is kept: choosing one by pixel labels would not be weak supervision

    def __init__(
        self,
        init_weights: str = "",
        network: NetworkFactory = UNet,
        context: int = 7,
        supervision: Literal["em", "masks"] = "em",
        prior: Prior = PAPER_PRIOR,
        dice_over: Literal["image", "batch"] = "image",
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(augmentation or Augmentation())
        chosen = {"network": as_plain_values(network), "prior": as_plain_values(prior)}
        self.save_hyperparameters(
            chosen | {"context": context, "supervision": supervision, "dice_over": dice_over}, logger=False
        )
        self.prior = prior
        self.infection_network = network(context, self.outputs).to(memory_format=torch.channels_last)
        self.infection_network.requires_grad_(False)
        self.network = network(context, self.outputs).to(memory_format=torch.channels_last)
        self.thresholds = ThresholdBaselines()
        self.latent: MaskStore | None = None  # y of every training slice
        self.e_step_figures: dict[str, float] = {}  # of the last E-step, by their keys in metrics.json
        self.located: MaskStore | None = None  # m of every training slice, computed once: UNet-1 does not change
        if init_weights:
            load_network_weights(init_weights, "infection", self.infection_network, self.network)

    @classmethod
    def restore(cls, arguments: Mapping[str, Any], find: Find) -> Self:
        return super().restore(dict(arguments) | {"prior": find(arguments.get("prior"), Prior)()}, find)

    def labels(self, scans: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        if self.hparams["supervision"] == "masks":
            return {Word("a pattern mask (pattern_mask)"): scans["has_pattern_mask"].to_numpy() == 1}
        weak_label = scans["weak_label"].to_numpy()
        return {
            Word("a weak label (has_consolidation or report)"): weak_label >= 0,
            Word("consolidation by their weak label"): weak_label == 1,
        }

    def shows_finding(self, target: NDArray[Any]) -> bool:
        return self.hparams["supervision"] == "em" or bool((target[1] > 0).any())

    def forward(self, x: Tensor) -> Tensor:
        """Return f, the probability of consolidation, float32 (B, 1, H, W), for x (B, context, H, W), network units."""
        return self.network(x).float().sigmoid()

    def infected(self, batch: SliceBatch) -> Tensor:
        """Return m, the infected region by UNet-1, bool (B, 1, H, W)."""
        self.infection_network.eval()
        return (self.infection_network(batch["x"]).float() > 0) & batch["lung"]

    # -- M-step --------------------------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: SliceBatch, dataloader_idx: int) -> SliceBatch:
        if self.trainer.training and self.hparams["supervision"] == "em":
            if self.latent is None:
                raise Refusal(
                    "supervision is 'em' but nothing relabels: add callbacks.relabel.Relabel to trainer.callbacks"
                )
            batch["target"] = self.latent.unpack(batch["latent"]).to(torch.int8)
        elif self.trainer.training:
            batch["target"] = batch["target"][:, 1:]
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def training_step(self, batch: SliceBatch, batch_idx: int) -> Tensor:
        target = batch["target"]
        valid = target >= 0
        if self.hparams["supervision"] == "em":  # nothing is known of a patient without a weak label
            valid &= (batch["weak_label"] >= 0).view(-1, 1, 1, 1)
        logits = self.network(self.vary(batch))
        loss = dice_loss(logits, target, valid, batch=self.hparams["dice_over"] == "batch")  # equation 11
        self.log_step(batch, logits[:, 0] > 0, target[:, 0].where(valid[:, 0], -1), loss)
        return loss

    # -- E-step, called by callbacks.relabel ---------------------------------------------------------------------------

    counted = 3  # what `relabel` counts

    def on_fit_start(self) -> None:
        """Say how many scans take no part in EM."""
        scans = self.data.slice_table("train").scans
        unknown = int((scans["weak_label"] < 0).sum())
        if unknown and self.hparams["supervision"] == "em":
            rank_zero_warn(f"{unknown} of {len(scans)} training scans have no weak label and take no part in EM")

    def prepare_latent(self, num_slices: int, size: int, folder: Path | None = None) -> tuple[PixelStore, ...]:
        """Make room for latent labels and infected regions of a train table of `num_slices` rows, size x size each.

        Args:
            num_slices: Rows of the table.
            size: Pixels along each side.
            folder: Of their files; in memory by default.

        Returns:
            The stores.
        """
        files = [folder / name if folder else None for name in ("latent", "located")]
        self.latent = MaskStore(num_slices, (size, size), self.device, files[0])
        self.located = MaskStore(num_slices, (size, size), self.device, files[1])
        return self.latent, self.located

    def relabelled(self, scans: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which scans get latent labels, bool (N,); in all others nothing is consolidation."""
        return scans["weak_label"].to_numpy() == 1

    def e_step_passes(self, rows: NDArray[np.int64]) -> Iterator[Pass]:
        """Yield the passes over training slices that label rows (n,), each made when the one before is done."""
        assert self.located is not None, "prepare_latent makes it"
        yield "locate infection", rows[~self.located.known[torch.from_numpy(rows)].numpy()], self._locate
        yield "E-step", rows[self.located.any(torch.from_numpy(rows)).numpy()], self.relabel

    def _locate(self, batch: SliceBatch, count: int) -> None:
        assert self.located is not None
        self.located.set(batch["slice_index"], self.infected(batch))

    def relabel(self, batch: SliceBatch, count: int) -> Tensor:
        """Store new labels; return pixels labelled, changed and in the region of the first `count` slices, (3,)."""
        assert self.located is not None
        assert self.latent is not None
        region = self.located.get(batch["slice_index"])
        labels = self.latent_labels(batch, region)
        rows = batch["slice_index"]
        changed = (labels != self.latent.get(rows)).flatten(1).sum(1)
        self.latent.set(rows, labels)
        changed = self.latent.note_changes(rows, changed, self.current_epoch)
        return torch.stack([values[:count].sum() for values in (labels, changed, region)])

    def relabel_batch(self, batch: SliceBatch) -> Tensor:
        """Give a training batch new labels, as the network is about to see it; return counts as `relabel` does."""
        infected = self.infected(batch) & (batch["weak_label"] == 1).view(-1, 1, 1, 1)
        labels = self.latent_labels(batch, infected)
        batch["target"] = labels.to(torch.int8)
        return torch.stack([labels.sum(), torch.zeros_like(labels.sum()), infected.sum()])

    def end_e_step(self) -> dict[str, float]:
        """Return further figures of an E-step."""
        return {}

    @torch.no_grad()
    def latent_labels(self, batch: SliceBatch, infected: Tensor) -> Tensor:
        """Return y of equation 10 by the current weights, bool (B, 1, H, W); UNet-2 in eval mode, x as it stands."""
        was_training = self.network.training
        self.network.eval()
        centre = batch["x"].shape[1] // 2
        phi = self.prior(batch["weak_label"], batch["x"][:, centre : centre + 1])
        labels = e_step(self(batch["x"]), phi, infected)
        self.network.train(was_training)
        return labels

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def new_tables(self, slices: int) -> dict[str, nn.Module]:
        names = ("consolidation", "consolidation_truth_in_infection", "infection", *ThresholdBaselines.names)
        return {name: ScanConfusion(slices) for name in names}

    def update_tables(self, batch: SliceBatch) -> None:
        infected = self.infected(batch)
        infection, consolidation = batch["target"][:, 0], batch["target"][:, 1]
        hu = batch["image"][:, batch["image"].shape[1] // 2].float()
        predictions = {
            "infection": (infected[:, 0], infection),
            "consolidation": (((self(batch["x"]) > 0.5) & infected)[:, 0], consolidation),
            "consolidation_truth_in_infection": (infected[:, 0], consolidation),
        }
        for name, above in self.thresholds(hu, batch["lung"][:, 0]).items():
            predictions[name] = (above & infected[:, 0], consolidation)
        for name, (prediction, target) in predictions.items():
            self.table(name).update(prediction, target, batch["lung"][:, 0], batch["slice_index"])
        if not self.trainer.testing:  # thresholds are picked on validation, never on test
            self.thresholds.observe(hu, batch["lung"][:, 0], infected[:, 0], consolidation, batch["slice_index"])

    def confusion_tables(self) -> dict[str, NDArray[np.int64]]:
        skipped = {name for name, hu in self.thresholds.picked().items() if math.isnan(hu)}
        return {name: table for name, table in super().confusion_tables().items() if name not in skipped}

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.thresholds.reset(len(self.data.slice_table("val")))

    def on_validation_epoch_end(self) -> None:
        self.thresholds.pick(self.data.slice_table("val").scan)
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.test_metrics |= {f"{name}/hu": hu for name, hu in self.thresholds.picked().items() if not math.isnan(hu)}
        figures = self.e_step_figures.items()
        self.test_metrics |= {key: value if math.isfinite(value) else None for key, value in figures}

    def segment(self, x: Tensor) -> dict[str, Tensor]:
        """Return probabilities (B, 1, H, W) by name for x (B, context, H, W) of a new scan.

        Consolidation counts inside the infected region only: its probability is 0 elsewhere.
        """
        self.infection_network.eval()
        infection = self.infection_network(x).float().sigmoid()
        return {"infection": infection, "consolidation": self(x) * (infection > 0.5)}

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["ground_glass"]["e_step"] = self.e_step_figures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.e_step_figures = dict(checkpoint["ground_glass"].get("e_step", {}))
