"""Synthetic cohort of chest CT scans with known truth: several sites, readers and file formats, made from a seed.

    python -m phantom --out cohorts/phantom --seed 0 [--tiny] [--size 128 --readers 6]

The cohort has the form of a hospital's data: real DICOM series and NIfTI files, radiology reports and a cohort.csv.
Beside them, truth/<scan_id>.npz keeps the fuzzy truth, which no reader knows.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ct.classes import L3, UNLABELLED
from ct.files.write import write_dicom_series, write_scan_nifti
from machine.command_line import run_command
from phantom.grid import Frame
from phantom.patient import SITES, Phantom, Site, make_phantom
from phantom.plan import DEFAULT_COHORT, TINY_COHORT, ScanPlan, plan_cohort
from phantom.reader_panel import Hand
from phantom.report_texts import report_text

__all__ = ["SITES", "Phantom", "Site", "make_phantom", "write_cohort"]

COLUMNS = (
    "scan_id",
    "patient_id",
    "site",
    "image",
    "lung_mask",
    "infection_mask",
    "pattern_mask",
    "readers",
    "report",
    "has_consolidation",
    "split",
)
# A patient with consolidation is drawn again until a reader finds this much.
LEAST_CONSOLIDATION_ML = 25.0
# Biases of the further readers of a scan: their generosity with borders.
READER_BIASES = (0.1, -0.1, 0.03)
# Spread of the biases within a panel, and the manner of each reader: they differ about as much as those of paper L3,
# whose agreement with their own average is slightly below the best model's opacity IOU of 0.758 (section 5).
PANEL_BIAS_SD = 0.15
PANEL_HAND = Hand(wobble=0.4, taste=0.4)
# With a panel, only a part of the training slices is labelled, and some of them only in part (paper L3, section 2).
LABELLED_SLICES, PARTLY_LABELLED = 0.7, 0.2


def write_cohort(
    out: Path, seed: int = 0, tiny: bool = False, size: int | None = None, jobs: int | None = None, readers: int = 0
) -> Path:
    """Write the phantom cohort, whole or not at all.

    Args:
        out: Folder to make; if it exists, it must be empty or hold this very cohort.
        seed: The patients; the same seed gives the same bytes whatever the number of processes.
        tiny: 8 scans of 8 slices for tests instead of the default 56.
        size: Columns of an image (default 64; 32 when tiny).
        jobs: Processes (default: one per core).
        readers: Size of a panel of readers, each of whom labels some scans, training scans only in part, while some
            scans are labelled by all (paper L3); 0 gives every scan to one reader and some test scans to two or three
            more.

    Returns:
        Path of cohort.csv.

    Raises:
        ValueError: `out` holds something else.
    """
    size = size or (32 if tiny else 64)
    recipe = {"seed": seed, "tiny": tiny, "size": size, "readers": readers, "recipe_sha256": _recipe_hash()}
    plans = list(plan_cohort(TINY_COHORT if tiny else DEFAULT_COHORT, size, 8 if tiny else None, readers))

    def write(folder: Path) -> None:
        write_table(write_scans(plans, seed, folder, jobs or os.cpu_count() or 1), folder / "cohort.csv")

    write_once(out, recipe, write)
    return out / "cohort.csv"


def write_once(out: Path, recipe: dict[str, object], write: Callable[[Path], None]) -> None:
    """Make a folder by writing into another one that then takes its name; do nothing if it holds this recipe already.

    Raises:
        ValueError: `out` holds something else.
    """
    if _is_written(out, recipe):
        return
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        write(partial)
        (partial / "phantom.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_table(rows: Iterable[dict[str, str]], path: Path) -> None:
    """Write rows with the columns of `COLUMNS` as a cohort.csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _recipe_hash() -> str:
    """Hash the phantom's own source: a folder made by another recipe is another cohort."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _is_written(out: Path, recipe: dict[str, object]) -> bool:
    """Return whether `out` already holds this cohort; refuse a folder that holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    note = out / "phantom.json"
    stored = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    if stored != recipe:
        content = f"a phantom cohort made differently ({stored})" if stored else "something else than a phantom cohort"
        raise ValueError(
            f"{out} holds {content}, expected nothing or {recipe}: choose another --out or remove that folder."
        )
    return True


def write_scans(plans: Sequence[ScanPlan], seed: int, folder: Path, jobs: int) -> list[dict[str, str]]:
    """Write the files of planned scans, with a progress bar; return their rows of cohort.csv."""
    bar = {"total": len(plans), "desc": "phantom scans", "unit": "scan", "file": sys.stderr, "disable": None}
    if jobs == 1:
        return list(tqdm(map(_write_scan, plans, repeat(seed), repeat(folder)), **bar))
    with ProcessPoolExecutor(min(jobs, len(plans))) as pool:
        return list(tqdm(pool.map(_write_scan, plans, repeat(seed), repeat(folder)), **bar))


