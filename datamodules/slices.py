"""Prepared scans as rows of slices: the table and the memory-mapped dataset."""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from batch import SliceBatch
from ct.patterns import consolidation_of


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
            raise ValueError(
                f"{prepared / 'index.csv'} has no scan in split '{split}' (found {sorted(set(index['split']))}); "
                f"set split={split} for some rows of cohort.csv, or leave the column blank to have it assigned; scans "
                f"that were refused stand in {prepared / 'verdicts.csv'}"
            )
        counts = scans["slices"].to_numpy(dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        scan = np.repeat(np.arange(len(scans)), counts)
        return cls(scans, scan, np.arange(counts.sum()) - starts[scan])

    @staticmethod
    def read_index(prepared: Path) -> pd.DataFrame:
        """The prepared index.csv, one row per scan of any split, with whole paths of the folders."""
        index = pd.read_csv(prepared / "index.csv", dtype={"scan_id": str, "patient_id": str, "site": str})
        index["folder"] = [str(prepared / folder) for folder in index["folder"]]
        return index

    def __len__(self) -> int:
        return len(self.scan)

    def per_slice(self, column: str) -> NDArray[np.generic]:
        """(N,): a column of `scans`, repeated for every slice."""
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
        """What evaluation needs to know of every slice: scan_id, site, voxel_ml, weak_label."""
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

    def _counted(self, what: str) -> NDArray[np.int64]:
        folders = [Path(folder) for folder in self.scans["folder"]]
        counts = [json.loads((folder / "scan.json").read_text())[what] for folder in folders]
        return np.concatenate(counts).astype(np.int64)


@lru_cache(maxsize=256)
def open_array(path: Path) -> NDArray[Any]:
    """An array of a prepared folder."""
    # Memory-mapped: the page cache holds one copy for all workers and ranks; only open handles are kept here.
    return np.load(path, mmap_mode="r")


def _stack(volume: NDArray[np.generic], z: int, context: int) -> NDArray[np.generic]:
    """`context` adjacent slices around z; the first and last slice are repeated beyond the ends."""
    return volume[np.clip(np.arange(z - context // 2, z + context // 2 + 1), 0, len(volume) - 1)]


class SliceDataset(Dataset[SliceBatch]):
    """Reads whole batches of slices from memory-mapped arrays.

    Args:
        table: The slices.
        context: Number of adjacent slices, odd (paper EM: 7).
    """

    def __init__(self, table: SliceTable, context: int) -> None:
        if context < 1 or context % 2 == 0:
            raise ValueError(f"context is {context}, expected an odd number of slices: 1, 3, 5, 7, ...")
        self.table, self.context = table, context

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> SliceBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> SliceBatch:
        """A whole batch at once: PyTorch's fetcher calls this, so nothing is collated a second time."""
        rows = np.asarray(indices, dtype=np.int64)
        folders = [Path(str(self.table.scans["folder"].iat[scan])) for scan in self.table.scan[rows]]
        image = np.stack(
            [
                _stack(open_array(f / "hu.npy"), z, self.context)
                for f, z in zip(folders, self.table.z[rows], strict=True)
            ]
        )
        lung = np.stack([open_array(f / "lung.npy")[z] for f, z in zip(folders, self.table.z[rows], strict=True)])
        target = np.stack([self.target(f, row) for f, row in zip(folders, rows, strict=True)])
        return SliceBatch(
            image=torch.from_numpy(image),
            lung=torch.from_numpy(lung.astype(bool)[:, None]),
            target=torch.from_numpy(target),
            weak_label=torch.from_numpy(self.table.weak_label[rows]),
            slice_index=torch.from_numpy(rows),
        )

    def target(self, folder: Path, row: np.int64) -> NDArray[np.int8]:
        """int8 (2, H, W): infection and consolidation of a slice, -1 where unknown."""
        scan, z = self.table.scans.iloc[self.table.scan[row]], self.table.z[row]
        shape = open_array(folder / "hu.npy").shape[1:]
        unknown = np.full(shape, -1, dtype=np.int8)
        infection = open_array(folder / "infection.npy")[z] if scan["has_infection_mask"] else unknown
        consolidation = (
            consolidation_of(open_array(folder / "patterns.npy")[z]) if scan["has_pattern_mask"] else unknown
        )
        return np.stack([infection, consolidation]).astype(np.int8)
