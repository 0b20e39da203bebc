"""Splits that never share a patient: by seed, site and weak label, by sites held out whole, by lists, in folds."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cohort.composition import composition
from cohort.csv_table import read_csv_table
from cohort.table import CohortRow, read_cohort, weak_label_of, write_cohort
from machine.command_line import run_command

HELD_OUT_SHARE = 0.15
# The columns of a test list that is a CSV file.
LISTED = ("scan_id", "patient_id")


def assign_splits(rows: Sequence[CohortRow], seed: int, held_out_sites: Sequence[str] = ()) -> tuple[CohortRow, ...]:
    """Give every row a split so that no patient is in two of them.

    An explicit split always wins and holds for all scans of its patient. Every other patient with a scan at a held-out
    site goes to test with all scans, those at other sites too. Of the rest, 15 % go to val and to test each (at least
    one, where that leaves some for train) unless that split is already named; the others are train. Each weak label
    (unknown is one), and each site within it, gives its share to within one patient. Patients are ordered by a hash of
    seed and patient_id, so another patient in the cohort moves few of the others.

    Args:
        rows: The cohort's rows.
        seed: Decides which patients are held out; the same patients and seed give the same splits.
        held_out_sites: Sites that go to test whole.

    Returns:
        The rows in the same order, each with train, val or test.

    Raises:
        ValueError: A held-out site is no site of the cohort.
    """
    sites = {row.site for row in rows}
    for site in held_out_sites:
        if site not in sites:
            raise ValueError(f"there is no site {site!r} to hold out; expected some of {', '.join(sorted(sites))}")
    split_of = {row.patient_id: "test" for row in rows if row.site in held_out_sites}
    split_of |= {row.patient_id: row.split for row in rows if row.split}
    strata = _strata([row for row in rows if row.patient_id not in split_of], seed)
    missing = [split for split in ("test", "val") if split not in split_of.values()]
    split_of |= _draw(list(strata.values()), missing, seed)
    return tuple(replace(row, split=split_of[row.patient_id]) for row in rows)


def apply_test_list(rows: Sequence[CohortRow], path: str | Path) -> tuple[CohortRow, ...]:
    """Put the patients of a list into test; `assign_splits` then leaves the test split as it is.

    Args:
        rows: The cohort's rows.
        path: UTF-8 text with one scan_id or patient_id per line, or a CSV file with one of these columns; a scan stands
            for all scans of its patient.

    Returns:
        The rows in the same order.

    Raises:
        ValueError: The list is missing or empty, names what the cohort does not hold, or contradicts an explicit split.
    """
    names = read_test_list(path)
    patients_of: dict[str, set[str]] = {}
    for row in rows:
        for name in (row.scan_id, row.patient_id):
            patients_of.setdefault(name, set()).add(row.patient_id)
    _refuse(path, [name for name in names if name not in patients_of], "is no scan_id or patient_id of the cohort")
    _refuse(path, [name for name in names if len(patients_of[name]) > 1], "is a scan of one patient and another's id")
    listed = {patient for name in names for patient in patients_of[name]}
    contradicted = [row.scan_id for row in rows if row.patient_id in listed and row.split not in ("", "test")]
    _refuse(path, contradicted, "is listed for test, but the cohort's split column says train or val")
    return tuple(replace(row, split="test") if row.patient_id in listed else row for row in rows)


def read_test_list(path: str | Path) -> tuple[str, ...]:
    """Read the names of a test list (see `apply_test_list`); ValueError if the file is missing, not UTF-8 or empty."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable UTF-8 text file ({error}); expected a name per line") from error
    if any(column in line for line in lines[:2] for column in LISTED):  # an id may hold a separator, a header tells
        table = read_csv_table(Path(path), LISTED)
        column = next((column for column in LISTED if column in table.header), "")
        lines = [record[column] for _, record in table.records()] if column else lines
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise ValueError(f"{path}: holds no name; expected one scan_id or patient_id per line")
    return names


def leave_one_site_out(rows: Sequence[CohortRow], seed: int) -> dict[str, tuple[CohortRow, ...]]:
    """Make one fold per site: that site is test, val is drawn from the others (see `assign_splits`).

    Splits that the rows state are not used. A patient with scans at two sites is in test, whole, in both folds.

    Raises:
        ValueError: There is one site only, or a fold would leave no patients for train and val.
    """
    sites = sorted({row.site for row in rows})
    if len(sites) < 2:
        raise ValueError(f"the cohort has one site, {sites[0]!r}; expected at least two to leave one out")
    free = [replace(row, split="") for row in rows]
    return {site: _checked(assign_splits(free, seed, (site,)), f"site {site!r} held out") for site in sites}


def patient_folds(rows: Sequence[CohortRow], folds: int, seed: int) -> tuple[tuple[CohortRow, ...], ...]:
    """Make folds in which every patient is in test once; val is drawn from the others (see `assign_splits`).

    Splits that the rows state are not used. The folds' sizes differ by one patient at most, within each weak label and
    within each site of it too.

    Args:
        rows: The cohort's rows; rows that must stay together share a patient_id.
        folds: How many.
        seed: Decides who is in which fold.

    Returns:
        The rows of each fold, in the same order.

    Raises:
        ValueError: There are fewer patients than folds, or a fold would leave no patients for train and val.
    """
    free = [replace(row, split="") for row in rows]
    ordered = [patient for patients in _strata(free, seed).values() for patient in patients]
    if not 2 <= folds <= len(ordered):
        raise ValueError(f"found {folds} folds for {len(ordered)} patients; expected from 2 to {len(ordered)} folds")
    fold_of = {patient: number % folds for number, patient in enumerate(ordered)}
    return tuple(
        _checked(
            assign_splits([replace(r, split="test") if fold_of[r.patient_id] == fold else r for r in free], seed),
            f"fold {fold + 1}",
        )
        for fold in range(folds)
    )