def _write_scan(plan: ScanPlan, seed: int, folder: Path) -> dict[str, str]:
    """Write the files of one scan and return its row of cohort.csv."""
    phantom, codes = _draw_patient(plan, seed)
    site = SITES[plan.site]
    row = dict.fromkeys(COLUMNS, "") | {"scan_id": plan.scan_id, "patient_id": plan.patient_id, "site": plan.site}
    row |= {"split": plan.split, "image": _write_image(plan, phantom, site, folder)}

    def mask(name: str, values: NDArray[np.generic]) -> str:
        path = f"masks/{plan.scan_id}_{name}.nii.gz"
        affine = Frame(phantom.hu.shape, phantom.spacing_mm).affine
        write_scan_nifti(values.astype(np.uint8), affine, folder / path, site.axes)
        return path

    if plan.has_lung_mask:
        row["lung_mask"] = mask("lungs", phantom.lungs)
    if plan.panel:
        row |= _panel_masks(plan, phantom, seed, mask)
    else:
        row["infection_mask"] = mask("infection", codes >= 5)
        row["pattern_mask"] = mask("patterns", codes)
        others = ((number, READER_BIASES[number]) for number in range(plan.further_readers))
        row["readers"] = ";".join(
            mask(f"reader{n + 2}", phantom.reader(100 * plan.number + n + 2, Hand(bias))[0]) for n, bias in others
        )
    row["report"] = f"reports/{plan.scan_id}.txt"
    (folder / "reports").mkdir(exist_ok=True)
    text = report_text(codes, np.random.default_rng([seed, plan.number, 1]))
    (folder / row["report"]).write_text(text, encoding="utf-8")
    row["has_consolidation"] = str(int(phantom.has_consolidation)) if plan.states_label else ""
    _write_truth(phantom, folder / "truth" / f"{plan.scan_id}.npz")
    return row


def _panel_masks(
    plan: ScanPlan, phantom: Phantom, seed: int, write: Callable[[str, NDArray[np.generic]], str]
) -> dict[str, str]:
    """Write the masks of a panel, of one reader or in the study of all; return the columns of the row."""
    own = plan.number % plan.panel
    bias = np.random.default_rng([seed, 0xB1A5]).normal(0, PANEL_BIAS_SD, plan.panel)
    bias -= bias.mean()  # as a whole, the panel draws like a careful reader
    readers = range(plan.panel) if plan.in_study else [own]
    hands = [PANEL_HAND._replace(bias=float(value)) for value in bias]
    maps = {reader: phantom.reader(100 * plan.number + reader, hands[reader])[0] for reader in readers}
    if plan.split == "train" and not plan.in_study:
        maps[own] = partly_labelled(maps[own], np.random.default_rng([seed, plan.number, 2]))
    paths = {reader: write(f"reader{reader + 1}", codes) for reader, codes in maps.items()}
    return {"pattern_mask": paths[own], "readers": ";".join(paths.values()) if plan.in_study else ""}


def partly_labelled(codes: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.int8]:
    """Remove the labels of some slices, and of half of some others, from codes (Z, Y, X)."""
    codes = codes.copy()
    for plane in codes:
        if rng.random() > LABELLED_SLICES:
            plane[:] = UNLABELLED
        elif rng.random() < PARTLY_LABELLED:
            rows, columns = (slice(None, n // 2) if rng.random() < 0.5 else slice(n // 2, None) for n in plane.shape)
            plane[rows, columns] = UNLABELLED
    return codes


def _draw_patient(plan: ScanPlan, seed: int) -> tuple[Phantom, NDArray[np.int8]]:
    """Draw a scan and its first reader's pattern map."""
    burden = 0.0 if plan.kind == "healthy" else float(np.random.default_rng([seed, plan.number]).uniform(0.6, 1.4))
    positive = plan.kind == "consolidated"
    for attempt in range(50):
        phantom = make_phantom((seed, plan.number, attempt), plan.site, positive, burden, plan.size, plan.slices)
        codes, _ = phantom.reader(100 * plan.number)
        dense_ml = np.isin(codes, L3.codes_of("consolidation")).sum() * np.prod(phantom.spacing_mm) / 1000
        if not positive or (phantom.has_consolidation and dense_ml >= LEAST_CONSOLIDATION_ML):
            return phantom, codes
    raise AssertionError(f"no consolidation in 50 draws of {plan.scan_id}")


def _write_image(plan: ScanPlan, phantom: Phantom, site: Site, folder: Path) -> str:
    affine = Frame(phantom.hu.shape, phantom.spacing_mm).affine
    if site.file_format == "dicom":
        path = f"images/{plan.scan_id}"
        write_dicom_series(phantom.hu, affine, folder / path, plan.patient_id, f"phantom of site {plan.site}")
    else:
        path = f"images/{plan.scan_id}.{site.file_format}"
        write_scan_nifti(phantom.hu, affine, folder / path, site.axes)
    return path


def _write_truth(phantom: Phantom, path: Path) -> None:
    """Write the fuzzy truth on the canonical grid: hard `lungs`, and the rest as fractions 0..255."""
    path.parent.mkdir(exist_ok=True)
    fractions = {"vessels": phantom.vessels, "lung_fraction": phantom.lung_fraction} | {
        f"pattern_{code}": part for code, part in phantom.occupancy.items()
    }
    stored: dict[str, Any] = {
        name: np.round(part.astype(np.float32) * 255).astype(np.uint8) for name, part in fractions.items()
    }
    np.savez_compressed(path, lungs=phantom.lungs, spacing_mm=np.array(phantom.spacing_mm), **stored)


def main(args: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m phantom", description="Write a synthetic cohort of chest CT scans."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="which patients (default 0)")
    parser.add_argument("--size", type=int, default=None, help="columns of an image (default 64, tiny 32)")
    parser.add_argument("--jobs", type=int, default=None, help="processes (default: one per core)")
    parser.add_argument("--readers", type=int, default=0, help="a panel of so many readers, for the study of paper L3")
    parser.add_argument("--tiny", action="store_true", help="8 small scans for tests")
    options = parser.parse_args(args)
    try:
        existed = options.out.exists() and any(options.out.iterdir())
        table = write_cohort(options.out, options.seed, options.tiny, options.size, options.jobs, options.readers)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{table}: already there, nothing done." if existed else f"{table}: written.")
    return 0


if __name__ == "__main__":
    run_command(main)
