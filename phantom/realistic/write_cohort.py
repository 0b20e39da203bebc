"""Cohort of realistic phantoms, made from a seed: patients like those of no hospital, for a model that saw none.

    python -m phantom.realistic --out cohorts/realistic --seed 0 [--patients 240 --size 160 --jobs 2]

The cohort has the form of a hospital's data: NIfTI files, masks and a cohort.csv. A run that was stopped goes on with
the patients that are missing.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ct.files.write import write_scan_nifti
from ct.refusal import Refusal
from machine.command_line import run_command
from machine.cores import usable_cores
from machine.host_memory import keep_freed_memory
from machine.whole_file import whole_file, write_json
from phantom.grid import Frame
from phantom.realistic.patient import RealisticPhantom, make_realistic

COLUMNS = ("scan_id", "patient_id", "site", "image", "lung_mask", "infection_mask", "pattern_mask", "split")
# Of each ten patients: clear, infected, severe.
KIND_OF = ("infected", "clear", "infected", "severe", "infected", "clear", "infected", "severe", "infected", "clear")
SPLIT_OF = ("train",) * 8 + ("val", "test")
# Of each ten patients, these come without lungs: they are found, as in a new scan.
LUNGS_FOUND = (1, 3, 4, 5, 8, 9)
RECIPE, TABLE = "phantom.json", "cohort.csv"


def write_cohort(
    out: Path, seed: int = 0, patients: int = 240, size: int = 160, slice_mm: float | None = None, jobs: int = 0
) -> Path:
    """Write a cohort of realistic phantoms; what is there of this very cohort is kept.

    Args:
        out: Folder to make; if it exists, it must be empty or hold this cohort, whole or in part.
        seed: The patients; the same seed gives the same bytes whatever the number of processes.
        patients: How many; of each ten, eight are for training, one for validation, one for testing.
        size: Rows and columns of an image.
        slice_mm: Distance of slices of every patient; 1 to 10 mm by default.
        jobs: Processes; 0 for one per core.

    Returns:
        Path of cohort.csv, which is written last.

    Raises:
        ValueError: `out` holds something else, or there are too few patients for three splits.
    """
    if patients < 10:
        raise Refusal("patients is {patients}; expected at least 10, for three splits", patients=patients)
    recipe = {"seed": seed, "patients": patients, "size": size, "slice_mm": slice_mm, "recipe_sha256": _recipe_hash()}
    _check_folder(out, recipe)
    numbers = range(patients)
    jobs = min(jobs or usable_cores(), patients)
    arguments = (numbers, repeat(seed), repeat(size), repeat(slice_mm), repeat(out))
    if jobs == 1:
        rows = _with_bar(map(_write_patient, *arguments), patients)
    else:
        # A quarter of the time would go into fetching the large arrays of a patient from the system again.
        with ProcessPoolExecutor(jobs, initializer=keep_freed_memory) as pool:
            rows = _with_bar(pool.map(_write_patient, *arguments), patients)
    with whole_file(out / TABLE) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out / TABLE


def _with_bar(rows: Iterable[dict[str, str]], count: int) -> list[dict[str, str]]:
    return list(tqdm(rows, total=count, desc="realistic phantoms", unit="scan", file=sys.stderr, disable=None))


def _recipe_hash() -> str:
    """Hash the generator's own source: a folder made by another recipe is another cohort."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _check_folder(out: Path, recipe: Mapping[str, object]) -> None:
    """Begin the folder, or make sure that it holds a part of this cohort."""
    note = out / RECIPE
    stored = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    if stored is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal("{out} holds something else than a phantom cohort; choose another --out or remove it", out=out)
    if stored is not None and stored != recipe:
        raise Refusal(
            "{out} holds a phantom cohort made differently ({stored}); expected nothing or {recipe}; choose another "
            "--out or remove that folder",
            out=out,
            stored=stored,
            recipe=recipe,
        )
    out.mkdir(parents=True, exist_ok=True)
    if stored is None:
        write_json(recipe, note)


def _write_patient(number: int, seed: int, size: int, slice_mm: float | None, folder: Path) -> dict[str, str]:
    """Write the files of one patient, the image last, and return the row of cohort.csv."""
    scan_id, kind = f"R{number:04d}", KIND_OF[number % len(KIND_OF)]
    row = {"scan_id": scan_id, "patient_id": scan_id, "site": kind, "image": f"images/{scan_id}.nii.gz"}
    row |= {name: f"masks/{scan_id}_{name}.nii.gz" for name in ("lung_mask", "infection_mask", "pattern_mask")}
    row["split"] = SPLIT_OF[(number // len(KIND_OF) + number) % len(SPLIT_OF)]
    if not (folder / row["image"]).is_file():
        phantom = make_realistic((seed, number), kind, size, slice_mm)
        _write(phantom.drawn_lungs, phantom, folder / row["lung_mask"])
        _write(phantom.infection.astype(np.uint8), phantom, folder / row["infection_mask"])
        _write(phantom.patterns, phantom, folder / row["pattern_mask"])
        _write(phantom.hu, phantom, folder / row["image"])
    if number % len(KIND_OF) in LUNGS_FOUND:
        row["lung_mask"] = ""
    return row


def _write(array: NDArray[np.integer], phantom: RealisticPhantom, path: Path) -> None:
    """Write an array of a phantom, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        write_scan_nifti(array, Frame(phantom.hu.shape, phantom.spacing_mm).affine, partial)


def main(args: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m phantom.realistic", description="Write a cohort of realistic synthetic chest CT scans."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="which patients (default 0)")
    parser.add_argument("--patients", type=int, default=240, help="how many (default 240)")
    parser.add_argument("--size", type=int, default=160, help="rows and columns of an image (default 160)")
    parser.add_argument("--slice-mm", type=float, default=None, help="distance of slices (default: drawn, 1 to 10)")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one per core)")
    options = parser.parse_args(args)
    try:
        table = write_cohort(**vars(options))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{table}: written.")
    return 0


if __name__ == "__main__":
    run_command(main)
