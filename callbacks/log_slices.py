"""Pictures of test slices: CT, truth, prediction."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from ct.patterns import COLOUR_OF_GROUP, NAME_OF_GROUP, OPACITY_GROUPS

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

LUNG_WINDOW_HU = (-1000, 350)
# From the common to the rare; a picture shows the names that the model has.
NAME_OF_LAYER = {group: f"group {group}: {NAME_OF_GROUP[group]}" for group in OPACITY_GROUPS}
OUTLINES = {"infection": "#00b25a", "consolidation": "#e4002b"} | {
    name: COLOUR_OF_GROUP[group] for group, name in NAME_OF_LAYER.items()
}


class LogSlices(Callback):
    """Draw the slice with the most of the rarest finding of some test scans, as figures/overlays.png and to W&B.

    The module offers `truth(batch)`, `prediction(batch)` and `to_input(batch)`; the data `slice_table` and `batches`.

    Args:
        folder: The run folder.
        scans: How many scans to draw, spread evenly over the test set.
    """

    def __init__(self, folder: Path, scans: int = 6) -> None:
        self.folder, self.scans = folder, scans

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        rows = self._rows(trainer.datamodule, pl_module)
        batch = next(iter(trainer.datamodule.batches("test", rows, len(rows))))
        batch = pl_module.to_input(pl_module.transfer_batch_to_device(batch, pl_module.device, 0))
        pl_module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            prediction = pl_module.prediction(batch)
        titles = trainer.datamodule.slice_table("test").per_slice("scan_id")[rows]
        figure = draw_slices(
            batch["image"][:, batch["image"].shape[1] // 2].cpu().numpy(),
            outlines(pl_module.truth(batch)),
            outlines(prediction),
            list(titles),
        )
        path = self.folder / "figures" / "overlays.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
        plt.close(figure)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("test/overlays", [str(path)])

    def _rows(self, data: Any, module: Any) -> NDArray[np.int64]:
        table = data.slice_table("test")
        chosen = np.unique(np.linspace(0, len(table.scans) - 1, self.scans).round().astype(int))
        rows = []
        for scan in chosen:
            candidates = np.flatnonzero(table.scan == scan)
            batches = data.batches("test", candidates, 64)
            rows.append(candidates[np.concatenate([_interest(module.truth(batch)) for batch in batches]).argmax()])
        return np.array(rows)


def outlines(masks: dict[str, torch.Tensor]) -> dict[str, NDArray[np.bool_]]:
    """Masks (B, H, W) by name, the multi-class `groups` taken apart; names of `OUTLINES` only."""
    groups = masks.get("groups")
    if groups is not None:
        masks = masks | {name: groups == group for group, name in NAME_OF_LAYER.items()}
    return {name: (masks[name] > 0).cpu().numpy() for name in OUTLINES if name in masks}


def _interest(truth: dict[str, torch.Tensor]) -> NDArray[np.float64]:
    """(B,): the more of the rarest finding, the higher; of two alike the one with more of the next."""
    sizes = [mask.sum((1, 2)) for mask in outlines(truth).values()]
    return np.asarray(sum(size * 1e5**rank for rank, size in enumerate(sizes)))


def draw_slices(
    hu: NDArray[np.int16],
    truth: dict[str, NDArray[np.bool_]],
    prediction: dict[str, NDArray[np.bool_]],
    titles: list[str],
) -> Any:
    """A row per slice: CT, CT with the reader's outlines, CT with the model's.

    Args:
        hu: (N, H, W).
        truth: (N, H, W) by name, names of `OUTLINES`.
        prediction: (N, H, W) by name.
        titles: N titles.

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
                    axis.contour(mask[column], levels=[0.5], colors=OUTLINES[name], linewidths=1)
    for axis, label in zip(axes[:, 0], ("CT", "reader", "model"), strict=True):
        axis.set_ylabel(label)
    handles = [Line2D([], [], color=OUTLINES[name], label=name) for name in truth]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