def _checked(rows: tuple[CohortRow, ...], fold: str) -> tuple[CohortRow, ...]:
    missing = sorted({"train", "val"} - {row.split for row in rows})
    if missing:
        raise ValueError(f"{fold} leaves no patient for {' and '.join(missing)}; expected at least two patients there")
    return rows


def _refuse(path: str | Path, names: Sequence[str], reason: str) -> None:
    if names:
        raise ValueError("\n".join(f"{path}: {name!r} {reason}" for name in names))


def _strata(rows: Sequence[CohortRow], seed: int) -> dict[tuple[int, str], list[str]]:
    """Group patients by weak label, then by site; the sites, and the patients of a group, in the seed's order."""
    rows_of: dict[str, list[CohortRow]] = {}
    for row in rows:
        rows_of.setdefault(row.patient_id, []).append(row)
    strata: dict[tuple[int, str], list[str]] = {}
    for patient in sorted(rows_of, key=lambda patient: _rank(seed, "patient", patient)):
        sites = "\0".join(sorted({row.site for row in rows_of[patient]}))
        strata.setdefault((max(map(_label, rows_of[patient])), sites), []).append(patient)
    return dict(sorted(strata.items(), key=lambda item: (item[0][0], _rank(seed, "site", item[0][1]))))


def _label(row: CohortRow) -> int:
    try:
        return weak_label_of(row)
    except (ValueError, OSError):
        # Who prepares the cohort refuses such a report and names it; here it is a label that nobody knows.
        return -1


def _rank(seed: int, *name: str) -> float:
    """Draw a number in [0, 1) that depends on nothing but a seed and a name."""
    digest = hashlib.sha256("\0".join([str(seed), *name]).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _draw(strata: Sequence[Sequence[str]], splits: Sequence[str], seed: int) -> dict[str, str]:
    """Draw at most two splits from all strata alike; who is not drawn is train."""
    number = sum(map(len, strata))
    split_of = {patient: "train" for patients in strata for patient in patients}
    if not splits or number <= len(splits):
        return split_of
    count = max(1, round(HELD_OUT_SHARE * number))
    held_out = _apportion([len(patients) for patients in strata], len(splits) * count, _rank(seed, "held out"))
    first = _apportion(held_out, count, _rank(seed, "first"))
    for patients, of_first, of_both in zip(strata, first, held_out, strict=True):
        # From both ends, so that one more patient moves others into or out of train, not from val to test.
        split_of |= dict.fromkeys(patients[:of_first], splits[0])
        split_of |= dict.fromkeys(patients[len(patients) - (of_both - of_first) :], splits[-1])
    return split_of


def _apportion(sizes: Sequence[int], total: int, offset: float) -> list[int]:
    """Share `total` out in proportion: every run of neighbours gets its quota, rounded up or down."""
    size = sum(sizes)
    edges = [math.floor(offset + total * part / size) for part in itertools.accumulate(sizes, initial=0)]
    return [end - start for start, end in itertools.pairwise(edges)]


def _cohorts(rows: Sequence[CohortRow], options: argparse.Namespace) -> dict[str, tuple[CohortRow, ...]]:
    """Return the cohorts that a command line asks for, by the folder that each shall lie in."""
    if options.leave_one_site_out:
        folds = leave_one_site_out(rows, options.seed)
        folders = {re.sub(r"[^A-Za-z0-9_-]+", "_", f"site-{site}"): fold for site, fold in folds.items()}
        if len({folder.lower() for folder in folders}) < len(folds):
            raise ValueError(f"some of the sites {', '.join(folds)} would get the same folder name; rename them")
        return folders
    if options.folds is not None:
        return {f"fold-{n}": fold for n, fold in enumerate(patient_folds(rows, options.folds, options.seed), start=1)}
    listed = apply_test_list(rows, options.test_list) if options.test_list else rows
    return {".": assign_splits(listed, options.seed, options.held_out_sites)}


def _notes(rows: Sequence[CohortRow], options: argparse.Namespace) -> list[str]:
    """Return notes on where the cohort's own splits and the command line disagree."""
    if options.leave_one_site_out or options.folds is not None:
        return [f"the split column of {options.cohort} is not used for folds"] if any(r.split for r in rows) else []
    kept = [row.scan_id for row in rows if row.site in options.held_out_sites and row.split not in ("", "test")]
    reason = f"not held out, because the split column of {options.cohort} says otherwise"
    return [f"{reason}: {', '.join(kept)}"] if kept else []


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cohort.splits", description=__doc__)
    parser.add_argument("--cohort", required=True, type=Path, help="the cohort.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder for the new cohort.csv, or for one per fold")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--leave-one-site-out", action="store_true", help="a fold per site, which is its test split")
    how.add_argument("--folds", type=int, help="so many folds; every patient is in test once")
    how.add_argument("--test-list", type=Path, help="a scan_id or patient_id per line, or a CSV file with that column")
    how.add_argument("--held-out-sites", nargs="+", default=[], help="sites that go to test whole")
    parser.add_argument("--seed", type=int, default=0, help="decides who is held out")
    options = parser.parse_args(args)
    try:
        rows = read_cohort(options.cohort).rows
        cohorts = _cohorts(rows, options)
        paths = {
            folder: write_cohort(cohort, options.out / folder / "cohort.csv") for folder, cohort in cohorts.items()
        }
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for note in _notes(rows, options):
        print(note, file=sys.stderr)
    for folder, cohort in cohorts.items():
        print(f"{paths[folder]}\n{composition(cohort)}\n")
    return 0


if __name__ == "__main__":
    run_command(main)
