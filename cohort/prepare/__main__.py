"""The command `ground-glass prepare`: the scans of a cohort.csv checked, and made into what training reads."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from machine.command_line import run_command
from machine.engines.options import add_engine_options, engine_of, part_of

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
    add_engine_options(parser)
    options = parser.parse_args(args)
    try:
        return run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    """Prepare the scans of the command line, or a part of them, and print what became of them.

    Raises:
        ValueError: The cohort or the options cannot be used.
    """
    from cohort.composition import as_text, scans_of_index, site_table
    from cohort.prepare.prepare_cohort import INDEX, gather_cohort, prepare_cohort, prepare_part, prepared_folder
    from cohort.prepare.verdicts import summary
    from ct.classes import read_class_set
    from machine.engines.processes import Processes

    classes, part = read_class_set(options.classes), part_of(options)
    out = options.out or prepared_folder(options.cohort, options.size, classes=classes)
    if part:
        counts = prepare_part(options.cohort, out, part, options.size, options.jobs, classes)
        print(f"part {part}: {counts['usable']} scans prepared, {counts['refused']} refused, in {out}")
        print("when all parts are done: the same command with --gather instead of --part writes the tables")
        return 0
    if options.gather:
        done = gather_cohort(options.cohort, out, options.size, classes)
    else:
        engine = engine_of(options, Processes(max(1, options.jobs)))
        done = prepare_cohort(options.cohort, out, options.size, options.jobs, classes, engine)
    print(as_text(site_table(scans_of_index(out / INDEX))))
    print(summary(done.verdicts))
    print(f"{len(done.folders)} scans in {out}; all verdicts: {done.verdicts_csv}")
    return 0


if __name__ == "__main__":
    run_command(main)
