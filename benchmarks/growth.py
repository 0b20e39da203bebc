"""Claim: the work done once for a whole cohort grows at most 1.2 times as fast as the cohort.

Tables of 100, 1,000 and 10,000 scans of four slices with files of a few bytes: `check` reads and checks cohort.csv,
`prepare` finds every scan already prepared (the work on a scan does not depend on the others; what remains is stamps,
verdicts, the leakage guard and the index), `set-up` reads the SliceTable with its counts, `evaluation` makes all
figures of the confusion tables. The ratio is seconds per scan at 10,000 against 1,000, the worst of the four.

    python -m benchmarks.growth
"""

import contextlib
import gc
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.timing import interleaved, line, median
from cohort.prepare.checksums import write_record
from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.prepare.sources import FORMAT_VERSION, hash_content, remember, stamp_of
from cohort.table import read_cohort
from datamodules.slices import SliceTable
from metrics.summary import summarise

SCANS = (100, 1000, 10_000)
SLICES, SIZE, REPEATS = 4, 256, 3
SPLITS = ("train", "train", "val", "test")


def write_cohort(folder: Path, scans: int) -> Path:
    """Write a cohort.csv of patients with one scan each, whose files are never read as images."""
    (folder / "images").mkdir(parents=True)
    rows = ["scan_id,patient_id,site,image,has_consolidation,split"]
    for scan in range(scans):
        (folder / "images" / f"{scan}.nii.gz").write_bytes(str(scan).encode())
        rows.append(f"S{scan},P{scan},{'ABCD'[scan % 4]},images/{scan}.nii.gz,{scan % 2},{SPLITS[scan % 4]}")
    path = folder / "cohort.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def write_prepared(cohort: Path, out: Path) -> None:
    """Write what `prepare_cohort` leaves of a cohort, without the arrays."""
    rng = np.random.default_rng(0)
    for row in read_cohort(cohort).rows:
        content = hash_content(row, SIZE)
        folder = out / row.scan_id
        folder.mkdir(parents=True)
        record = {"format_version": FORMAT_VERSION, "key": content.key, "source_sha256": content.image_sha256}
        record |= {"verdict": "pass", "repairs": [], "warnings": [], "masks": []}
        record |= {"prepared_shape": [SLICES, SIZE, SIZE], "prepared_spacing_mm": [5, 1, 1], "spacing_known": True}
        record |= {"lung_pixels": [SIZE] * SLICES, "labelled_pixels": [0] * SLICES, "volume_hash": rng.bytes(160).hex()}
        write_record(record, folder)
        remember(row, out, (stamp_of(row, SIZE)[0], 0), content.key)  # a stamp of time 0: files from long ago


def set_up(out: Path) -> None:
    """Read what a training reads before its first step."""
    for split in sorted(set(SPLITS)):
        table = SliceTable.read(out, split)
        table.lung_pixels, table.labelled_pixels, table.described  # noqa: B018  # computed when they are read


def evaluate(out: Path) -> Callable[[], Any]:
    """Return the function that makes all figures and rows of a test on the whole cohort."""
    parts = [SliceTable.read(out, split).described for split in sorted(set(SPLITS))]
    slices = pd.concat(parts, ignore_index=True)
    names = ("infection", "consolidation", "consolidation_truth_in_infection")
    table = np.random.default_rng(0).integers(1, 100, (len(slices), 3, 2))
    table[:, 2] = 0
    return lambda: summarise({name: table for name in names}, slices)


def work(scans: int, root: Path) -> dict[str, Callable[[], Any]]:
    """Return the work on a cohort of `scans` scans, by name."""
    cohort, out = write_cohort(root / f"cohort-{scans}", scans), root / f"prepared-{scans}"
    out.mkdir()
    write_prepared(cohort, out)
    prepare_cohort(cohort, out, SIZE, jobs=1)
    return {
        "check": lambda: read_cohort(cohort),
        "prepare": lambda: prepare_cohort(cohort, out, SIZE, jobs=1),
        "set-up": lambda: set_up(out),
        "evaluation": evaluate(out),
    }


def main() -> None:
    """Print seconds at every size."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        running = {(name, n): do for n in SCANS for name, do in work(n, Path(folder)).items()}
        gc.freeze()  # a command does not load all the libraries of this file, which collections would walk through
        timed = interleaved({f"{name} {n}": do for (name, n), do in running.items()}, REPEATS)
    seconds = {key: median(values) for key, values in timed.items()}
    names = dict.fromkeys(name for name, _ in running)
    growth = {
        name: seconds[f"{name} {SCANS[2]}"] / seconds[f"{name} {SCANS[1]}"] * SCANS[1] / SCANS[2] for name in names
    }
    worst = max(growth, key=growth.__getitem__)
    line(
        "growth", growth[worst], 1.0, "seconds per scan at 10,000 / at 1,000", REPEATS, worst=worst,
        growth={name: round(value, 2) for name, value in growth.items()},
        seconds={key: round(value, 4) for key, value in seconds.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
