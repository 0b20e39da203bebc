"""Mean and deviation of HU and the class frequencies of a training set, in one pass over its prepared arrays."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cohort.prepare.prepare_cohort import prepare_cohort, prepared_folder
from ct.classes import L3, ClassSet
from machine.command_line import run_command
from machine.whole_file import write_json

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Statistics:
    """The statistics of a training set by which a network of paper L3 normalises and weighs.

    Attributes:
        mean_hu: Mean of the HU, clipped to the window, over all pixels of the labelled slices.
        std_hu: Their standard deviation.
        group_frequency: Share of each group among the labelled pixels.
        slices: Number of slices with a label.
        labelled_pixels: Number of labelled pixels.
    """

    mean_hu: float
    std_hu: float
    group_frequency: tuple[float, ...]
    slices: int
    labelled_pixels: int


def training_statistics(
    prepared: Path, window_hu: tuple[float, float], jobs: int = 1, classes: ClassSet = L3
) -> Statistics:
    """Return the statistics of the train split, kept beside the arrays and computed again only when these changed.

    Everything is counted in whole numbers (a histogram of HU), so the figures do not depend on the number of processes.

    Args:
        prepared: Folder of the prepared scans.
        window_hu: HU are clipped to (low, high), whole numbers.
        jobs: Processes.
        classes: Whose leaves are counted; the scans were prepared with them.

    Returns:
        The statistics.

    Raises:
        ValueError: The train split has no labelled pixel, or the window is none.
    """
    low, high = (int(value) for value in window_hu)
    if (low, high) != tuple(window_hu) or low >= high:
        raise ValueError(f"the window is {window_hu} HU; expected two whole numbers, the lower one first")
    folders = _train_folders(prepared)
    cache = prepared / f"statistics_{low}_{high}_{classes.name}.json"
    key = _key(folders, classes)
    if cache.is_file():
        stored = json.loads(cache.read_text(encoding="utf-8"))
        if stored.pop("key") == key:
            return Statistics(**stored | {"group_frequency": tuple(stored["group_frequency"])})
    count = partial(_count, low=low, high=high, classes=classes)
    with ProcessPoolExecutor(min(jobs, len(folders))) as pool:
        parts = pool.map(count, folders) if jobs > 1 else map(count, folders)
        histogram, groups, slices = _total(
            tqdm(parts, "statistics", len(folders), leave=False, disable=None, unit="scan")
        )
    if not slices:
        raise ValueError(f"{prepared}: no training scan has a labelled pixel; expected a pattern_mask for some of them")
    statistics = _statistics(histogram, groups, slices, low)
    write_json({"key": key} | asdict(statistics), cache)
    return statistics


def _train_folders(prepared: Path) -> list[Path]:
    with (prepared / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train" and row["has_pattern_mask"] == "1"]
    if not rows:
        raise ValueError(f"{prepared / 'index.csv'}: no training scan has a pattern_mask; expected some in cohort.csv")
    return [prepared / row["folder"] for row in rows]


def _key(folders: Sequence[Path], classes: ClassSet) -> str:
    """Hash of what the arrays were made from, and of what is counted in them."""
    keys = [json.loads((folder / "scan.json").read_text(encoding="utf-8"))["key"] for folder in folders]
    return hashlib.sha256(" ".join([*keys, repr(classes)]).encode()).hexdigest()


def _count(folder: Path, low: int, high: int, classes: ClassSet) -> tuple[Counts, Counts, int]:
    """Count HU, pixels of each group, and slices with a label; the HU of other slices are not read."""
    patterns, hu = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("patterns", "hu"))
    histogram, groups = np.zeros(high - low + 1, np.int64), np.zeros(len(classes.leaves), np.int64)
    slices = 0
    for codes, plane in zip(patterns, hu, strict=True):
        leaves = classes.leaves_of(codes)
        labelled = leaves[leaves >= 0]
        if labelled.size:
            slices += 1
            groups += np.bincount(labelled, minlength=len(classes.leaves))
            histogram += np.bincount(plane.clip(low, high).ravel().astype(np.int64) - low, minlength=len(histogram))
    return histogram, groups, slices


def _total(parts: tqdm[tuple[Counts, Counts, int]]) -> tuple[Counts, Counts, int]:
    scans = iter(parts)  # once: a bar that is not shown begins anew each time
    histogram, groups, slices = next(scans)
    for of_scan in scans:
        histogram, groups, slices = histogram + of_scan[0], groups + of_scan[1], slices + of_scan[2]
    return histogram, groups, slices


def _statistics(histogram: Counts, groups: Counts, slices: int, low: int) -> Statistics:
    value = [low + offset for offset in range(len(histogram))]
    count = [int(number) for number in histogram]
    # Python's integers, because the sum of squares of a large cohort leaves float64's whole numbers.
    pixels = sum(count)
    total = sum(n * v for n, v in zip(count, value, strict=True))
    squares = sum(n * v * v for n, v in zip(count, value, strict=True))
    std = math.sqrt((pixels * squares - total * total) / pixels**2)
    frequency = tuple(float(share) for share in groups / groups.sum())
    return Statistics(total / pixels, std, frequency, slices, int(groups.sum()))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cohort.training_statistics", description=__doc__)
    parser.add_argument("--cohort", required=True, type=Path, help="the cohort.csv")
    parser.add_argument("--size", type=int, default=256, help="pixels along each side in plane")
    parser.add_argument("--window-hu", type=int, nargs=2, default=(-1000, 350), metavar=("LOW", "HIGH"))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args(args)
    folder = prepared_folder(options.cohort, options.size)
    try:
        prepare_cohort(options.cohort, folder, options.size, options.jobs)
        statistics = training_statistics(folder, tuple(options.window_hu), options.jobs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(statistics), indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
