"""Pictures of slices: CT, truth, prediction."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from scipy import ndimage

from ct.classes import ClassSet, Finding, Leaf
from ct.colours import name_of, rgb_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

LUNG_WINDOW_HU = (-1000, 350)
LEAST_PIXELS = 256  # height of a panel: on a smaller one an outline would hide what it surrounds
Masks = dict[str, NDArray[np.bool_]]  # (N, H, W) each, by the key of a finding or leaf, from the common to the rare
Shown = dict[str, Leaf | Finding]


class LogSlices(Callback):
    """Draw, of some scans, the slice with the most of the rarest finding: CT, reader, model.

    After the test as figures/overlays.png, by scan_id; in W&B, where patients go by pseudonyms, after the test and
    after every validation, always of the same slices. The module offers `truth(batch)`, `prediction(batch)` and
    `to_input(batch)`; the data `slice_table` and `batches`.

    Args:
        folder: The run folder.
        scans: How many scans to draw, spread evenly over the split.
    """

    def __init__(self, folder: Path, scans: int = 6) -> None:
        self.folder, self.scans = folder, scans
        self.rows: dict[str, NDArray[np.int64]] = {}

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if loggers:
            hu, truth, prediction = self._segmented(trainer, pl_module, "val")
            self._to_wandb(loggers, trainer, "val", hu, truth, prediction, shown_in(truth, pl_module.classes))

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        hu, truth, prediction = self._segmented(trainer, pl_module, "test")
        shown = shown_in(truth, pl_module.classes)
        titles = trainer.datamodule.slice_table("test").per_slice("scan_id")[self.rows["test"]]
        figure = draw_slices(hu, truth, prediction, list(titles), shown)
        path = self.folder / "figures" / "overlays.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
        plt.close(figure)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        self._to_wandb(loggers, trainer, "test", hu, truth, prediction, shown)

    def _segmented(self, trainer: Any, module: Any, split: str) -> tuple[NDArray[np.int16], Masks, Masks]:
        """Return HU (N, H, W) of the slices of a split, and the masks of the readers and of the model."""
        if split not in self.rows:
            self.rows[split] = self._choose(trainer.datamodule, module, split)
        rows = self.rows[split]
        batch = next(iter(trainer.datamodule.batches(split, rows, len(rows))))
        batch = module.to_input(module.transfer_batch_to_device(batch, module.device, 0))
        module.eval()  # it is already: both hooks are part of an evaluation
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            prediction = module.prediction(batch)
        hu = batch["image"][:, batch["image"].shape[1] // 2].cpu().numpy()
        return hu, outlines(module.truth(batch), module.classes), outlines(prediction, module.classes)

    def _to_wandb(
        self,
        loggers: list[Any],
        trainer: Any,
        split: str,
        hu: NDArray[np.int16],
        truth: Masks,
        prediction: Masks,
        shown: Shown,
    ) -> None:
        # W&B draws masks in colours of its own choice, so the outlines are part of the pictures.
        pictures = list(draw_panels(hu, truth, prediction, shown))
        colours = ", ".join(f"{name_of(region.colour)}: {region.name}" for region in shown.values())
        captions = [
            f"{place}; CT, reader, model; {colours}"
            for place in captions_of(trainer.datamodule.slice_table(split), self.rows[split])
        ]
        for logger in loggers:
            logger.log_image(f"{split}/overlays", pictures, trainer.global_step, caption=captions)

    def _choose(self, data: Any, module: Any, split: str) -> NDArray[np.int64]:
        table = data.slice_table(split)
        rows = []
        for scan in np.unique(np.linspace(0, len(table.scans) - 1, self.scans).round().astype(int)):
            candidates = np.flatnonzero(table.scan == scan)
            batches = data.batches(split, candidates, 64)
            interest = np.concatenate([_interest(module.truth(batch), module.classes) for batch in batches])
            rows.append(candidates[interest.argmax()])
        return np.array(rows)


def captions_of(table: Any, rows: NDArray[np.int64]) -> list[str]:
    """Return site, pseudonym of the patient and number of the slice from the foot for rows of a SliceTable."""
    sites, patients = table.per_slice("site")[rows], table.per_slice("patient_id")[rows]
    return [f"{site} {patient} z{z}" for site, patient, z in zip(sites, patients, table.z[rows], strict=True)]


def draw_panels(hu: NDArray[np.int16], truth: Masks, prediction: Masks, shown: Shown) -> NDArray[np.uint8]:
    """Draw CT, CT with the reader's outlines and CT with the model's side by side; the rarer finding on top.

    Args:
        hu: (N, H, W).
        truth: (N, H, W) by key.
        prediction: (N, H, W) by key.
        shown: What the keys stand for.

    Returns:
        uint8 (N, rows, columns, 3).
    """
    low, high = LUNG_WINDOW_HU
    scale = -(-LEAST_PIXELS // hu.shape[1])
    grey = ((hu.astype(np.float32) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    panels = [np.repeat(_enlarged(grey, scale)[..., None], 3, axis=-1) for _ in range(3)]
    for panel, masks in zip(panels[1:], (truth, prediction), strict=True):
        for name, mask in masks.items():
            inside = _enlarged(mask, scale)
            edge = inside & ~ndimage.binary_erosion(inside, np.ones((1, 3, 3), bool))
            panel[edge] = rgb_of(shown[name].colour)
    return np.concatenate(panels, axis=2)


def _enlarged(images: NDArray[Any], times: int) -> NDArray[Any]:
    return images.repeat(times, axis=1).repeat(times, axis=2)


def outlines(masks: dict[str, torch.Tensor], classes: ClassSet) -> Masks:
    """Return what is outlined, (B, H, W) by key: the leaves that `groups` tells apart, or else findings."""
    leaves = masks.get("groups")
    if leaves is None:
        keys = [finding.key for finding in classes.findings if finding.key in masks]
        return {key: (masks[key] > 0).cpu().numpy() for key in keys}
    return {classes.leaves[index].key: (leaves == index).cpu().numpy() for index in classes.foreground}


def shown_in(masks: Masks, classes: ClassSet) -> Shown:
    """Return what the keys of masks stand for."""
    named: Shown = {leaf.key: leaf for leaf in classes.leaves} | {union.key: union for union in classes.findings}
    return {key: named[key] for key in masks}


def _interest(truth: dict[str, torch.Tensor], classes: ClassSet) -> NDArray[np.float64]:
    """Return (B,): higher the more there is of the rarest finding; for equal amounts, of the next rarest."""
    sizes = [mask.sum((1, 2)) for mask in outlines(truth, classes).values()]
    return np.asarray(sum(size * 1e5**rank for rank, size in enumerate(sizes)))


def draw_slices(
    hu: NDArray[np.int16],
    truth: Masks,
    prediction: Masks,
    titles: list[str],
    shown: Shown,
) -> Any:
    """Draw a column per slice: CT, CT with the reader's outlines, CT with the model's.

    Args:
        hu: (N, H, W).
        truth: (N, H, W) by key.
        prediction: (N, H, W) by key.
        titles: N titles.
        shown: What the keys stand for.

    Returns:
        A matplotlib figure.
    """
    figure, axes = plt.subplots(3, len(hu), figsize=(2.1 * len(hu), 6.6), squeeze=False, layout="constrained")
    for column, title in enumerate(titles):
        axes[0, column].set_title(title, fontsize=9)
        for axis, masks in zip(axes[:, column], ({}, truth, prediction), strict=True):
            axis.imshow(hu[column], cmap="gray", vmin=LUNG_WINDOW_HU[0], vmax=LUNG_WINDOW_HU[1])
            axis.set(xticks=[], yticks=[])
            for name, mask in masks.items():
                if mask[column].any():
                    axis.contour(mask[column], levels=[0.5], colors=shown[name].colour, linewidths=1)
    for axis, label in zip(axes[:, 0], ("CT", "reader", "model"), strict=True):
        axis.set_ylabel(label)
    handles = [Line2D([], [], color=region.colour, label=region.name) for region in shown.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
