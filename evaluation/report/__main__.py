"""The command `ground-glass report`: both papers' tables and figures of a run, a sweep, or all runs side by side."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from machine.command_line import run_command


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ground-glass report", description="Write tables and figures of runs, as both papers have them."
    )
    parser.add_argument("run", nargs="*", help="run folders or experiments; by default all finished runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--sweep", metavar="NAME", help="report a sweep instead")
    options = parser.parse_args(args)
    from evaluation.find_run import SWEEPS, selected_runs
    from evaluation.report.write_reports import report_all, report_run
    from evaluation.run_data import read_run
    from evaluation.sweeps.sweep_report import write_sweep

    try:
        if options.sweep:
            pages = [write_sweep(options.runs / SWEEPS / options.sweep, options.runs)]
        else:
            folders = selected_runs(options.run, options.runs)
            pages = (
                [report_run(read_run(folder)) for folder in folders]
                if options.run
                else [report_all(folders, options.runs)]
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*(f"report: {page}" for page in pages), sep="\n")
    return 0


if __name__ == "__main__":
    run_command(main)
