"""The end of a training that diverges: its last good checkpoints stay, and a sentence says when, why and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback
from torch import Tensor

from batch import SliceBatch
from ct.refusal import Refusal, Sentence, word_of
from training.run_folder import DIVERGED

NEVER = torch.iinfo(torch.int64).max
CHECKPOINTS = ("best.ckpt", "last.ckpt")


class StopOnDivergence(Callback):
    """End all ranks once a loss or a weight is not finite, with the first step at which one of any rank was not.

    Losses stay on the device until several are read at a time: when the logger reads the loss too (every
    `log_every_n_steps` steps), before a validation, and with the weights at the end of an epoch, before anything is
    saved. So no other step makes the host wait, and no checkpoint gets weights that are not finite.

    The module offers `weights_are_finite()`; the data `slice_table`.

    Args:
        folder: The run folder, where diverged.txt keeps the reason: the same command would diverge again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps: list[tuple[int, Tensor, list[Tensor]]] = []  # number, loss, rows of the train table

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: SliceBatch, batch_idx: int) -> None:
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # as metrics.csv counts
        self._steps.append((step, outputs["loss"], [batch["slice_index"]]))
        if (step + 1) % (trainer.log_every_n_steps or 50) == 0:
            self._check(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # Such weights have had no loss of their own yet: that would be the next step's.
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        self._steps.append((step, torch.where(pl_module.weights_are_finite(), 0.0, torch.nan), []))
        self._check(trainer)

    def _check(self, trainer: Any) -> None:
        """Read the losses since the last time; every rank has as many."""
        if not self._steps:
            return
        losses = torch.stack([loss for _, loss, _ in self._steps])
        diverged = [step for step, finite in zip(self._steps, losses.isfinite().tolist(), strict=True) if not finite]
        self._steps.clear()
        first, _, rows = diverged[0] if diverged else (NEVER, None, [])
        if trainer.world_size > 1:
            earliest = torch.tensor(first, device=losses.device)
            torch.distributed.all_reduce(earliest, torch.distributed.ReduceOp.MIN)
            rows = rows if first == earliest else []
            first = int(earliest)
        if first < NEVER:
            self._stop(trainer, first, _scans(trainer, rows))

    def _stop(self, trainer: Any, step: int, scans: list[str]) -> None:
        if not trainer.is_global_zero:
            raise SystemExit(0)  # Lightning kills all ranks, the first included, when another ends with an error
        reason = Sentence(
            "its loss or weights were not finite (NaN or infinite) from step {step} on (epoch {epoch}), "
            "most likely {cause}",
            step=step,
            epoch=trainer.current_epoch,
            cause=likely_cause(trainer, step, scans),
        )
        (self.folder / DIVERGED).write_text(reason, encoding="utf-8")
        names = [name for name in CHECKPOINTS if (self.folder / name).is_file()]
        kept = Sentence.joined(" and ", [Sentence("{name}", name=word_of(name, CHECKPOINTS)) for name in names])
        raise Refusal(
            "{folder} diverged: {reason}; kept from an epoch before: {kept}",
            folder=self.folder,
            reason=reason,
            kept=kept or Sentence("no checkpoint"),
        )


def _scans(trainer: Any, rows: list[Tensor]) -> list[str]:
    """Return the scans that rows of the train table are of, whichever rank has them; every rank must call it."""
    own_rows = [row for batch_rows in rows for row in batch_rows.tolist()]
    rows_of_ranks = [own_rows]
    if trainer.world_size > 1:
        rows_of_ranks = [[]] * trainer.world_size
        torch.distributed.all_gather_object(rows_of_ranks, own_rows)
    scan_id = trainer.datamodule.slice_table("train").per_slice("scan_id")
    return sorted({str(scan_id[row]) for row in np.concatenate(rows_of_ranks).astype(np.int64)})


def likely_cause(trainer: Any, step: int, scans: list[str]) -> Sentence:
    """Name the most likely cause of a loss that is not finite, and what to do, as the end of a sentence.

    Args:
        trainer: The trainer; its precision and optimizer are looked at.
        step: The step of that loss, from 0.
        scans: The scans in its batch, where they are known.
    """
    suspects = Sentence(" among {scans}", scans=", ".join(scans)) if scans else Sentence("")
    if str(trainer.precision).startswith("16"):
        text = "because {precision} overflows: give --trainer.precision=bf16-mixed or 32-true"
        return Sentence(text, precision=word_of(str(trainer.precision), ("16", "16-mixed", "16-true")))
    if step == 0:
        text = "because of a bad scan{suspects}, or of the weights that it started from: no step had changed them yet"
        return Sentence(text, suspects=suspects)
    group = trainer.optimizers[0].param_groups[0]
    text = "because the learning rate of {rate:g} is too high: lower --optimizer.lr; else look for a bad scan{suspects}"
    return Sentence(text, rate=group.get("initial_lr", group["lr"]), suspects=suspects)
