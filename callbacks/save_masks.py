"""Truth and prediction of every test scan, so that anybody can recompute the figures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm

BATCH_SIZE = 32


class SaveMasks(Callback):
    """Write masks/<scan_id>.npz beside the tested checkpoint: int8 (Z, H, W) each, on the prepared grid.

    Keys: lung; truth_infection, truth_consolidation (-1 = unknown), infection and, for stage 2, consolidation; or, for
    the multi-class task, truth_groups (-1 = unlabelled), groups and opacity. The module offers `truth(batch)`,
    `prediction(batch)` and `to_input(batch)`; the data `slice_table` and `batches`.
    """

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        folder = Path(trainer.ckpt_path).parent / "masks"
        folder.mkdir(exist_ok=True)
        table = trainer.datamodule.slice_table("test")
        for number, scan_id in enumerate(tqdm(table.scans["scan_id"], "save masks", leave=False)):
            arrays = _masks(trainer, pl_module, np.flatnonzero(table.scan == number))
            np.savez_compressed(folder / f"{scan_id}.npz", **arrays)


@torch.no_grad()
def _masks(trainer: Any, module: Any, rows: Any) -> dict[str, Any]:
    parts: dict[str, list[Any]] = {}
    for batch in trainer.datamodule.batches("test", rows, BATCH_SIZE):
        batch = module.to_input(module.transfer_batch_to_device(batch, module.device, 0))
        with trainer.precision_plugin.forward_context():
            found = module.prediction(batch)
        truth = {f"truth_{name}": mask for name, mask in module.truth(batch).items()}
        for name, mask in {"lung": batch["lung"][:, 0], **truth, **found}.items():
            parts.setdefault(name, []).append(mask.to(torch.int8).cpu().numpy())
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}
