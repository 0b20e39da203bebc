"""The confusion matrix of the classes of the multi-class task, as a picture."""

from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from callbacks.write_results import WriteResults
from ct.classes import ClassSet
from metrics.group_summary import shares_of_truth

matplotlib.use("Agg")
from matplotlib import pyplot as plt


class DrawConfusion(Callback):
    """Write figures/group_confusion.png in the run folder, and to W&B.

    The module offers `group_confusion`, int64 (C + 1, C): truth (last row unknown) x prediction, and `classes`.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        (results,) = (callback for callback in trainer.callbacks if isinstance(callback, WriteResults))
        path = results.folder / "figures" / "group_confusion.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure = draw_confusion(pl_module.group_confusion, pl_module.classes)
        figure.savefig(path, dpi=120)
        plt.close(figure)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("test/group_confusion", [str(path)])


def draw_confusion(table: NDArray[np.int64], classes: ClassSet) -> Any:
    """Draw the shares of each true class that were called each class.

    Args:
        table: (C + 1, C) as above.
        classes: The class set of rows and columns.

    Returns:
        A matplotlib figure.
    """
    counts = table[:-1]  # the last row is of unknown truth
    share = shares_of_truth(counts)
    figure, axis = plt.subplots(figsize=(6.2, 5.2), layout="constrained")
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [f"{index} {leaf.name}" for index, leaf in enumerate(classes.leaves)]
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    voxels = [f"{name}\n(n = {count:,})" for name, count in zip(names, counts.sum(1), strict=True)]
    axis.set_yticks(range(len(names)), voxels)
    axis.set(
        xlabel="model",
        ylabel="reader",
        title="share of the reader's voxels" + ("" if classes.outside else " inside the lungs"),
    )
    for (row, column), value in np.ndenumerate(share):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axis.text(column, row, text, ha="center", va="center", color="white" if value > 0.5 else "black")
    return figure
