"""Stage 1 of paper EM: UNet-1 learns the infected region from pixel labels."""

from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch import SliceBatch
from ct.refusal import Word
from lightning_modules.augment import Augmentation
from lightning_modules.base import Keep, SegmentationModule
from lightning_modules.repaint import Repainting, show_enhanced, vary_lesions
from losses.dice import dice_loss
from metrics.scan_confusion import ScanConfusion
from networks.contract import NetworkFactory
from networks.unet import UNet
from training.class_paths import as_plain_values
from training.weights import load_network_weights


class InfectionModule(SegmentationModule):
    """UNet-1: supervised segmentation of infection with the smooth Dice loss (paper EM, equation 2).

    Args:
        network: UNet-1; the paper's by default.
        context: Adjacent slices in the input (paper EM: 7).
        pretrained: Checkpoint of this task to start from (fine-tuning), such as models/default/best.ckpt; empty starts
            from random weights.
        dice_over: One Dice per `image`, averaged (equation 2), or one over the `batch`: with many slices without any
            infection, whose own Dice has next to no gradient once much is predicted, the latter learns faster.
        keep: Which weights best.ckpt has: of the `best` epoch on validation, or of the `last` one, where validation has
            too few slices to choose by.
        augmentation: Augmentation of training batches.
        repainting: What is painted into training slices of phantoms; nothing by default.
    """

    task = "infection"
    findings = ("infection",)
    outputs = 1
    monitor = "val/dice"

    def __init__(
        self,
        network: NetworkFactory = UNet,
        context: int = 7,
        pretrained: str = "",
        dice_over: Literal["image", "batch"] = "image",
        keep: Keep = "best",
        augmentation: Augmentation | None = None,
        repainting: Repainting | None = None,
    ) -> None:
        super().__init__(augmentation or Augmentation(), keep)
        self.repainting = repainting
        self.save_hyperparameters(
            {"network": as_plain_values(network), "context": context, "dice_over": dice_over}, logger=False
        )
        self.network = network(context, self.outputs).to(memory_format=torch.channels_last)
        if pretrained:
            load_network_weights(pretrained, self.task, self.network)

    def labels(self, scans: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        return {Word("an infection mask (infection_mask or pattern_mask)"): scans["has_infection_mask"].to_numpy() == 1}

    def shows_finding(self, target: NDArray[Any]) -> bool:
        return bool((target[0] > 0).any())

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of infection, float32 (B, 1, H, W), for x (B, context, H, W) in network units."""
        return self.network(x).float().sigmoid()

    def augment(self, batch: SliceBatch) -> SliceBatch:
        """Repaint the slices first, if asked to."""
        if self.repainting:
            lesions = batch["target"][:, :1] == 1
            hu = vary_lesions(batch["image"], lesions, batch["lung"], self.repainting, self.generator(stream=5))
            hu = show_enhanced(hu, batch["lung"], self.repainting.enhanced, self.generator(stream=4))
            batch["image"] = hu.round().to(torch.int16)
        return super().augment(batch)

    def training_step(self, batch: SliceBatch, batch_idx: int) -> Tensor:
        target = batch["target"][:, :1]
        logits = self.network(self.vary(batch))
        loss = dice_loss(logits, target, valid=target >= 0, batch=self.hparams["dice_over"] == "batch")
        self.log_step(batch, logits[:, 0] > 0, target[:, 0], loss)
        return loss

    def new_tables(self, slices: int) -> dict[str, nn.Module]:
        return {"infection": ScanConfusion(slices)}

    def update_tables(self, batch: SliceBatch) -> None:
        prediction = (self(batch["x"]) > 0.5) & batch["lung"]
        self.table("infection").update(
            prediction[:, 0], batch["target"][:, 0], batch["lung"][:, 0], batch["slice_index"]
        )

    def segment(self, x: Tensor) -> dict[str, Tensor]:
        """Return probabilities (B, 1, H, W) by name for x (B, context, H, W) of a new scan."""
        return {"infection": self(x)}
