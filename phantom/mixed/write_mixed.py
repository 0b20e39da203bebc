"""Mixed phantom cohort: three training sites that drew and reported different things, and a test site with everything.

    python -m phantom.mixed --out cohorts/mixed --seed 0 [--tiny]

Site A drew infection and wrote reports; site B has groups by one reader, some slices without or with half of them, and
no reports; site C has reports alone; D, the test site, has everything, as the validation scans of B have. Beside
cohort.csv, further tables of the same scans are written for comparisons, see `TABLES`.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from ct.classes import INFECTION, L3, LUNGS
from machine.command_line import run_command
from phantom.patient import SITES
from phantom.plan import plan_cohort
from phantom.write_phantom import partly_labelled, write_once, write_scans, write_table

# Site, split, patients with consolidation, with ground glass only, and healthy.
SCANS = (
    ("A", "train", 8, 10, 2),
    ("B", "train", 5, 7, 1),
    ("C", "train", 10, 8, 2),
    ("B", "val", 2, 2, 0),
    ("D", "test", 8, 6, 2),
)
TINY_SCANS = (
    ("A", "train", 1, 1, 0),
    ("B", "train", 1, 1, 0),
    ("C", "train", 1, 1, 0),
    ("B", "val", 1, 0, 0),
    ("D", "test", 1, 0, 0),
)
TABLES = {
    "cohort": "each site with its own labels",
    "only_A": "the same, site A alone in training",
    "only_B": "the same, site B alone in training",
    "everything": "pattern masks of every scan, whole, and reports: what labels could reach at most",
    "background": "the same labels, read as masks in which everything unlabelled is no opacity",
    "panel": "cohort.csv with four readers of the scans of site B",
    "shifted": "cohort.csv with the HU of site C 150 too high",
}
PANEL = 3  # further readers of a scan of site B
SHIFT_HU = 150
LUNG = L3.codes_of(LUNGS)[0]
Row = dict[str, str]


def write_mixed(out: Path, seed: int = 0, tiny: bool = False, size: int | None = None, jobs: int | None = None) -> Path:
    """Write the mixed cohort, whole or not at all.

    Args:
        out: Folder to make; if it exists, it must be empty or hold this very cohort.
        seed: The patients.
        tiny: 8 scans of 8 slices for tests instead of 73.
        size: Columns of an image (default 128; 32 when tiny).
        jobs: Processes (default: one per core).

    Returns:
        Path of cohort.csv; the further tables lie beside it.

    Raises:
        ValueError: `out` holds something else.
    """
    size = size or (32 if tiny else 128)
    sources = sorted(
        path for folder in (Path(__file__).parent, Path(__file__).parents[1]) for path in folder.glob("*.py")
    )
    recipe_hash = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    plans = [
        replace(plan, further_readers=PANEL) if plan.site == "B" and plan.split == "train" else plan
        for plan in plan_cohort(TINY_SCANS if tiny else SCANS, size, 8 if tiny else None, 0)
    ]

    def write(folder: Path) -> None:
        rows = write_scans(plans, seed, folder, jobs or os.cpu_count() or 1)
        for name, table in _tables(rows, folder, seed).items():
            write_table(table, folder / f"{name}.csv")

    write_once(out, {"mixed": True, "seed": seed, "tiny": tiny, "size": size, "recipe_sha256": recipe_hash}, write)
    return out / "cohort.csv"


def _tables(rows: list[Row], folder: Path, seed: int) -> dict[str, list[Row]]:
    """Return the rows of every table; masks and images that only they have are written."""
    everything = [row | {"infection_mask": "", "readers": ""} for row in rows]
    mixed = [_as_labelled(row, number, folder, seed) for number, row in enumerate(rows)]
    only = {site: [row for row in mixed if row["split"] != "train" or row["site"] == site] for site in "AB"}
    return {
        "cohort": mixed,
        "only_A": only["A"],
        "only_B": only["B"],
        "everything": everything,
        "background": [_as_background(row, full, folder) for row, full in zip(mixed, rows, strict=True)],
        "panel": [_with_panel(row, full) for row, full in zip(mixed, rows, strict=True)],
        "shifted": [_shifted(row, folder) for row in mixed],
    }


def _as_labelled(row: Row, number: int, folder: Path, seed: int) -> Row:
    """Return a row with the labels that its site has."""
    row = row | {"readers": ""}
    if row["split"] != "train":
        return row | {"infection_mask": ""}
    if row["site"] == "A":
        return row | {"pattern_mask": ""}
    if row["site"] == "C":
        return row | {"pattern_mask": "", "infection_mask": ""}

    def partly(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:  # stored as (x, y, z)
        return partly_labelled(codes.T.astype(np.int8), np.random.default_rng([seed, number, 3])).T.astype(np.uint8)

    assert SITES["B"].axes == "LPS"
    mask = _derived(row["pattern_mask"], f"masks/{row['scan_id']}_partly.nii.gz", folder, partly)
    return row | {"infection_mask": "", "report": "", "has_consolidation": "", "pattern_mask": mask}


def _as_background(row: Row, full: Row, folder: Path) -> Row:
    """Return a row whose mask says that everything unlabelled is no opacity, as such masks are often read."""
    if row["split"] != "train":
        return row
    codes = _read(full["pattern_mask"], folder)
    lungs = np.where(np.isin(codes, L3.codes_of(INFECTION)), LUNG, codes)
    path = f"masks/{row['scan_id']}_background.nii.gz"

    def unlabelled_is_none(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.where(codes == 255, lungs, codes).astype(np.uint8)

    if row["pattern_mask"]:
        return row | {"pattern_mask": _derived(row["pattern_mask"], path, folder, unlabelled_is_none)}
    mask = _derived(full["pattern_mask"], path, folder, lambda codes: lungs.astype(np.uint8))
    return row | {"pattern_mask": mask, "infection_mask": ""}


def _with_panel(row: Row, full: Row) -> Row:
    if row["split"] != "train" or row["site"] != "B":
        return row
    return row | {"pattern_mask": full["pattern_mask"], "readers": f"{full['pattern_mask']};{full['readers']}"}


def _shifted(row: Row, folder: Path) -> Row:
    if row["split"] != "train" or row["site"] != "C":
        return row

    def shift(hu: NDArray[np.int16]) -> NDArray[np.int16]:
        return (hu.astype(np.int32) + SHIFT_HU).clip(-1024, 3071).astype(np.int16)

    return row | {"image": _derived(row["image"], f"shifted/{Path(row['image']).name}", folder, shift)}


def _read(path: str, folder: Path) -> NDArray[np.uint8]:
    return np.asarray(nibabel.load(folder / path).dataobj)  # type: ignore[attr-defined]


def _derived(path: str, new: str, folder: Path, change: Callable[[NDArray[Any]], NDArray[Any]]) -> str:
    """Write a NIfTI file with changed values, on the same grid; return its path."""
    image = nibabel.load(folder / path)
    (folder / new).parent.mkdir(exist_ok=True)
    values = change(np.asarray(image.dataobj))  # type: ignore[attr-defined]
    nibabel.save(nibabel.Nifti1Image(values, image.affine, dtype=values.dtype), folder / new)  # type: ignore[attr-defined]
    return new


def main(args: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m phantom.mixed", description="Write a synthetic cohort whose sites have different labels."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="which patients (default 0)")
    parser.add_argument("--size", type=int, default=None, help="columns of an image (default 128, tiny 32)")
    parser.add_argument("--jobs", type=int, default=None, help="processes (default: one per core)")
    parser.add_argument("--tiny", action="store_true", help="8 small scans for tests")
    options = parser.parse_args(args)
    try:
        existed = options.out.exists() and any(options.out.iterdir())
        table = write_mixed(options.out, options.seed, options.tiny, options.size, options.jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{table}: already there, nothing done." if existed else f"{table}: written.")
    return 0


if __name__ == "__main__":
    run_command(main)
