"""The base of both papers' data: a prepared cohort, its tables of slices, and loaders of whole batches."""

import os
import sys
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
from cohort.prepare.prepare_cohort import PreparedCohort, prepare_cohort, prepared_folder
from cohort.table import SPLITS
from ct.classes import EM, ClassSet
from ct.refusal import Refusal, word_of
from datamodules.samplers import EpochSampler, evaluation_share
from datamodules.slices import SliceDataset, SliceTable


def _as_fetched(batch: Any) -> Any:
    return batch


def _check_numbers(minimum: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < minimum:
            raise ValueError(f"data.{name} is {number}; expected a whole number from {minimum} on")


class SliceData(LightningDataModule):
    """Slices of a cohort; a subclass decides which of them are read and what a batch holds.

    Args:
        cohort: Path of cohort.csv.
        prepared: Folder under which prepared arrays are kept; each cohort and size gets its own folder there.
        size: Side of the prepared slices in pixels.
        context: Adjacent slices in a stack.
        batch_size: Slices per batch and process.
        num_workers: Loader processes; 0 reads in the training process.
        prepare_jobs: Processes that prepare scans.
        classes: Whose codes the pattern masks hold.

    Attributes:
        left_out: What of the training scans is not `usable`, as a user would say it.
        reads_partial_masks: Whether training scans may have masks that draw some classes only.
    """

    left_out = "slices without lungs"
    reads_partial_masks = False  # masks that draw some classes only (the column labels)

    def __init__(
        self,
        cohort: str,
        prepared: str,
        size: int,
        context: int,
        batch_size: int,
        num_workers: int,
        prepare_jobs: int,
        classes: ClassSet = EM,
    ) -> None:
        super().__init__()
        _check_numbers(1, size=size, context=context, batch_size=batch_size, prepare_jobs=prepare_jobs)
        _check_numbers(0, num_workers=num_workers)
        if context % 2 == 0:
            raise ValueError(f"data.context is {context}; expected an odd number: a slice and as many on either side")
        self.cohort, self.size, self.context, self.batch_size = Path(cohort), size, context, batch_size
        self.num_workers, self.prepare_jobs = num_workers, prepare_jobs
        self.classes = classes
        self.prepared = prepared_folder(self.cohort, size, prepared, classes)
        self._result: PreparedCohort | None = None
        self._tables: dict[str, SliceTable] = {}

    # -- what a subclass decides ---------------------------------------------------------------------------------------

    def dataset(self, table: SliceTable) -> SliceDataset:
        """Make the dataset that reads batches for the rows of a table."""
        return SliceDataset(table, self.context)

    def usable(self, table: SliceTable, training: bool) -> NDArray[np.bool_]:
        """Tell which rows are read, bool (N,)."""
        return np.ones(len(table), dtype=np.bool_)

    def balance(self, table: SliceTable, rows: NDArray[np.int64]) -> NDArray[np.int8] | None:
        """Return the weak labels of training rows, int8 (n,), for balanced batches, or None for a plain shuffle."""
        return None

    # -- mechanics -----------------------------------------------------------------------------------------------------

    @property
    def verdicts_csv(self) -> Path:
        """The file with the verdict on every scan of the cohort, from when it was prepared."""
        return self.prepared / "verdicts.csv"

    def prepare_data(self) -> None:
        """Prepare what is not yet prepared (one process does; the others wait) and say if scans were refused."""
        if self._result is not None:  # the test after the training; refused scans would be tried again
            return
        self._result = prepare_cohort(self.cohort, self.prepared, self.size, self.prepare_jobs, self.classes)
        if self._result.refused:
            print(
                f"warning: {self._result.refused} of {len(self._result.verdicts)} scans of {self.cohort} were refused "
                f"and are left out; {self.verdicts_csv} says why",
                file=sys.stderr,
            )

    def setup(self, stage: str) -> None:
        """Read the tables of all splits before a training, which ends with a test: an empty one is an error now."""
        for split in SPLITS if stage == "fit" else ():
            self.slice_table(split)

    def slice_table(self, split: str) -> SliceTable:
        """Return the slices of split train, val or test."""
        if split not in self._tables:
            table = SliceTable.read(self.prepared, split)
            self._refuse_partial_masks(split, table)
            self._tables[split] = table
        return self._tables[split]

    def _refuse_partial_masks(self, split: str, table: SliceTable) -> None:
        partial = table.scans["labels"].notna()
        if partial.any() and not (self.reads_partial_masks and split == "train"):
            raise Refusal(
                "{cohort}: {count} scans of split '{split}' have a pattern mask that draws some classes only (column "
                "labels), the first is {scan}; expected none here: only training scans of "
                "datamodules.any_label_data.AnyLabelData may have one",
                cohort=self.cohort,
                count=int(partial.sum()),
                split=word_of(split, SPLITS),
                scan=table.scans["scan_id"][partial].iloc[0],
            )

    def batches(self, split: str, indices: NDArray[np.int64], batch_size: int) -> Iterator[SliceBatch]:
        """Yield batches of given rows of a split's table, unaugmented, read in this process."""
        dataset = self.dataset(self.slice_table(split))
        for start in range(0, len(indices), batch_size):
            yield dataset.__getitems__(indices[start : start + batch_size].tolist())

    def targets(self, split: str, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int8]]:
        """Yield the targets of given rows of a split's table, each int8 (C, H, W) as in SliceBatch."""
        dataset = self.dataset(self.slice_table(split))
        return map(dataset.target_of, rows)

    def train_indices(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of the train table that this rank trains on in `epoch`, int64 (n,)."""
        return self._train_sampler(epoch).epoch_indices(epoch)

    def own_train_indices(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of the train table that are this rank's alone in `epoch`, int64 (n,); see `EpochSampler`."""
        return self._train_sampler(epoch).own_indices(epoch)

    def train_dataloader(self) -> DataLoader[SliceBatch]:
        # Lightning iterates before it sets the epoch after a resume: the sampler starts at the right epoch by itself.
        progress: Any = self.trainer.fit_loop.epoch_progress.current if self.trainer else None
        epoch = progress.processed if progress else 0
        sampler = self._train_sampler(epoch)
        if len(sampler) < self.batch_size:
            raise Refusal(
                "this rank has {slices} training slices, fewer than one batch of {size}; lower "
                "--data.batch_size or add training scans to {cohort}",
                slices=len(sampler),
                size=self.batch_size,
                cohort=self.cohort,
            )
        return self._loader(self.dataset(self.slice_table("train")), sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[SliceBatch]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[SliceBatch]:
        return self._evaluation_loader("test")

    def _train_sampler(self, epoch: int) -> EpochSampler:
        table = self.slice_table("train")
        rows = np.flatnonzero(self.usable(table, training=True))
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        return EpochSampler(rows, self.balance(table, rows), seed, epoch, *self._rank())

    def _evaluation_loader(self, split: str) -> DataLoader[SliceBatch]:
        table = self.slice_table(split)
        rows = np.flatnonzero(self.usable(table, training=False))
        rank_zero_info(f"{split}: {len(table.scans)} scans, {len(rows)} slices")
        share = evaluation_share(rows, *self._rank(), self.batch_size)
        return self._loader(self.dataset(table), share.tolist(), drop_last=False)

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
