"""One cohort of several: the rows of a cohort.csv with those of others, which may be for training alone.

python -m cohort.join cohorts/a/cohort.csv --train cohorts/b/cohort.csv --out cohorts/a_and_b/cohort.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cohort.composition import composition
from cohort.table import CohortRow, read_cohort, write_cohort
from ct.refusal import Refusal
from machine.command_line import run_command


def join(cohorts: Sequence[Path], train: Sequence[Path]) -> tuple[CohortRow, ...]:
    """Return the rows of all cohorts.

    Args:
        cohorts: Those whose splits stay.
        train: Those whose scans are all for training, whatever their splits.

    Raises:
        ValueError: A cohort is wrong, or two of them have a scan of one name or a patient of one name, who would count
            as one.
    """
    rows: list[CohortRow] = []
    of_scan: dict[str, Path] = {}
    of_patient: dict[str, Path] = {}
    for path in (*cohorts, *train):
        for row in read_cohort(path).rows:
            for name, column, seen in ((row.scan_id, "scan_id", of_scan), (row.patient_id, "patient_id", of_patient)):
                first = seen.setdefault(name, path)
                if first != path:
                    text = "{column} {name!r} is in {first} and in {second}; expected names of their own: rename one"
                    raise Refusal(text, column=column, name=name, first=first, second=path)
            rows.append(replace(row, split="train") if path in train else row)
    return tuple(rows)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cohort.join", description=__doc__)
    parser.add_argument("cohorts", type=Path, nargs="+", help="cohort.csv files whose splits stay")
    parser.add_argument(
        "--train", type=Path, nargs="+", default=[], help="cohort.csv files of scans for training alone"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the cohort.csv to write; its paths become relative to it"
    )
    options = parser.parse_args(args)
    try:
        rows = join(options.cohorts, options.train)
        write_cohort(rows, options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(composition(rows))
    print(options.out)
    return 0


if __name__ == "__main__":
    run_command(main)
