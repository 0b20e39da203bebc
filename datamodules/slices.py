"""Prepared scans as rows of slices: the table, and the dataset that reads batches of them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from batch import SliceBatch
from cohort.table import SPLITS
from ct.classes import CONSOLIDATION, EM
from ct.refusal import Refusal, word_of
from datamodules.slice_file import array_shape, read_slice, read_slices


@dataclass(frozen=True)
class SliceTable:
    """One row per slice of one split, in the order of index.csv, then foot to head.

    Attributes:
        scans: One row per scan, the columns of the prepared index.csv.
        scan: int64 (N,), row of `scans` for each slice.
        z: int64 (N,), index of the slice within its scan.
    """

    scans: pd.DataFrame
    scan: NDArray[np.int64]
    z: NDArray[np.int64]

    @classmethod
    def read(cls, prepared: Path, split: str) -> "SliceTable":
        """Read the slices of one split from a prepared folder.

        Raises:
            ValueError: If the split has no scan.
        """
        index = cls.read_index(prepared)
        scans = index[index["split"] == split].reset_index(drop=True)
        if scans.empty:
            raise Refusal(
                "{path} has no scan in split '{split}' (found {found}); set split={split} for some rows of "
                "cohort.csv, or leave the column blank to have it assigned; scans that were refused stand in "
                "{file}",
                path=prepared / "index.csv",
                split=word_of(split, SPLITS),
                found=sorted(set(index["split"])),
                file=prepared / "verdicts.csv",
            )
        counts = scans["slices"].to_numpy(dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        scan = np.repeat(np.arange(len(scans)), counts)
        return cls(scans, scan, np.arange(counts.sum()) - starts[scan])

    @staticmethod
    def read_index(prepared: Path) -> pd.DataFrame:
        """Read the prepared index.csv, one row per scan of any split, with whole paths of the folders."""
        index = pd.read_csv(prepared / "index.csv", dtype={"scan_id": str, "patient_id": str, "site": str})
        index["folder"] = [str(prepared / folder) for folder in index["folder"]]
        return index

    def __len__(self) -> int:
        return len(self.scan)

    def per_slice(self, column: str) -> NDArray[np.generic]:
        """Return a column of `scans`, repeated for every slice, (N,)."""
        return self.scans[column].to_numpy()[self.scan]

    @property
    def weak_label(self) -> NDArray[np.int8]:
        """int8 (N,): z of the slice's patient."""
        return self.per_slice("weak_label").astype(np.int8)

    @property
    def voxel_ml(self) -> NDArray[np.float64]:
        """float64 (N,): millilitres of a voxel of the prepared grid; NaN where the spacing is unknown."""
        columns = ["spacing_z_mm", "spacing_y_mm", "spacing_x_mm"]
        return self.scans[columns].astype(float).prod(axis=1, skipna=False).to_numpy()[self.scan] / 1000

    @cached_property
    def described(self) -> pd.DataFrame:
        """The columns that evaluation needs of every slice: scan_id, site, voxel_ml, weak_label."""
        columns = {"scan_id": self.per_slice("scan_id"), "site": self.per_slice("site")}
        return pd.DataFrame(columns | {"voxel_ml": self.voxel_ml, "weak_label": self.weak_label})

    @cached_property
    def lung_pixels(self) -> NDArray[np.int64]:
        """int64 (N,): pixels inside the lungs, as counted when the scan was prepared."""
        return self._counted("lung_pixels")

    @cached_property
    def labelled_pixels(self) -> NDArray[np.int64]:
        """int64 (N,): pixels with a pattern code, as counted when the scan was prepared."""
        return self._counted("labelled_pixels")

    @cached_property
    def whole_image(self) -> NDArray[np.bool_]:
        """bool (scans,): whether every pixel of a scan counts as lung, because its mask says so."""
        return np.array(self._recorded("whole_image"), dtype=np.bool_)

    def _counted(self, key: str) -> NDArray[np.int64]:
        return np.concatenate(self._recorded(key)).astype(np.int64)

    def _recorded(self, key: str) -> list[Any]:
        return [json.loads((Path(folder) / "scan.json").read_text())[key] for folder in self.scans["folder"]]


class SliceDataset(Dataset[SliceBatch]):
    """Whole batches of slices, read from disk each time; nothing of a scan is kept.

    Args:
        table: The slices.
        context: Number of adjacent slices, odd (paper EM: 7).
    """

    target_channels = 2

    def __init__(self, table: SliceTable, context: int) -> None:
        if context < 1 or context % 2 == 0:
            raise Refusal("context is {context}, expected an odd number of slices: 1, 3, 5, 7, ...", context=context)
        self.table, self.context = table, context
        # As plain arrays: a cell of a data frame costs as much as reading a mask.
        self._of_scan = {name: column.to_numpy() for name, column in table.scans.items()}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> SliceBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> SliceBatch:
        """Read a whole batch at once: PyTorch's fetcher calls this, so nothing is collated a second time."""
        rows = np.asarray(indices, dtype=np.int64)
        height, width = array_shape(self.file(rows[0], "lung"))[1:]
        image = np.empty((len(rows), self.context, height, width), np.int16)
        lung = np.empty((len(rows), 1, height, width), np.int8)
        target = np.full((len(rows), self.target_channels, height, width), -1, np.int8)
        for number, row in enumerate(rows):
            self.read_stack(row, image[number])
            read_slices(self.file(row, "lung"), self.table.z[row], lung[number])
            self.read_target(row, target[number])
        return SliceBatch(
            image=torch.from_numpy(image),
            lung=torch.from_numpy(lung != 0),
            target=torch.from_numpy(target),
            weak_label=torch.from_numpy(self.of_scan(rows, "weak_label").astype(np.int8)),
            slice_index=torch.from_numpy(rows),
        )

    def of_scan(self, row: Any, column: str) -> Any:
        """Return what index.csv has in a column for the scan of a row, or for the scans of an array of rows."""
        return self._of_scan[column][self.table.scan[row]]

    def file(self, row: np.int64, name: str) -> Path:
        """Return the path of an array of the scan of a row."""
        return Path(self.of_scan(row, "folder"), f"{name}.npy")

    def read_stack(self, row: np.int64, out: NDArray[np.int16]) -> None:
        """Read the slices around a row's into (context, H, W); the first and last are repeated beyond the ends."""
        low = self.table.z[row] - self.context // 2
        below, above = max(-low, 0), max(low + self.context - self.of_scan(row, "slices"), 0)
        inside = slice(below, self.context - above)
        read_slices(self.file(row, "hu"), low + below, out[inside])
        out[:below], out[inside.stop :] = out[below], out[inside.stop - 1]

    def target_of(self, row: np.int64) -> NDArray[np.int8]:
        """Read the target of a slice alone, (target_channels, H, W)."""
        target = np.full((self.target_channels, *array_shape(self.file(row, "lung"))[1:]), -1, np.int8)
        self.read_target(row, target)
        return target

    def read_target(self, row: np.int64, out: NDArray[np.int8]) -> None:
        """Read infection and consolidation of a slice into (2, H, W), which is -1 and stays so where unknown."""
        z = self.table.z[row]
        if self.of_scan(row, "has_infection_mask"):
            read_slices(self.file(row, "infection"), z, out[:1])
        if self.of_scan(row, "has_pattern_mask"):
            out[1] = EM.mask_of(CONSOLIDATION, read_slice(self.file(row, "patterns"), z))
