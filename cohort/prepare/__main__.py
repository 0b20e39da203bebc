"""The command `ground-glass prepare`: the scans of a cohort.csv checked, and made into what training reads."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from machine.command_line import run_command

PHANTOM = Path("cohorts/phantom/cohort.csv")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ground-glass prepare", description="Check and prepare the scans of a cohort.csv; verdicts.csv says which."
    )
    parser.add_argument("--cohort", type=Path, default=PHANTOM, help="the cohort.csv")
    parser.add_argument("--out", type=Path, help="folder for the prepared scans; if blank, where training looks")
    parser.add_argument("--size", type=int, default=256, help="pixels along each side in plane")
    parser.add_argument("--classes", default="l3", help="class set of pattern masks, of experiments/classes (l3)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that work at the same time")
    options = parser.parse_args(args)
    from cohort.composition import as_text, scans_of_index, site_table
    from cohort.prepare.prepare_cohort import INDEX, prepare_cohort, prepared_folder
    from cohort.prepare.verdicts import summary
    from ct.classes import read_class_set

    try:
        classes = read_class_set(options.classes)
        out = options.out or prepared_folder(options.cohort, options.size, classes=classes)
        done = prepare_cohort(options.cohort, out, options.size, options.jobs, classes)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_text(site_table(scans_of_index(out / INDEX))))
    print(summary(done.verdicts))
    print(f"{len(done.folders)} scans in {out}; all verdicts: {done.verdicts_csv}")
    return 0


if __name__ == "__main__":
    run_command(main)
