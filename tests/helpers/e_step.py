"""The E-step as one rank of several does it, without any other process: it must not need them."""

from types import SimpleNamespace
from typing import Any

from pytorch_lightning.plugins import Precision

from callbacks.relabel import Relabel
from lightning_modules.latent import MaskStore


def labels_of_rank(module: Any, data: Any, rank: int, world_size: int, batch_size: int = 32) -> MaskStore:
    """Latent labels of the training slices that a rank has in epoch 0; others stay unknown."""
    trainer: Any = SimpleNamespace(
        datamodule=data,
        current_epoch=0,
        global_rank=rank,
        world_size=world_size,
        is_global_zero=False,
        precision_plugin=Precision(),
        log_dir=None,
    )
    data.trainer = trainer
    relabel = Relabel(batch_size=batch_size)
    relabel.on_fit_start(trainer, module)
    relabel.relabel_own(trainer, module)
    labels: MaskStore = module.latent
    return labels
