"""A callback for tests: what each rank labelled, and with which weights."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback


class RecordLabels(Callback):
    """Save latent labels, rows and weights of every rank after each E-step into the folder $RECORD_LABELS."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        rows = torch.from_numpy(trainer.datamodule.train_indices(trainer.current_epoch)).unique()
        weights = {key: value.clone() for key, value in pl_module.state_dict().items()}
        record = {"rows": rows, "labels": pl_module.latent.get(rows), "weights": weights}
        folder = Path(os.environ["RECORD_LABELS"])
        folder.mkdir(exist_ok=True)
        torch.save(record, folder / f"{trainer.current_epoch}_{trainer.global_rank}.pt")
