"""Paper EM's data: stacks of adjacent slices with strong (pixel) and weak (patient) labels."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from batch import SliceBatch
from ct.prepare import prepare_cohort
from datamodules.samplers import EpochSampler, rank_share
from datamodules.slices import SliceDataset, SliceTable


def _as_fetched(batch: Any) -> Any:
    return batch


class InfectionData(LightningDataModule):
    """Slices of a cohort for stage 1 (infection) and stage 2 (consolidation by EM).

    Args:
        cohort: Path of cohort.csv.
        prepared: Folder under which prepared arrays are kept; each cohort and size gets its own folder there.
        size: Side of the prepared slices in pixels (paper EM: 256).
        context: Adjacent slices in a stack (paper EM: 7).
        batch_size: Slices per batch and process (paper EM: 16).
        weakly_labelled: Train only on patients whose weak label is known (stage 2). Slices without a pixel inside the
            lungs are left out in either stage.
        balanced: Draw patients with and without consolidation equally often (the authors' scheme for stage 2; needs
            `weakly_labelled`). False draws every slice once per epoch.
        num_workers: Loader processes; 0 reads in the training process.
        prepare_jobs: Processes that prepare scans.
    """

    def __init__(
        self,
        cohort: str = "cohorts/phantom/cohort.csv",
        prepared: str = "prepared",
        size: int = 256,
        context: int = 7,
        batch_size: int = 16,
        weakly_labelled: bool = False,
        balanced: bool = False,
        num_workers: int = 0,
        prepare_jobs: int = 2,
    ) -> None:
        super().__init__()
        self.cohort, self.size, self.context, self.batch_size = Path(cohort), size, context, batch_size
        self.weakly_labelled, self.balanced = weakly_labelled, balanced
        self.num_workers, self.prepare_jobs = num_workers, prepare_jobs
        if balanced and not weakly_labelled:
            raise ValueError(
                "balanced is true but weakly_labelled is false; balancing needs patients whose label is known"
            )
        # Two cohorts may share a folder name: the hash of the path keeps their arrays apart.
        key = hashlib.sha256(str(self.cohort.resolve()).encode()).hexdigest()[:8]
        self.prepared = Path(prepared) / f"{self.cohort.resolve().parent.name}-{size}-{key}"
        self._tables: dict[str, SliceTable] = {}

    def prepare_data(self) -> None:
        """Prepare what is not yet prepared (one process does; the others wait)."""
        prepare_cohort(self.cohort, self.prepared, size=self.size, jobs=self.prepare_jobs)

    def slice_table(self, split: str) -> SliceTable:
        """The slices of split train, val or test."""
        if split not in self._tables:
            self._tables[split] = SliceTable.read(self.prepared, split)
        return self._tables[split]

    def batches(self, split: str, indices: NDArray[np.int64], batch_size: int) -> Iterator[SliceBatch]:
        """Unaugmented batches of given rows of a split's table, in this process."""
        dataset = SliceDataset(self.slice_table(split), self.context)
        for start in range(0, len(indices), batch_size):
            yield dataset.__getitems__(indices[start : start + batch_size].tolist())

    def train_indices(self, epoch: int) -> NDArray[np.int64]:
        """int64 (n,): the rows of the train table that this rank sees in `epoch`."""
        return self._train_sampler(epoch).epoch_indices(epoch)

    def train_dataloader(self) -> DataLoader[SliceBatch]:
        # Lightning iterates before it sets the epoch after a resume: the sampler starts at the right epoch by itself.
        progress: Any = self.trainer.fit_loop.epoch_progress.current if self.trainer else None
        epoch = progress.processed if progress else 0
        sampler = self._train_sampler(epoch)
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"this rank has {len(sampler)} training slices, fewer than one batch of {self.batch_size}; "
                f"lower --data.batch_size or add training scans to {self.cohort}"
            )
        dataset = SliceDataset(self.slice_table("train"), self.context)
        return self._loader(dataset, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[SliceBatch]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[SliceBatch]:
        return self._evaluation_loader("test")

    def _train_sampler(self, epoch: int) -> EpochSampler:
        table = self.slice_table("train")
        usable = table.lung_pixels > 0
        if self.weakly_labelled:
            usable &= table.weak_label >= 0
        rows = np.flatnonzero(usable)
        weak_label = table.weak_label[rows] if self.balanced else None
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        return EpochSampler(rows, weak_label, seed, epoch, *self._rank())

    def _evaluation_loader(self, split: str) -> DataLoader[SliceBatch]:
        table = self.slice_table(split)
        share = rank_share(np.arange(len(table)), *self._rank(), equal=False)
        rank_zero_info(f"{split}: {len(table.scans)} scans, {len(table)} slices")
        return self._loader(SliceDataset(table, self.context), share.tolist(), drop_last=False)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self, dataset: SliceDataset, sampler: EpochSampler | list[int], *, drop_last: bool
    ) -> DataLoader[SliceBatch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=_as_fetched,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
