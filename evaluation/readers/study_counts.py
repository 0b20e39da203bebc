"""Counts of a reader study, of which all its figures are views: every scan of two or more readers is read once.

Readers are matched between scans by their place in the `readers` column of cohort.csv: reader 2 of one scan is taken
to be reader 2 of every other. Scans may have different numbers of readers.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ct.classes import L3
from metrics.agreement import (
    Counts,
    Disagreement,
    average_counts,
    average_map,
    calls_of,
    disagreement,
    overlap_counts,
    pairwise_counts,
    votes_of,
)
from metrics.staple import multi_label_staple, staple

Groups = NDArray[np.int8]
Bools = NDArray[np.bool_]
Row = Mapping[Any, Any]

FEWEST_READERS = 2
FINDINGS = ("opacity", *(f"group_{group}" for group in L3.opacities))


class Overlaps(NamedTuple):
    """`overlap_counts` (..., 3) in a slice or a scan with R readers; the model's are 0 without one.

    Attributes:
        pairs: int64 (4, R, R, 3), every reader with every reader, one table per finding of `FINDINGS`.
        average: int64 (2, R, 3), opacity: each reader with the average reader that contains the reader, or does not.
        model_pairs: int64 (R, 3), opacity: the model with each reader.
        model_average: int64 (2, R, 3), as `average`, with the model judged in each reader's stead.
    """

    pairs: Counts
    average: Counts
    model_pairs: Counts
    model_average: Counts


class StapleCounts(NamedTuple):
    """STAPLE of opacity in one scan with R readers, over the voxels that all of them labelled.

    Attributes:
        readers: int64 (R, 3), `overlap_counts` of each reader with the consensus.
        average: int64 (3,), the same of the average reader.
        model: int64 (3,), the same of the model.
        sensitivity: float64 (R,), of the readers; NaN where undefined.
        specificity: float64 (R,), likewise.
        same_group: int64 (R, 2), voxels that multi-label STAPLE calls opaque, and those on which the reader agrees
            with its group.
        converged: Whether the binary estimation converged.
    """

    readers: Counts
    average: Counts
    model: Counts
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    same_group: Counts
    converged: bool


@dataclass(frozen=True, eq=False)
class ScanCounts:
    """Counts of one scan with R readers.

    Attributes:
        row: The scan's row of index.csv, `folder` being the whole path.
        has_model: Whether there is a mask by the model.
        overlaps: Sums over the slices.
        opaque: int64 (R,), opaque voxels of each reader.
        model_opaque: Opaque voxels of the model; 0 without one.
        slices: One entry per slice.
        labelled: Slices in which at least two readers labelled anything.
        staple: The consensus over the lungs and whatever any reader calls opaque.
    """

    row: Row
    has_model: bool
    overlaps: Overlaps
    opaque: Counts
    model_opaque: int
    slices: list[Disagreement]
    labelled: int
    staple: StapleCounts

    @property
    def readers(self) -> int:
        """R, the number of readers."""
        return len(self.opaque)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel of the prepared grid in ml; NaN where the spacing is unknown."""
        sides = (float(self.row[f"spacing_{axis}_mm"]) for axis in "zyx")
        return math.prod(sides) / 1000


def scans_with_readers(prepared: Path) -> pd.DataFrame:
    """Read the rows of a prepared folder's index.csv with two or more readers; `folder` becomes the whole path.

    Raises:
        ValueError: There is no index.csv, it has no column of readers, or no scan has two.
    """
    path = prepared / "index.csv"
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected the folder of a prepared cohort (python -m cohort.prepare)")
    index = pd.read_csv(path, dtype={"scan_id": str, "patient_id": str, "site": str, "folder": str})
    if "readers" not in index:
        raise ValueError(f"{path}: no column 'readers'; it was prepared by an older version: prepare the cohort again")
    scans = index[index["readers"] >= FEWEST_READERS].reset_index(drop=True)
    if scans.empty:
        raise ValueError(
            f"{path}: none of {len(index)} scans has {FEWEST_READERS} readers; "
            "name their pattern masks in the column 'readers' of cohort.csv, separated by ';'"
        )
    return scans.assign(folder=[str(prepared / folder) for folder in scans["folder"]])


def read_model(predictions: Path, scan_id: str, shape: tuple[int, ...]) -> Bools | None:
    """Read the model's opacity of a scan, bool (Z, H, W), from <predictions>/<scan_id>.npz; None without that file.

    Raises:
        ValueError: The file holds no `opacity`, or one of another shape.
    """
    path = predictions / f"{scan_id}.npz"
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        if "opacity" not in arrays:
            raise ValueError(
                f"{path}: found {sorted(arrays)}, expected 'opacity'; save the masks of a multi-class experiment "
                "(make evaluate SAVE_MASKS=1)"
            )
        opacity = arrays["opacity"]
    if opacity.shape != shape:
        raise ValueError(
            f"{path}: opacity has shape {opacity.shape}, the readers' maps have {shape}; "
            "give the masks of a run on this prepared folder"
        )
    return np.asarray(opacity > 0)


