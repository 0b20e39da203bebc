"""The confusion matrix of the groups of paper L3, as a picture."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from ct.patterns import GROUPS, NAME_OF_GROUP

matplotlib.use("Agg")
from matplotlib import pyplot as plt


class DrawConfusion(Callback):
    """Write figures/group_confusion.png beside the tested checkpoint, and to W&B.

    The module offers `group_confusion`, int64 (6, 5): truth (last row unknown) x prediction over the lungs.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        path = Path(trainer.ckpt_path).parent / "figures" / "group_confusion.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure = draw_confusion(pl_module.group_confusion)
        figure.savefig(path, dpi=120)
        plt.close(figure)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("test/group_confusion", [str(path)])


def draw_confusion(table: NDArray[np.int64]) -> Any:
    """Draw the shares of each true group that were called each group.

    Args:
        table: (6, 5) as above.

    Returns:
        A matplotlib figure.
    """
    known = table[:-1]
    total = known.sum(1, keepdims=True)
    share = np.divide(known, total, out=np.full(known.shape, np.nan), where=total > 0)
    figure, axis = plt.subplots(figsize=(6.2, 5.2), layout="constrained")
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [f"{group} {NAME_OF_GROUP[group]}" for group in GROUPS]
    axis.set_xticks(range(len(GROUPS)), names, rotation=30, ha="right")
    voxels = [f"{name}\n(n = {count:,})" for name, count in zip(names, total[:, 0], strict=True)]
    axis.set_yticks(range(len(GROUPS)), voxels)
    axis.set(xlabel="model", ylabel="reader", title="share of the reader's voxels inside the lungs")
    for (row, column), value in np.ndenumerate(share):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axis.text(column, row, text, ha="center", va="center", color="white" if value > 0.5 else "black")
    return figure
