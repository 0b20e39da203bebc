"""Data of the multi-class task: single slices with the classes that one or several readers drew."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from batch import SliceBatch
from cohort.prepare.prepared_index import pixel_size_mm
from cohort.training_statistics import Statistics, training_statistics
from ct.borders import nearest_border
from ct.classes import ClassSet, read_class_set
from datamodules.slice_data import SliceData
from datamodules.slice_file import read_slice
from datamodules.slices import SliceDataset, SliceTable
from machine.whole_file import whole_file


class OpacityDataset(SliceDataset):
    """Slices with `target` (leaves of a class set), `border` and `votes` (see SliceBatch).

    Args:
        table: The slices.
        context: Number of adjacent slices, odd (paper L3: 1).
        borders: Folder of the borders of every scan.
        classes: Whose leaves they are.
    """

    target_channels = 1

    def __init__(self, table: SliceTable, context: int, borders: Path, classes: ClassSet) -> None:
        super().__init__(table, context)
        self.borders, self.classes = borders, classes

    def __getitems__(self, indices: list[int]) -> SliceBatch:
        batch = super().__getitems__(indices)
        size = batch["image"].shape[-1]
        border = np.zeros((len(indices), 2, size, size), np.uint8)
        indices_of_leaves = np.array(self.classes.indices)[:, None, None]
        votes = np.zeros((len(indices), len(indices_of_leaves), size, size), np.uint8)
        for number, row in enumerate(np.asarray(indices)):
            if self.of_scan(row, "has_pattern_mask"):
                path = self.borders / f"{self.of_scan(row, 'scan_id')}.npy"
                border[number] = read_slice(path, self.table.z[row])
            if self.of_scan(row, "readers") > 1:
                readers = np.load(self.file(row, "readers"), mmap_mode="r")[:, self.table.z[row]]
                votes[number] = (self.classes.leaves_of(readers)[:, None] == indices_of_leaves).sum(0)
        batch["border"], batch["votes"] = torch.from_numpy(border), torch.from_numpy(votes)
        return batch

    def read_target(self, row: np.int64, out: NDArray[np.int8]) -> None:
        """Read the leaves of a slice into (1, H, W), which is -1 and stays so where unlabelled."""
        if self.of_scan(row, "has_pattern_mask"):
            out[0] = self.classes.leaves_of(read_slice(self.file(row, "patterns"), self.table.z[row]))


class OpacityData(SliceData):
    """Slices of a cohort for the multi-class task; slices without any label are not read.

    Args:
        cohort: Path of cohort.csv.
        prepared: Folder under which prepared arrays are kept; each cohort and size gets its own folder there.
        size: Side of the prepared slices in pixels (paper L3: 512).
        context: Adjacent slices in the input (paper L3: 1).
        batch_size: Slices per batch and process (paper L3: 64).
        num_workers: Loader processes; 0 reads in the training process.
        prepare_jobs: Processes that prepare scans.
        classes: Class set of the pattern masks: a name of experiments/classes, or the path of a file like those. The
            model needs the same.
    """

    left_out = "slices without a labelled pixel"

    def __init__(
        self,
        cohort: str = "cohorts/opacity/cohort.csv",
        prepared: str = "prepared",
        size: int = 512,
        context: int = 1,
        batch_size: int = 16,
        num_workers: int = 0,
        prepare_jobs: int = 2,
        classes: str = "l3",
    ) -> None:
        class_set = read_class_set(classes)
        super().__init__(cohort, prepared, size, context, batch_size, num_workers, prepare_jobs, class_set)
        self.borders = self.prepared / ".borders" / class_set.digest

    def prepare_data(self) -> None:
        """Prepare the scans, and find the borders in every label map once: they do not change."""
        super().prepare_data()
        index = SliceTable.read_index(self.prepared)
        self.borders.mkdir(parents=True, exist_ok=True)
        labelled = index[index["has_pattern_mask"] == 1].itertuples()
        for scan in tqdm(labelled, "borders", unit="scan", leave=False, disable=None):
            source, path = Path(scan.folder) / "patterns.npy", self.borders / f"{scan.scan_id}.npy"
            # The same time, not a later one: clocks are set, and borders of another label map would be read in silence.
            changed = source.stat().st_mtime_ns
            if not path.is_file() or path.stat().st_mtime_ns != changed:
                pixel_mm = pixel_size_mm(scan.spacing_y_mm, scan.spacing_x_mm, self.size)
                save_borders(source, pixel_mm, path, self.classes)
                os.utime(path, ns=(changed, changed))

    def dataset(self, table: SliceTable) -> SliceDataset:
        return OpacityDataset(table, self.context, self.borders, self.classes)

    def usable(self, table: SliceTable, training: bool) -> NDArray[np.bool_]:
        return table.labelled_pixels > 0

    def statistics(self, low_hu: float, high_hu: float) -> Statistics:
        """Return mean and deviation of HU and frequency of each leaf in the training slices, counted once and kept."""
        return training_statistics(self.prepared, (low_hu, high_hu), self.prepare_jobs, self.classes)

    @property
    def pixel_mm(self) -> float:
        """Median pixel size of the training scans."""
        spacings = self.slice_table("train").scans[["spacing_y_mm", "spacing_x_mm"]].to_numpy()
        return float(np.median([pixel_size_mm(y, x, self.size) for y, x in spacings]))


def save_borders(patterns: Path, spacing_mm: tuple[float, float], path: Path, classes: ClassSet) -> None:
    """Write the borders (see `ct.borders`) of a scan's label map, uint8 (Z, 2, H, W), whole or not at all."""
    codes = np.load(patterns, mmap_mode="r")
    borders = np.stack([nearest_border(classes.leaves_of(plane), spacing_mm) for plane in codes])
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, borders)
