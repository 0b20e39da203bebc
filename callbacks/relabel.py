"""The E-step of paper EM within a training: which slices get new labels, when, and what is logged of it."""

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from batch import SliceBatch
from ct.refusal import Refusal

LATENT = "latent"  # folder of a run while it trains
STILL = 0.05  # relative drift of the labelled share up to which a training counts as converged
LEAST_E_STEPS = 8  # fewer tell no trend: the first of them labels all that UNet-1 found
HEALTHY_SHARE = (0.08, 0.95)  # labelled share of the infected pixels of positive patients; beyond it EM has collapsed
MENTIONED, LOST = 0.02, 0.05  # a leaf that once had 2 % of the latent labels is lost at a twentieth of what it had


class Relabel(Callback):
    """Give the training slices of patients with the finding new latent labels.

    Slices of other patients need no forward pass: their latent labels follow from what is known of them. Each rank
    relabels slices that it will train on, which its sampler knows for any epoch; every slice is one rank's. Then the
    ranks exchange their labels: a change shows only against the label of the epoch before, which another rank may have
    made. What is logged (`e_step/...`) describes the slices of all ranks.

    At the end it says whether the labels had come to rest, by the drift of the labelled share (see `share_drift`).

    The module offers `prepare_latent(num_slices, size, folder)`, which makes its store `latent`; `relabelled(scans)`,
    which scans are labelled; `e_step_passes(rows)` and `relabel_batch(batch)`, which count `counted` numbers (pixels
    labelled, changed, in the region where labels may be, then labelled as each of `counted_leaves`); `end_e_step()`;
    `to_input(batch)`; and takes the course of the E-step in `e_step_figures`. The data offers `slice_table`,
    `own_train_indices` and `batches`.

    Args:
        every: `epoch` relabels un-augmented slices at each epoch's start; `iteration` (the authors' scheme) relabels
            every batch as the network sees it, after augmentation.
        batch_size: Slices per forward pass of the E-step. The last batch is filled up, so more of them are more work
            for a small cohort; the hardware gains little from more.
        after: Epochs without latent labels at the start: a network that begins with random weights first learns from
            the labels that there are.
    """

    def __init__(self, every: Literal["epoch", "iteration"] = "epoch", batch_size: int = 16, after: int = 0) -> None:
        if batch_size < 1 or after < 0:
            raise ValueError(
                f"batch_size and after of Relabel are {batch_size} and {after}; expected whole numbers, from 1 on and "
                "from 0 on"
            )
        self.every, self.batch_size, self.after = every, batch_size, after
        self._shares: list[float] = []  # of every E-step so far
        self._largest: dict[str, float] = {}  # share of each leaf in the E-step in which it was largest
        self._idle = False
        self._folder: Path | None = None  # of this machine's files of latent labels

    def state_dict(self) -> dict[str, Any]:
        return {"shares": self._shares, "largest": self._largest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._shares = list(state_dict["shares"])
        self._largest = dict(state_dict.get("largest", {}))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        table = trainer.datamodule.slice_table("train")
        self._idle = not pl_module.relabelled(table.scans).any()  # the labels that there are teach alone
        log_dir = trainer.log_dir
        if log_dir is None or self.every != "epoch" or self._idle:
            pl_module.prepare_latent(len(table), trainer.datamodule.size)
            return
        # Ranks of one machine share the files: each writes the slices that are its own.
        self._folder = Path(log_dir) / LATENT / f"of-machine-{trainer.node_rank}"
        if trainer.local_rank == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            stores = pl_module.prepare_latent(len(table), trainer.datamodule.size, self._folder)
            labelled = int(pl_module.relabelled(table.scans)[table.scan].sum())
            check_room(labelled * sum(store.width for store in stores), self._folder)
        trainer.strategy.barrier("the files of latent labels are made")
        if trainer.local_rank != 0:
            pl_module.prepare_latent(len(table), trainer.datamodule.size, self._folder)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.every != "epoch":
            self._counts = torch.zeros(pl_module.counted, dtype=torch.int64, device=pl_module.device)
            return
        if self._idle or trainer.current_epoch < self.after:
            return
        start = time.perf_counter()
        if trainer.world_size > 1:
            torch.distributed.barrier()  # every rank has read the labels of the epoch before
        counts = self.relabel_own(trainer, pl_module)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(counts)  # and now all have written
            if trainer.num_nodes > 1 or not pl_module.latent.is_shared:
                self.exchange(trainer, pl_module)
        labelled, changed = counts[:2].tolist()
        values = {"labelled": labelled, "changed": changed, "seconds": time.perf_counter() - start}
        pl_module.log_dict({f"e_step/{name}": float(value) for name, value in values.items()})
        self._log_share(trainer, pl_module, counts.tolist())

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: SliceBatch, batch_idx: int) -> None:
        if self.every != "iteration" or self._idle or trainer.current_epoch < self.after:
            return
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            self._counts = self._counts + pl_module.relabel_batch(batch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.every != "iteration" or self._idle or trainer.current_epoch < self.after:
            return
        if trainer.world_size > 1:
            torch.distributed.all_reduce(self._counts)
        self._log_share(trainer, pl_module, self._counts.tolist())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._folder is not None and trainer.local_rank == 0:
            shutil.rmtree(self._folder.parent, ignore_errors=True)
        drift = share_drift(self._shares)
        if abs(drift) > STILL:  # not if it is undefined
            rank_zero_warn(
                "EM has not converged: over the last quarter of the training the labelled share of the infected "
                f"region was {abs(drift):.0%} {'higher' if drift > 0 else 'lower'} than over the quarter before; train "
                "longer (trainer.max_steps or trainer.max_epochs)"
            )

    @torch.no_grad()
    def relabel_own(self, trainer: Any, module: Any) -> Tensor:
        """Relabel this rank's own slices; return what the module counted, int64 (module.counted,)."""
        data = trainer.datamodule
        table, indices = data.slice_table("train"), data.own_train_indices(trainer.current_epoch)
        rows = indices[module.relabelled(table.scans)[table.scan[indices]]]
        hidden = not trainer.is_global_zero or trainer.progress_bar_callback is None
        counts = torch.zeros(module.counted, dtype=torch.int64, device=module.device)
        with trainer.precision_plugin.forward_context():
            for title, part, relabel in module.e_step_passes(rows):
                for batch, count in self._batches(trainer, module, part, title, hidden):
                    counted = relabel(batch, count)
                    counts += 0 if counted is None else counted
        return counts

    def exchange(self, trainer: Any, module: Any) -> None:
        """Give every rank the labels of all slices; every rank must call it."""
        data = trainer.datamodule
        table = data.slice_table("train")
        rows = np.flatnonzero(module.relabelled(table.scans)[table.scan])
        is_own = np.isin(rows, data.own_train_indices(trainer.current_epoch))
        writes = trainer.local_rank == 0 or not module.latent.is_shared
        module.latent.exchange(torch.from_numpy(rows), torch.from_numpy(is_own), writes)
        torch.distributed.barrier()

    def _log_share(self, trainer: Any, module: Any, counts: Sequence[int]) -> None:
        """Log the labelled share of the region, the same on every rank, and warn where EM collapses."""
        labelled, _, region, *of_leaves = counts
        share = labelled / max(region, 1)
        self._shares.append(share)
        module.e_step_figures = {"e_step/share": share, "e_step/drift": share_drift(self._shares)}
        module.e_step_figures |= module.end_e_step()
        module.log_dict(module.e_step_figures)
        low, high = HEALTHY_SHARE
        # Before the first M-step UNet-2 is UNet-1, and calls all of the region its own.
        if trainer.current_epoch > self.after and not low <= share <= high:
            rank_zero_warn(
                f"the E-step labelled {share:.1%} of the infected region of patients who have the finding, outside "
                f"{low:.0%}..{high:.0%}: EM is collapsing; try another learning rate, or look at stage 1's regions"
            )
        for leaf, pixels in zip(module.counted_leaves if of_leaves else (), of_leaves, strict=True):
            self._watch_leaf(leaf, pixels / max(region, 1), trainer.current_epoch > self.after)

    def _watch_leaf(self, leaf: str, share: float, warns: bool) -> None:
        """Warn where a leaf that had a part of the latent labels has lost it, or has taken all of them."""
        largest = self._largest[leaf] = max(self._largest.get(leaf, 0.0), share)
        if warns and (share > HEALTHY_SHARE[1] or (largest >= MENTIONED and share < LOST * largest)):
            rank_zero_warn(
                f"{leaf} has {share:.1%} of the latent labels, at most {largest:.1%} before: EM "
                "is collapsing; try another learning rate, or another prior"
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


def check_room(needed: int, folder: Path) -> None:
    """Refuse to begin where latent labels will not fit on the disk: a file that is mapped cannot say so later.

    Args:
        needed: Bytes of all labels, of which a run that goes on has some there already.
        folder: Their place.
    """
    needed -= sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Refusal(
            "{folder}: latent labels need {needed:.1f} GB more there, and {free:.1f} GB are free; make room, or "
            "give --runs another disk",
            folder=folder,
            needed=needed / 1e9,
            free=free / 1e9,
        )


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
