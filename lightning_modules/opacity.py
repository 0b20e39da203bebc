"""The multi-class task: classes learned from the distribution of what readers say (paper L3)."""

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch import SliceBatch
from ct.classes import class_set, read_class_set
from ct.refusal import Word
from lightning_modules.augment import Augmentation, affine_grid, vary_acquisition, warp
from lightning_modules.base import Keep, SegmentationModule
from losses.soft_label import Weighting, soft_label_divergence, soft_label_loss
from losses.soft_targets import Draw, SoftTargets
from metrics.group_summary import summarise_groups
from metrics.reliability import BINS, SliceSums, reliability
from metrics.scan_confusion import ScanConfusion
from metrics.summary import Metrics
from networks.contract import NetworkFactory
from networks.unet import UNet
from training.class_paths import as_plain_values
from training.weights import load_network_weights

AIR_HU = -1024.0


class OpacityModule(SegmentationModule):
    """A multi-class segmenter with probabilistic labels (paper L3, sections 3 and 4).

    Args:
        network: The UNet of paper EM by default; paper L3 has `networks.deeplab.DeepLabV3Plus` and
            `networks.pspnet.PSPNet` too.
        context: Adjacent slices in the input (paper L3: 1).
        classes: What is told apart: a name of experiments/classes, the path of a file like those, or, in a
            checkpoint, its plain values. The data need the same.
        pretrained: Checkpoint of this task to start from (fine-tuning); empty starts from random weights.
        labels: `soft`: votes of several readers, else the noise model; `hard`: the label as it stands.
        noise_model: File of the reader noise model for singly labelled slices, needed for soft labels.
        target: The `mean` of the label's distribution, or a draw from it with `independent` or `correlated` noise.
        weighting: Reading of the loss's weights, `pixel` or `class` (see `losses.soft_label`).
        weight_exponent: Power of these weights, 0 to 1: 1 is the paper, less calls rare classes less often.
        window_hu: HU are clipped to it (paper L3: -1000 .. 350).
        mean_hu: What is subtracted from the clipped HU; the training set's own if None (paper L3: -653.2).
        std_hu: What they are divided by; the training set's own if None (paper L3: 628.5).
        keep: Which weights best.ckpt has: of the `best` epoch on validation, or of the `last` one, where validation has
            too few slices to choose by.
        augmentation: Augmentation of training batches.
    """

    task = "opacity"
    monitor = "val/opacity_iou"
    hu_mean: Tensor
    hu_std: Tensor
    class_frequency: Tensor

    def __init__(
        self,
        network: NetworkFactory = UNet,
        context: int = 1,
        classes: str | dict[str, Any] = "l3",
        pretrained: str = "",
        labels: Literal["soft", "hard"] = "soft",
        noise_model: str = "",
        target: Draw = "mean",
        weighting: Weighting = "pixel",
        weight_exponent: float = 1.0,
        window_hu: tuple[float, float] = (-1000.0, 350.0),
        mean_hu: float | None = None,
        std_hu: float | None = None,
        keep: Keep = "best",
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(augmentation or Augmentation(), keep)
        if std_hu is not None and not 0 < std_hu < math.inf:
            raise ValueError(f"model.std_hu is {std_hu}; expected a positive number of HU")
        if not 0 <= weight_exponent <= 1:
            raise ValueError(f"model.weight_exponent is {weight_exponent}; expected a number from 0 to 1")
        self.classes = read_class_set(classes) if isinstance(classes, str) else class_set(classes)
        self.findings = (self.outermost, *(self.classes.leaves[index].key for index in self.classes.foreground))
        self.outputs = len(self.classes.leaves)
        chosen = {"network": as_plain_values(network), "classes": self.classes.plain(), "context": context}
        settings = {"labels": labels, "target": target, "weighting": weighting, "window_hu": window_hu}
        self.save_hyperparameters(chosen | settings | {"weight_exponent": weight_exponent}, logger=False)
        self.stated_statistics = mean_hu, std_hu
        self.network = network(context, self.outputs).to(memory_format=torch.channels_last)
        self.targets = SoftTargets(self.outputs, noise_model if labels == "soft" else "")
        # Filled from the training set in `setup`, or by a checkpoint.
        for name, value in (("hu_mean", 0.0), ("hu_std", 1.0), ("class_frequency", [0.0] * self.outputs)):
            self.register_buffer(name, torch.tensor(value))
        if pretrained:
            load_network_weights(pretrained, self.task, self.network)

    @property
    def outermost(self) -> str:
        """The name with which the figures of the outermost finding begin."""
        return self.classes.findings[0].figures

    def setup(self, stage: str) -> None:
        """Refuse a training without labels; take the training set's statistics, where the experiment gives none."""
        super().setup(stage)
        statistics = self.data.statistics(*self.hparams["window_hu"])
        mean, std = self.stated_statistics
        self.hu_mean.fill_(statistics.mean_hu if mean is None else mean)
        self.hu_std.fill_(statistics.std_hu if std is None else std)
        self.class_frequency.copy_(torch.tensor(statistics.group_frequency))

    def labels(self, scans: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        return {Word("a pattern mask (pattern_mask)"): scans["has_pattern_mask"].to_numpy() == 1}

    def shows_finding(self, target: NDArray[Any]) -> bool:
        return bool(np.isin(target[0], self.classes.foreground).any())

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of every leaf, float32 (B, C, H, W), for x (B, context, H, W), normalised."""
        return self.network(x).float().softmax(1)

    # -- data, on the device -------------------------------------------------------------------------------------------

    def network_input(self, hu: Tensor, lung: Tensor) -> Tensor:
        """Return (clipped HU - mean) / std of the whole slice: paper L3 segments the lungs too."""
        return (hu.float().clamp(*self.hparams["window_hu"]) - self.hu_mean) / self.hu_std

    def to_input(self, batch: SliceBatch) -> SliceBatch:
        """Add x, and the moments of the label."""
        batch = super().to_input(batch)
        batch["mean"], batch["deviation"] = self.targets(batch["target"], batch["border"], batch["votes"])
        return batch

    def augment(self, batch: SliceBatch) -> SliceBatch:
        """Add x and the label's moments, and move all together."""
        tensors = batch["image"], batch["lung"], batch["target"], batch["border"], batch["votes"]
        batch["x"], batch["lung"], batch["target"], batch["mean"], batch["deviation"] = self.moved(
            *tensors, self.draw_affine(len(batch["image"]))
        )
        return batch

    def moved(  # type: ignore[override]  # of a batch with other targets
        self, hu: Tensor, lung: Tensor, target: Tensor, border: Tensor, votes: Tensor, theta: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return x, lung, target and the label's moments moved by theta. What enters is air, no lung, unlabelled."""
        grid = affine_grid(theta, hu.shape)
        # Filled on the device: a number that is copied there makes the host wait.
        air = self.network_input(torch.full((), AIR_HU, device=hu.device), lung)
        x = warp(self.network_input(hu, lung) - air, grid, "bilinear") + air
        # A pixel that is mixed with an unlabelled one is unlabelled.
        labelled = warp((target >= 0).float(), grid, "bilinear") > 0.999
        masks = warp(torch.cat([target, lung], 1).float(), grid, "nearest").to(torch.int8)
        codes = torch.where(labelled, masks[:, :1], -1)
        mean, deviation = warp(torch.cat(self.targets(target, border, votes), 1), grid, "bilinear").chunk(2, 1)
        return x, masks[:, 1:].bool(), codes, mean, deviation

    def vary(self, batch: SliceBatch) -> Tensor:
        """Return the network's training input: x as another scanner would have made it."""
        return vary_acquisition(batch["x"], self.hu_std, self.augmentation, self.generator(stream=1))

    # -- training ------------------------------------------------------------------------------------------------------

    def training_step(self, batch: SliceBatch, batch_idx: int) -> Tensor:
        target = self.targets.draw(
            batch["mean"], batch["deviation"], self.hparams["target"], self.data.pixel_mm, self.generator(stream=2)
        )
        logits, label = self.network(self.vary(batch)), batch["target"]
        loss = soft_label_loss(logits, target, label >= 0, self.class_frequency, *self.weights)
        with torch.no_grad():  # more than half of the probability, without the probabilities
            inside, outside = (logits[:, leaves].float().logsumexp(1) for leaves in self._in_and_out())
        self.log_step(batch, inside > outside, self.opaque(label[:, 0]), loss)
        return loss

    @property
    def weights(self) -> tuple[Weighting, float]:
        """How the loss weighs the classes: the reading of the paper's weights, and their exponent."""
        return self.hparams["weighting"], self.hparams["weight_exponent"]

    def opaque(self, leaves: Tensor) -> Tensor:
        """Return 1 where a leaf belongs to the outermost finding, else 0, -1 where unlabelled; shape and type stay."""
        member = torch.zeros(len(self.classes.leaves), dtype=leaves.dtype, device=leaves.device)
        member[list(self.classes.opacities)] = 1
        return torch.where(leaves < 0, leaves, member[leaves.clamp(min=0).long()])

    def _in_and_out(self) -> tuple[list[int], list[int]]:
        """Return the indices of the outermost finding's leaves, and those of the others."""
        inside = list(self.classes.opacities)
        return inside, [index for index in self.classes.indices if index not in inside]

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def new_tables(self, slices: int) -> dict[str, nn.Module]:
        return {
            "opacity": ScanConfusion(slices),
            "groups": ScanConfusion(slices, len(self.classes.leaves)),
            "reliability": SliceSums(slices, BINS, 3),
            "group_reliability": SliceSums(slices, BINS, 3),
            "loss": SliceSums(slices, 2),
        }

    def update_tables(self, batch: SliceBatch) -> None:
        logits = self.network(batch["x"]).float()
        probability = logits.softmax(1)
        opacity = probability[:, self._in_and_out()[0]].sum(1)
        label, lung, rows = batch["target"][:, 0], batch["lung"][:, 0], batch["slice_index"]
        opaque, region = self.opaque(label), self.region(lung)
        self.table("opacity").update(opacity > 0.5, opaque, lung, rows)
        confidence, leaf = self.allowed(probability, lung).max(1)
        self.table("groups").update(leaf, label, region, rows)
        self.table("reliability").update(reliability(opacity, opaque, lung & (label >= 0)), rows)
        bins = reliability(confidence, leaf == label, region & (label >= 0))
        self.table("group_reliability").update(bins, rows)
        divergence = soft_label_divergence(logits, batch["mean"], self.class_frequency, *self.weights)
        valid = label >= 0
        sums = torch.stack([torch.where(valid, divergence.double(), 0).sum((1, 2)), valid.double().sum((1, 2))], 1)
        self.table("loss").update(sums, rows)

    def summary(self, split: str) -> tuple[Metrics, pd.DataFrame]:
        tables = self.confusion_tables()
        self.group_confusion: NDArray[np.int64] = tables["groups"].sum(0)
        return summarise_groups(tables, self.data.slice_table(split).described, self.classes)

    def region(self, lung: Tensor) -> Tensor:
        """Return where leaves are told apart: the lungs, or everything where a leaf is looked for outside them."""
        return torch.ones_like(lung) if self.classes.outside else lung

    def allowed(self, probability: Tensor, lung: Tensor) -> Tensor:
        """Set a probability (B, C, H, W) to 0 where its leaf cannot be: inside the lungs (B, H, W), or outside them."""
        if not self.classes.outside:
            return probability
        inside = torch.tensor([leaf.in_lungs for leaf in self.classes.leaves], device=lung.device)
        can_be = inside[:, None, None] == lung[:, None]
        can_be[:, 0] = True  # background is everywhere
        return probability * can_be

    def on_validation_epoch_end(self) -> None:
        metrics = self.validate()
        outer = self.outermost
        keys = {"dice": f"{outer}/dice_mean", "iou": f"{outer}/iou_pooled", "opacity_iou": f"{outer}/iou_pooled"}
        keys |= {"relative_volume": f"{outer}/relative_volume", "loss": "test/loss"}
        keys |= {f"{key}_iou": f"{key}/iou_pooled" for key in self.findings[1:]}
        self.log_figures({f"val/{short}": metrics[key] for short, key in keys.items()})

    # -- pictures, saved masks and new scans ---------------------------------------------------------------------------

    def truth(self, batch: SliceBatch) -> dict[str, Tensor]:
        return {"groups": batch["target"][:, 0]}

    def prediction(self, batch: SliceBatch) -> dict[str, Tensor]:
        probability, lung = self(batch["x"]), batch["lung"][:, 0]
        opacity = probability[:, self._in_and_out()[0]].sum(1) > 0.5
        return {"groups": self.allowed(probability, lung).argmax(1) * self.region(lung), self.outermost: opacity & lung}

    def segment(self, x: Tensor) -> dict[str, Tensor]:
        """Return probabilities (B, 1, H, W): of unions of leaves by key, and of each leaf as `group_<n>`."""
        probability = self(x)
        unions = {
            finding.key: probability[:, list(self.classes.indices_of(finding.key))].sum(1, keepdim=True)
            for finding in self.classes.findings
            if len(finding.leaves) > 1
        }
        return unions | {f"group_{index}": probability[:, index : index + 1] for index in self.classes.indices}
