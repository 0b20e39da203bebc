"""The E-step of paper EM within a training: which slices get new labels, when, and what is logged of it."""

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from batch import SliceBatch

STILL = 0.05  # relative drift of the labelled share up to which a training counts as converged
LEAST_E_STEPS = 8  # fewer tell no trend: the first of them labels all that UNet-1 found
HEALTHY_SHARE = (0.08, 0.95)  # labelled share of the infected pixels of positive patients; beyond it EM has collapsed


class Relabel(Callback):
    """Give the training slices of patients with consolidation new latent labels.

    Slices of patients without consolidation keep y = 0 and need no forward pass. Each rank relabels slices that it will
    train on, which its sampler knows for any epoch; every slice is one rank's. Then the ranks exchange their labels: a
    change shows only against the label of the epoch before, which another rank may have made. What is logged
    (`e_step/...`) describes the slices of all ranks.

    At the end it says whether the labels had come to rest, by the drift of the labelled share (see `share_drift`).

    The module offers `infected(batch)`, `latent_labels(batch, infected)`, `prepare_latent(num_slices, size)`,
    `to_input(batch)`, the mask stores `latent` and `located`, and takes the course of the E-step in `e_step_figures`;
    the data offers `slice_table`, `own_train_indices` and `batches`.

    Args:
        every: `epoch` relabels un-augmented slices at each epoch's start; `iteration` (the authors' scheme) relabels
            every batch as the network sees it, after augmentation.
        batch_size: Slices per forward pass of the E-step. The last batch is filled up, so more of them are more work
            for a small cohort; the hardware gains little from more.
    """

    def __init__(self, every: Literal["epoch", "iteration"] = "epoch", batch_size: int = 16) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size of Relabel is {batch_size}; expected a whole number from 1 on")
        self.every, self.batch_size = every, batch_size
        self._restored: Tensor | None = None
        self._shares: list[float] = []  # of every E-step so far

    def state_dict(self) -> dict[str, Any]:
        return {"shares": self._shares}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._shares = list(state_dict["shares"])

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        table = trainer.datamodule.slice_table("train")
        unknown = int((table.scans["weak_label"] < 0).sum())
        if unknown:
            rank_zero_warn(f"{unknown} of {len(table.scans)} training scans have no weak label and take no part in EM")
        pl_module.prepare_latent(len(table), trainer.datamodule.size)
        if self._restored is not None:
            pl_module.latent.unpack(self._restored)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # Labels are made anew in every epoch; a run that goes on needs the old ones only to count what changed.
        checkpoint["latent"] = pl_module.latent.packed()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get("latent")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.every != "epoch":
            self._counts = torch.zeros(2, dtype=torch.int64, device=pl_module.device)
            return
        start = time.perf_counter()
        counts = self.relabel_own(trainer, pl_module)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(counts)
            self.exchange(trainer, pl_module)
        labelled, changed, infected = counts.tolist()
        values = {"labelled": labelled, "changed": changed, "seconds": time.perf_counter() - start}
        pl_module.log_dict({f"e_step/{name}": float(value) for name, value in values.items()})
        self._log_share(trainer, pl_module, labelled, infected)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: SliceBatch, batch_idx: int) -> None:
        if self.every != "iteration":
            return
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            infected = pl_module.infected(batch) & (batch["weak_label"] == 1).view(-1, 1, 1, 1)
            labels = pl_module.latent_labels(batch, infected)
        batch["target"] = labels.to(torch.int8)
        self._counts = self._counts + torch.stack([labels.sum(), infected.sum()])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.every != "iteration":
            return
        if trainer.world_size > 1:
            torch.distributed.all_reduce(self._counts)
        self._log_share(trainer, pl_module, *self._counts.tolist())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        drift = share_drift(self._shares)
        if abs(drift) > STILL:  # not if it is undefined
            rank_zero_warn(
                "EM has not converged: over the last quarter of the training the labelled share of the infected "
                f"region was {abs(drift):.0%} {'higher' if drift > 0 else 'lower'} than over the quarter before; train "
                "longer (trainer.max_steps or trainer.max_epochs)"
            )

    @torch.no_grad()
    def relabel_own(self, trainer: Any, module: Any) -> Tensor:
        """Relabel this rank's own slices.

        Returns:
            (3,) int64: pixels labelled, pixels changed since the last time, pixels in the infected region.
        """
        data = trainer.datamodule
        indices = data.own_train_indices(trainer.current_epoch)
        positive = indices[data.slice_table("train").weak_label[indices] == 1]
        hidden = not trainer.is_global_zero or trainer.progress_bar_callback is None
        with trainer.precision_plugin.forward_context():
            unlocated = positive[~module.located.known[torch.from_numpy(positive)].cpu().numpy()]
            for batch, _ in self._batches(trainer, module, unlocated, "locate infection", hidden):
                module.located.set(batch["slice_index"], module.infected(batch))
            infected = positive[module.located.any(torch.from_numpy(positive)).cpu().numpy()]
            counts = torch.zeros(3, dtype=torch.int64, device=module.device)
            for batch, count in self._batches(trainer, module, infected, "E-step", hidden):
                region = module.located.get(batch["slice_index"])
                labels = module.latent_labels(batch, region)
                changed = labels != module.latent.get(batch["slice_index"])
                module.latent.set(batch["slice_index"], labels)
                counts += torch.stack([mask[:count].sum() for mask in (labels, changed, region)])
        return counts

    def exchange(self, trainer: Any, module: Any) -> None:
        """Give every rank the labels of all slices; every rank must call it."""
        data = trainer.datamodule
        rows = np.flatnonzero(data.slice_table("train").weak_label == 1)
        is_own = np.isin(rows, data.own_train_indices(trainer.current_epoch))
        module.latent.exchange(*(torch.from_numpy(array).to(module.device) for array in (rows, is_own)))

    def _log_share(self, trainer: Any, module: Any, labelled: int, infected: int) -> None:
        """Log the labelled share of the infected region, the same on every rank, and warn where EM collapses."""
        share = labelled / max(infected, 1)
        self._shares.append(share)
        module.e_step_figures = {"e_step/share": share, "e_step/drift": share_drift(self._shares)}
        module.log_dict(module.e_step_figures)
        low, high = HEALTHY_SHARE
        # Before the first M-step UNet-2 is UNet-1, and calls all of the region its own.
        if trainer.current_epoch > 0 and not low <= share <= high:
            rank_zero_warn(
                f"the E-step labelled {share:.1%} of the infected region of patients with consolidation, outside "
                f"{low:.0%}..{high:.0%}: EM is collapsing; try another learning rate, or look at stage 1's regions"
            )

    def _batches(self, trainer: Any, module: Any, indices: NDArray[np.int64], title: str, hidden: bool) -> Any:
        """Yield batches of one shape, and how many of their slices count: the last is filled up with the first slices.

        In another shape numbers round otherwise, and a pixel on the edge would depend on how many slices a rank has.
        """
        total = -(-len(indices) // self.batch_size)
        batches = trainer.datamodule.batches("train", np.resize(indices, total * self.batch_size), self.batch_size)
        for number, batch in enumerate(tqdm(batches, title, total, leave=False, disable=hidden or total == 0 or None)):
            count = min(self.batch_size, len(indices) - number * self.batch_size)
            yield module.to_input(module.transfer_batch_to_device(batch, module.device, 0)), count


def share_drift(shares: Sequence[float]) -> float:
    """Return by how much the labelled share moved at the end of a training, as a share of what it was.

    The mean over the last quarter of the E-steps is compared with that over the quarter before. The very last ones say
    little: where the learning rate falls to nothing, labels come to rest converged or not.

    Args:
        shares: Labelled share of the infected region in every E-step, in order.

    Returns:
        last / before - 1: negative where the share fell; infinite where it rose from nothing; 0 where nothing is
        labelled at all; NaN with fewer than `LEAST_E_STEPS`, or where a share is undefined.
    """
    quarter = len(shares) // 4
    if len(shares) < LEAST_E_STEPS:
        return math.nan
    before, last = (math.fsum(part) / quarter for part in (shares[-2 * quarter : -quarter], shares[-quarter:]))
    if before == 0:
        return math.inf if last > 0 else last  # NaN stays NaN
    return last / before - 1
