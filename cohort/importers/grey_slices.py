"""Folders of 8-bit slices with ct/, lungs/, covid/ and cases.csv: a cohort with one scan per case.

Who is one patient is not always known: in dstaroff's slices of the COVID-19-CT-Seg set, cases were told apart by jumps
between consecutive slices, and case11 and case12 are one patient, reconstructed twice. So cases that show nearly the
same image become one patient, and the command says which.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from cohort.csv_table import parse_whole_number, read_csv_table
from cohort.importing import add_grey_options, grey_limits, importer_options, new_cohort, run_importer
from cohort.leakage import look_alikes, volume_hash
from cohort.splits import assign_splits
from cohort.table import SPLITS, CohortRow
from ct.grey_window import AUTO, GreyLimit
from machine.command_line import run_command

# Column of cohort.csv that each folder of images fills.
COLUMN_OF_FOLDER = {"ct": "image", "lungs": "lung_mask", "covid": "infection_mask"}
CASES_COLUMNS = ("file", "case", "order_in_case")
COMPARED_HU, COMPARED_SIDE = (-1000.0, 200.0), 128


def import_slices(
    folder: str | Path,
    out_dir: str | Path,
    grey_low_hu: GreyLimit | None = None,
    grey_high_hu: GreyLimit | None = None,
    split: dict[str, str] | None = None,
    split_seed: int = 0,
    site: str | None = None,
    whole_image: bool = False,
) -> Path:
    """Copy the slices of every case into folders of their own and write a cohort.csv beside them.

    Args:
        folder: Holds ct/ and cases.csv (columns file, case, order_in_case), and lungs/ and covid/ if there are masks.
        out_dir: Where cases/ and cohort.csv go; earlier ones there are replaced.
        grey_low_hu: Declared HU of grey 0; `AUTO`, or None with the other one, has the HU of every slice estimated.
        grey_high_hu: Declared HU of grey 255; as above.
        split: train, val or test of some cases; the others are split by `split_seed` (see `assign_splits`).
        split_seed: For the cases that `split` does not name.
        site: Site of all scans; the folder's name if None.
        whole_image: Where there is no lungs/, write lung masks that hold every pixel: the lungs that are found in
            slices with enhanced contrast miss a part of the infection, and a network learns where lungs are.

    Returns:
        The cohort.csv.

    Raises:
        ValueError: cases.csv or an image is missing or wrong, or `split` names an unknown case or split.
    """
    source = Path(folder)
    if grey_limits(grey_low_hu, grey_high_hu) is None:
        grey_low_hu = grey_high_hu = AUTO
    files_of_case = _read_cases(source)
    folders = [name for name in COLUMN_OF_FOLDER if name == "ct" or (source / name).is_dir()]
    _check_images(source, folders, files_of_case)
    patient_of = _patients(source, files_of_case)
    split_of = _split_cases(patient_of, split or {}, split_seed)
    with new_cohort(source, out_dir) as new:
        _copy_images(source, folders, files_of_case, new.folder / "cases")
        if whole_image and "lungs" not in folders:
            _write_whole_masks(new.folder / "cases", files_of_case)
            folders = [*folders, "lungs"]
        for case in sorted(files_of_case):
            paths = {COLUMN_OF_FOLDER[name]: new.folder / "cases" / case / name for name in folders}
            new.rows.append(
                CohortRow(
                    scan_id=case,
                    patient_id=patient_of[case],
                    site=site or source.resolve().name,
                    image=paths["image"],
                    lung_mask=paths.get("lung_mask"),
                    infection_mask=paths.get("infection_mask"),
                    split=split_of[case],
                    grey_low_hu=grey_low_hu,
                    grey_high_hu=grey_high_hu,
                )
            )
    return Path(out_dir) / "cohort.csv"


def parse_split(text: str) -> dict[str, str]:
    """Parse "case01=train,case02=test" into a mapping.

    Raises:
        ValueError: A part is not of the form case=train|val|test, or a case comes twice.
    """
    split: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        case, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or value not in SPLITS or case in split:
            raise ValueError(f"--split holds {part!r}; expected each case once, as case=train, case=val or case=test")
        split[case] = value
    return split


def _read_cases(source: Path) -> dict[str, list[str]]:
    """Return the file names of each case in their order."""
    path = source / "cases.csv"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a CSV file with the columns {', '.join(CASES_COLUMNS)}")
    table = read_csv_table(path, CASES_COLUMNS)
    missing = [name for name in CASES_COLUMNS if name not in table.header]
    if missing:
        raise ValueError(f"{path}: column '{missing[0]}' is missing; found {table.header}")
    order_of_case: dict[str, list[tuple[int, str]]] = {}
    for number, record in table.records():
        order = parse_whole_number(record["order_in_case"], table.separator)
        if order is None or order < 0 or not record["file"] or not record["case"]:
            raise ValueError(f"{path}: row {number}: found {record}, expected a file, a case and a whole number")
        order_of_case.setdefault(record["case"], []).append((order, record["file"]))
    if not order_of_case:
        raise ValueError(f"{path}: holds no slices; expected at least one row below the header")
    for case, ordered in order_of_case.items():
        if [name for _, name in sorted(ordered)] != sorted({name for _, name in ordered}):
            raise ValueError(
                f"{path}: the files of {case} are not in the order of their names; rename them so that they are"
            )
    return {case: [name for _, name in sorted(ordered)] for case, ordered in order_of_case.items()}


def _check_images(source: Path, folders: Sequence[str], files_of_case: dict[str, list[str]]) -> None:
    images = [source / folder / name for folder in folders for names in files_of_case.values() for name in names]
    missing = [path for path in images if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}: no such image, though cases.csv names it ({len(missing)} are missing)")


def _patients(source: Path, files_of_case: dict[str, list[str]]) -> dict[str, str]:
    """Return the patient of every case, in the order of their names; say which cases are taken for one."""
    cases = sorted(files_of_case)
    bar = tqdm(cases, "compare", unit="case", leave=False, disable=None)
    hashes = [_hash_of([source / "ct" / name for name in files_of_case[case]]) for case in bar]
    patient_of = {case: case for case in cases}
    for a, b in look_alikes(hashes):
        first = patient_of[cases[a]]
        patient_of |= {case: first for case, patient in patient_of.items() if patient == patient_of[cases[b]]}
        print(f"{cases[a]} and {cases[b]} show nearly the same image: one patient, {first}", file=sys.stderr)
    return patient_of


def _hash_of(paths: Sequence[Path]) -> str:
    """Return the hash of a case by which it is compared; none where an image cannot be read, which the gate refuses."""
    low, high = COMPARED_HU  # any will do: only what is brighter than what counts
    greys = np.empty((len(paths), COMPARED_SIDE, COMPARED_SIDE), np.float32)
    for number, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                small = image.convert("L").resize((COMPARED_SIDE, COMPARED_SIDE), Image.Resampling.BOX)
            greys[number] = np.asarray(small)
        except (OSError, ValueError, Image.DecompressionBombError):
            return ""
    return volume_hash((low + greys * ((high - low) / 255)).astype(np.int16))


def _split_cases(patient_of: dict[str, str], split: dict[str, str], seed: int) -> dict[str, str]:
    unknown = sorted(set(split) - set(patient_of))
    if unknown:
        raise ValueError(f"--split names {unknown[0]!r}, which is no case; expected some of {', '.join(patient_of)}")
    splits: dict[str, tuple[str, str]] = {}
    for case, patient in patient_of.items():
        if case in split and splits.setdefault(patient, (case, split[case]))[1] != split[case]:
            raise ValueError(
                f"--split puts {splits[patient][0]} and {case}, which show one patient, into different splits; "
                "expected one split for both"
            )
    rows = [CohortRow(case, patient, "", Path(case), split=split.get(case, "")) for case, patient in patient_of.items()]
    return {row.scan_id: row.split for row in assign_splits(rows, seed)}


def _copy_images(source: Path, folders: Sequence[str], files_of_case: dict[str, list[str]], target: Path) -> None:
    for case, names in tqdm(files_of_case.items(), desc="import", unit="case", leave=False, disable=None):
        for folder in folders:
            (target / case / folder).mkdir(parents=True)
            for name in names:
                shutil.copyfile(source / folder / name, target / case / folder / name)


def _write_whole_masks(cases: Path, files_of_case: dict[str, list[str]]) -> None:
    for case, names in files_of_case.items():
        (cases / case / "lungs").mkdir()
        for name in names:
            with Image.open(cases / case / "ct" / name) as image:
                Image.new("L", image.size, 255).save(cases / case / "lungs" / name)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    folder = "holds ct/, cases.csv and lungs/, covid/ if any"
    parser = importer_options(__file__, __doc__, folder, "where cases/ and cohort.csv go")
    add_grey_options(parser, default="the default")
    parser.add_argument("--split", default="", help="case01=train,case02=test,...; the others by --split-seed")
    parser.add_argument("--split-seed", type=int, default=0, help="for the cases that --split does not name")
    parser.add_argument("--whole-image", action="store_true", help="count all pixels where there is no lungs/")
    parser.add_argument("--site", help="site of all scans; the folder's name if not given")
    options = parser.parse_args(args)
    greys = options.grey_low_hu, options.grey_high_hu
    return run_importer(
        lambda: import_slices(
            options.folder,
            options.out,
            *greys,
            parse_split(options.split),
            options.split_seed,
            options.site,
            options.whole_image,
        )
    )


if __name__ == "__main__":
    run_command(main)
