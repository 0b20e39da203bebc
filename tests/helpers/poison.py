"""A callback for tests: one batch of one rank that makes the loss NaN."""

import os
from typing import Any

from pytorch_lightning import Callback

from batch import SliceBatch


class Poison(Callback):
    """Make the network's input NaN on one rank in one step, both given as $POISON, "<rank> <step>"."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: SliceBatch, batch_idx: int) -> None:
        if (trainer.global_rank, trainer.global_step) == tuple(map(int, os.environ["POISON"].split())):
            batch["x"].fill_(float("nan"))
