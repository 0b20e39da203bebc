"""Data of the any-label task: slices with whatever is known of them, from masks, readers and the scan as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from batch import SliceBatch
from cohort.training_statistics import Statistics
from ct.classes import INFECTION, ClassSet
from ct.refusal import Refusal, word_of
from datamodules.opacity_data import OpacityData, OpacityDataset
from datamodules.slice_file import array_shape, read_slice
from datamodules.slices import SliceDataset, SliceTable

MOST_LEAVES = 15  # bits of a positive int16
PAPER_STATISTICS = (-653.2, 628.5)  # mean and deviation of HU, paper L3


class AnyLabelDataset(OpacityDataset):
    """Slices with `target`, `border`, `votes`, `allowed` and `bits` (see SliceBatch).

    Args:
        table: The slices.
        context: Number of adjacent slices, odd.
        borders: Folder of the borders of every scan.
        classes: Whose leaves they are.
        told_apart: Findings and leaves that count of what masks tell apart; None for all.
        bits: Keys of the patient-level labels that count.
    """

    def __init__(
        self,
        table: SliceTable,
        context: int,
        borders: Path,
        classes: ClassSet,
        told_apart: Sequence[str] | None,
        bits: Sequence[str],
    ) -> None:
        super().__init__(table, context, borders, classes)
        self.told_apart = told_apart
        # What is not used is unknown.
        self.bits = np.stack([table.scans[f"has_{key}"] if key in bits else np.full(len(table.scans), -1)
                              for key in classes.unions], 1).astype(np.int8)  # fmt: skip
        self.masks_of_atoms = [
            _mask_per_leaf(joined(classes, str(drawn).split(";") if isinstance(drawn, str) else None, told_apart))
            for drawn in table.scans["labels"]
        ]
        self.infection = joined(classes, [INFECTION], told_apart) if classes.has(INFECTION) else None

    def __getitems__(self, indices: list[int]) -> SliceBatch:
        batch = super().__getitems__(indices)
        allowed = np.stack([self.allowed_of(row) for row in np.asarray(indices, dtype=np.int64)])
        batch["allowed"] = torch.from_numpy(allowed[:, None])
        batch["bits"] = torch.from_numpy(self.bits[self.table.scan[np.asarray(indices)]])
        if self.told_apart is not None:
            batch["votes"].zero_()  # votes tell every leaf apart
        return batch

    def read_target(self, row: np.int64, out: NDArray[np.int8]) -> None:
        """Read the leaves of a slice into (1, H, W), -1 where masks leave several possible."""
        super().read_target(row, out)
        masks = self.masks_of_atoms[self.table.scan[row]]
        is_alone = np.array([mask.bit_count() == 1 for mask in masks.tolist()])
        out[(out >= 0) & ~is_alone[out.clip(min=0)]] = -1

    def allowed_of(self, row: np.int64) -> NDArray[np.int16]:
        """Return the leaves that each pixel of a slice may have, a bit for each, int16 (H, W).

        A pattern mask comes before an infection mask, and both come before the scan's own labels: what was drawn at a
        pixel is not ruled out there by what was said of the whole.
        """
        scan, z = self.table.scan[row], self.table.z[row]
        shape = array_shape(self.file(row, "lung"))[1:]
        allowed = np.full(shape, (1 << len(self.classes.leaves)) - 1, np.int16)
        if self.infection is not None and self.of_scan(row, "has_infection_mask"):
            inside, infected = set(self.classes.indices_of(INFECTION)), read_slice(self.file(row, "infection"), z)
            for value, leaves in ((1, inside), (0, set(self.classes.indices) - inside)):
                allowed[infected == value] = _bits_of(leaf for start in leaves for leaf in self.infection[start])
        if self.of_scan(row, "has_pattern_mask"):
            drawn = self.classes.leaves_of(read_slice(self.file(row, "patterns"), z))
            allowed = np.where(drawn >= 0, self.masks_of_atoms[scan][drawn.clip(min=0)], allowed)
        absent = zip(self.classes.unions.values(), self.bits[scan], strict=True)
        left = allowed & ~np.int16(_bits_of(leaf for leaves, bit in absent if bit == 0 for leaf in leaves))
        return np.where(left != 0, left, allowed)


def joined(classes: ClassSet, drawn: Sequence[str] | None, told_apart: Sequence[str] | None) -> list[set[int]]:
    """Return for every leaf those that are not told from it, where a mask draws some classes and some of them count.

    Args:
        classes: The class set.
        drawn: Findings and leaves that the mask draws; None for all.
        told_apart: Findings and leaves that count; None for all.
    """
    parts = [classes.atoms(keys) for keys in (drawn, told_apart) if keys is not None]
    groups = [{index} for index in classes.indices]
    while True:
        wider = [group.union(*(atoms[leaf] for atoms in parts for leaf in group)) for group in groups]
        if wider == groups:
            return groups
        groups = wider


def _bits_of(leaves: Any) -> int:
    return sum(1 << leaf for leaf in set(leaves))


def _mask_per_leaf(groups: Sequence[set[int]]) -> NDArray[np.int16]:
    return np.array([_bits_of(group) for group in groups], np.int16)


class AnyLabelData(OpacityData):
    """Slices of a cohort whose sites have different labels; training slices of which nothing is known are not read.

    Args:
        cohort: Path of cohort.csv.
        prepared: Folder under which prepared arrays are kept; each cohort and size gets its own folder there.
        size: Side of the prepared slices in pixels.
        context: Adjacent slices in the input.
        batch_size: Slices per batch and process.
        num_workers: Loader processes; 0 reads in the training process.
        prepare_jobs: Processes that prepare scans.
        classes: Class set of the pattern masks, as in OpacityData.
        told_apart: Findings and leaves that training may tell apart by the masks, to find out what coarser masks are
            worth; None for all that they draw. Validation and test see all.
        bits: Findings and leaves whose patient-level labels count; None for all, an empty list for none.
        balanced: Finding whose scans are half of every batch, as paper EM's authors draw consolidation; blank draws
            every slice once per epoch.
    """

    left_out = "slices of which nothing is known"
    reads_partial_masks = True

    def __init__(
        self,
        cohort: str = "cohorts/mixed/cohort.csv",
        prepared: str = "prepared",
        size: int = 512,
        context: int = 1,
        batch_size: int = 16,
        num_workers: int = 0,
        prepare_jobs: int = 2,
        classes: str = "l3",
        told_apart: list[str] | None = None,
        bits: list[str] | None = None,
        balanced: str = "",
    ) -> None:
        super().__init__(cohort, prepared, size, context, batch_size, num_workers, prepare_jobs, classes)
        if len(self.classes.leaves) > MOST_LEAVES:
            text = "the class set {classes} has {leaves} leaves; expected at most {most}"
            raise Refusal(text, classes=self.classes.name, leaves=len(self.classes.leaves), most=MOST_LEAVES)
        self.told_apart = told_apart
        self.bits = list(self.classes.unions) if bits is None else bits
        self.balanced = balanced
        for option, keys in (("told_apart", told_apart), ("bits", bits), ("balanced", [balanced] if balanced else [])):
            for key in keys or ():
                if key not in self.classes.unions:
                    raise Refusal(
                        "data.{option} has {key!r}; expected some of {keys}, the findings and leaves of the class set",
                        option=word_of(option, ("told_apart", "bits", "balanced")),
                        key=key,
                        keys=", ".join(self.classes.unions),
                    )

    def dataset(self, table: SliceTable) -> SliceDataset:
        told_apart = self.told_apart if self._is_training(table) else None
        return AnyLabelDataset(table, self.context, self.borders, self.classes, told_apart, self.bits)

    def _is_training(self, table: SliceTable) -> bool:
        return bool((table.scans["split"] == "train").all())

    def usable(self, table: SliceTable, training: bool) -> NDArray[np.bool_]:
        labelled = super().usable(table, training)
        if not training:
            return labelled
        bits = [table.per_slice(f"has_{key}") != -1 for key in self.bits]
        infection_alone = (table.per_slice("has_infection_mask") == 1) & (table.per_slice("has_pattern_mask") == 0)
        drawn = infection_alone | (table.per_slice("draws_infection") == 1)
        return np.any([labelled, drawn, *bits], 0)

    def targets(self, split: str, rows: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """Yield what the masks leave possible in given rows of a split's table, int16 (1, H, W) as in SliceBatch."""
        dataset = self.dataset(self.slice_table(split))
        assert isinstance(dataset, AnyLabelDataset)
        return (dataset.allowed_of(row)[None] for row in rows)

    def balance(self, table: SliceTable, rows: NDArray[np.int64]) -> NDArray[np.int8] | None:
        if not self.balanced:
            return None
        return (table.per_slice(f"has_{self.balanced}")[rows] == 1).astype(np.int8)

    def statistics(self, low_hu: float, high_hu: float) -> Statistics:
        """Return mean and deviation of HU and frequency of each leaf, as far as training may know them.

        They are counted where pattern masks are; leaves that training does not tell apart share their frequency.
        Without any pattern mask HU are paper L3's, and no leaf is weighed.
        """
        leaves = len(self.classes.leaves)
        if not (self.slice_table("train").scans["has_pattern_mask"] == 1).any():
            return Statistics(*PAPER_STATISTICS, (0.0,) * leaves, 0, 0)
        counted = super().statistics(low_hu, high_hu)
        groups = joined(self.classes, None, self.told_apart)
        shared = (sum(counted.group_frequency[leaf] for leaf in group) / len(group) for group in groups)
        return replace(counted, group_frequency=tuple(shared))