def count_study(
    prepared: Path, predictions: Path | None = None, scan_ids: Collection[str] | None = None
) -> list[ScanCounts]:
    """Count every scan with two or more readers.

    Args:
        prepared: Folder of a prepared cohort.
        predictions: Folder with <scan_id>.npz of a model, as `make evaluate SAVE_MASKS=1` writes them. Scans without a
            file are counted without the model.
        scan_ids: The scans to count; by default all that have readers.

    Raises:
        ValueError: No scan has two readers, or none of those that do has a mask by the model.
    """
    scans = scans_with_readers(prepared)
    if scan_ids is not None:
        scans = scans[scans["scan_id"].isin(scan_ids)]
        if scans.empty:
            raise ValueError(f"{prepared}: none of the {len(scan_ids)} scans asked for has {FEWEST_READERS} readers")
    counts = []
    for row in tqdm(scans.to_dict("records"), "readers", unit="scan", leave=False, disable=None):
        codes: Groups = np.load(Path(row["folder"]) / "readers.npy", mmap_mode="r")
        lung: Groups = np.load(Path(row["folder"]) / "lung.npy", mmap_mode="r")
        model = None if predictions is None else read_model(predictions, row["scan_id"], codes.shape[1:])
        counts.append(count_scan(codes, lung, model, row))
    if predictions is not None and not any(scan.has_model for scan in counts):
        raise ValueError(
            f"{predictions}: no <scan_id>.npz of any of the {len(counts)} scans with readers "
            f"({counts[0].row['scan_id']}, ...); expected the masks folder of a run that was tested on them"
        )
    return counts


def count_scan(codes: Groups, lung: Groups, model: Bools | None, row: Row) -> ScanCounts:
    """Count one scan, slice by slice, so that no wide copy of a volume is made.

    Args:
        codes: int8 (R, Z, H, W) class codes -1..10 of the readers.
        lung: int8 (Z, H, W), 1 inside the lungs.
        model: bool (Z, H, W), the model's opacity; None without one.
        row: The scan's row of index.csv.
    """
    overlaps, slices, for_staple = [], [], []
    opaque, labelled = np.zeros(len(codes), np.int64), 0
    for z in range(codes.shape[1]):
        groups = L3.leaves_of(codes[:, z])
        calls = calls_of(groups)
        overlaps.append(count_overlaps(groups, None if model is None else model[z]))
        slices.append(disagreement(votes_of(groups)))
        opaque += np.count_nonzero(calls.positive, axis=(1, 2))
        labelled += int(np.count_nonzero(calls.labelled.any((1, 2))) >= FEWEST_READERS)
        chosen = calls.labelled.all(0) & ((lung[z] > 0) | calls.positive.any(0))
        for_staple.append((groups[:, chosen], np.zeros(chosen.sum(), bool) if model is None else model[z][chosen]))
    return ScanCounts(
        row,
        model is not None,
        Overlaps(*(np.sum(tables, 0) for tables in zip(*overlaps, strict=True))),
        opaque,
        0 if model is None else int(np.count_nonzero(model)),
        slices,
        labelled,
        count_staple(*(np.concatenate(maps, -1) for maps in zip(*for_staple, strict=True))),
    )


def count_overlaps(groups: Groups, model: Bools | None) -> Overlaps:
    """Count the overlaps of readers (and a model) on the same pixels.

    Args:
        groups: int8 (R, ...) group codes -1..4.
        model: bool (...), the model's opacity; None without one.
    """
    calls = calls_of(groups)
    pairs = np.stack([pairwise_counts(calls_of(groups, L3.indices_of(finding))) for finding in FINDINGS])
    average = np.stack([average_counts(calls, with_self) for with_self in (True, False)])
    if model is None:
        return Overlaps(pairs, average, np.zeros_like(average[0]), np.zeros_like(average))
    return Overlaps(
        pairs,
        average,
        np.stack([overlap_counts(model, own, labelled) for own, labelled in zip(*calls, strict=True)]),
        np.stack([average_counts(calls, with_self, model) for with_self in (True, False)]),
    )


def count_staple(groups: Groups, model: Bools) -> StapleCounts:
    """Count a scan's agreement with STAPLE.

    Args:
        groups: int8 (R, N) group codes 0..4 of the readers, of voxels that all of them labelled.
        model: bool (N,), the model's opacity.
    """
    calls, group = calls_of(groups), multi_label_staple(groups)
    estimate = staple(calls.positive)
    consensus, everywhere = estimate.probability >= 0.5, np.ones(groups.shape[1], bool)
    opaque = np.isin(group, L3.opacities)
    same = [(np.count_nonzero(opaque), np.count_nonzero(opaque & (own == group))) for own in groups]
    return StapleCounts(
        np.stack([overlap_counts(own, consensus, everywhere) for own in calls.positive]),
        overlap_counts(average_map(calls), consensus, everywhere),
        overlap_counts(model, consensus, everywhere),
        estimate.sensitivity,
        estimate.specificity,
        np.array(same, np.int64),
        estimate.converged,
    )
