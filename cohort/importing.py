"""The frame of all importers: what one collects becomes a cohort, whole or not at all; and its command line."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cohort.table import CohortRow, read_cohort, write_cohort
from ct.grey_window import AUTO, GreyLimit, Greys

# Everything that an importer may write beside cohort.csv; what an earlier import left there is taken away.
OUTPUTS = ("cases", "images", "lungs", "masks", "slices.csv", "subjects.csv", "left_out.csv")


@dataclass
class NewCohort:
    """What an importer collects.

    Attributes:
        folder: Empty at first; files written here (under the names in `OUTPUTS`) move to the cohort's folder at the
            end, and the paths of `rows` with them.
        rows: The scans.
        tables: The records of subjects.csv and slices.csv, under these names.
        left_out: What was not taken in, and why; becomes left_out.csv.
    """

    folder: Path
    rows: list[CohortRow] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def new_cohort(folder: str | Path, out_dir: str | Path) -> Iterator[NewCohort]:
    """Collect a cohort, which takes the place of an earlier one in `out_dir` when the block ends without an error.

    Args:
        folder: The data set, in which nothing is touched.
        out_dir: Where cohort.csv and the files written for it go; made if missing.

    Yields:
        An empty cohort to fill.

    Raises:
        ValueError: No scan was found, a row is wrong (see `read_cohort`), or `out_dir` holds files of someone else.
    """
    out = Path(out_dir)
    _check_out(Path(folder), out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # On the same disk as the cohort, so that files move there at once.
    with tempfile.TemporaryDirectory(dir=out if out.is_dir() else out.parent, prefix=".import-") as temporary:
        new = NewCohort(Path(temporary) / "new")
        new.folder.mkdir()
        yield new
        _check(new, out)
        if new.left_out:
            new.tables["left_out.csv"] = [{"name": name, "reason": reason} for name, reason in new.left_out]
        for name, records in new.tables.items():
            if records:
                _write_table(records, new.folder / name)
        out.mkdir(exist_ok=True)
        # Without cohort.csv, nobody takes the files for a cohort while old and new ones change places.
        (out / "cohort.csv").unlink(missing_ok=True)
        for name in OUTPUTS:
            if (out / name).exists():
                os.replace(out / name, Path(temporary) / name)
            if (new.folder / name).exists():
                os.replace(new.folder / name, out / name)
        write_cohort([_moved(row, new.folder, out) for row in new.rows], out / "cohort.csv")


def importer_options(file: str, doc: str, folder: str, out: str) -> argparse.ArgumentParser:
    """Return the parser of an importer's command line, with the options that all importers have.

    Args:
        file: The importer's `__file__`.
        doc: Its docstring, of which the first line describes it.
        folder: What the folder of the data set holds.
        out: Where the files that are written go.
    """
    parser = argparse.ArgumentParser(prog=f"ground-glass import {Path(file).stem}", description=doc.splitlines()[0])
    parser.add_argument("--folder", required=True, type=Path, help=folder)
    parser.add_argument("--out", required=True, type=Path, help=out)
    return parser


def add_grey_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the two options for what grey values stand for.

    Args:
        parser: The importer's.
        default: What happens without them.
    """
    parser.add_argument("--grey-low-hu", type=_grey_limit, help=f"HU of grey 0, or auto: estimated ({default})")
    parser.add_argument("--grey-high-hu", type=_grey_limit, help=f"HU of grey 255, or auto: estimated ({default})")


def _grey_limit(text: str) -> GreyLimit:
    if text.lower() == AUTO:
        return AUTO
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number of HU, or auto") from None


def grey_limits(low: GreyLimit | None, high: GreyLimit | None) -> Greys | None:
    """Return what grey 0 and grey 255 stand for; None where neither is given.

    Raises:
        ValueError: Only one is given or `AUTO`, or the first is not below the second.
    """
    if low is None and high is None:
        return None
    if low is None or high is None:
        raise ValueError(f"found grey_low_hu {low} and grey_high_hu {high}; expected both or neither")
    if low == AUTO or high == AUTO:
        if low != high:
            raise ValueError(f"grey 0 = {low} and grey 255 = {high}; expected both auto, or two numbers of HU")
        return AUTO
    if not low < high:
        raise ValueError(f"grey 0 = {low} HU and grey 255 = {high} HU; expected the first lower")
    return low, high


def run_importer(make: Callable[[], Path]) -> int:
    """Run an importer for the command line: print what came in and what was left out; return the exit code."""
    try:
        path = make()
        rows = read_cohort(path).rows
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if (path.parent / "left_out.csv").is_file():
        with (path.parent / "left_out.csv").open(encoding="utf-8", newline="") as file:
            for record in csv.DictReader(file):
                print(f"left out: {record['name']}: {record['reason']}")
    sites = ", ".join(f"{site} {count}" for site, count in sorted(Counter(row.site for row in rows).items()))
    print(f"{len(rows)} scans of {len({row.patient_id for row in rows})} patients ({sites})")
    print(path)
    return 0


def _check_out(folder: Path, out: Path) -> None:
    present = [name for name in OUTPUTS if (out / name).exists()]
    if out.resolve() == folder.resolve() or (present and not (out / "cohort.csv").exists()):
        content = f"{present[0]} without a cohort.csv" if present else "the data set itself"
        raise ValueError(f"{out}: holds {content}; expected a new folder or one that an importer wrote; choose another")


def _check(new: NewCohort, out: Path) -> None:
    """Let the cohort be read where it still lies apart, so that a wrong one takes nobody's place."""
    if not new.rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in new.left_out[:1])
        raise ValueError(f"{out}: no scan can be taken in ({reasons or 'none was found'}); expected at least one")
    try:
        read_cohort(write_cohort(new.rows, new.folder / "cohort.csv"))
    except ValueError as error:
        raise ValueError(str(error).replace(str(new.folder), str(out))) from error


def _write_table(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def _moved(row: CohortRow, source: Path, target: Path) -> CohortRow:
    values: dict[str, Any] = {item.name: getattr(row, item.name) for item in fields(row)}
    for name, value in values.items():
        if isinstance(value, Path) and value.is_relative_to(source):
            values[name] = target / value.relative_to(source)
    return CohortRow(**values)
