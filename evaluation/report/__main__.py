"""The command `ground-glass report`: both papers' tables and figures of a run, a sweep, or all runs side by side.

Of a folder that `predict` wrote of several scans, it reports the lobes, and how a reader of the cohort scored them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from machine.command_line import run_command


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ground-glass report",
        description="Write tables and figures of runs, as both papers have them, or of segmented scans, by lobe.",
    )
    parser.add_argument(
        "run",
        nargs="*",
        help="run folders, experiments, or folders of segmented scans with their measurements.csv; by default all "
        "finished runs",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--sweep", metavar="NAME", help="report a sweep instead")
    parser.add_argument(
        "--cohort", type=Path, help="of segmented scans: their cohort.csv, for sites and a reader's scores"
    )
    options = parser.parse_args(args)
    try:
        pages = _report(options.run, options.runs, options.sweep, options.cohort)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*(f"report: {page}" for page in pages), sep="\n")
    return 0


def _report(names: Sequence[str], runs: Path, sweep: str | None, cohort: Path | None) -> list[Path]:
    """Write what was asked for; return the pages."""
    from evaluation.find_run import SWEEPS, selected_runs
    from evaluation.report.segmented_cohort import report_segmented
    from evaluation.report.write_reports import report_all, report_run
    from evaluation.run_data import read_run
    from evaluation.segmented_scans import MEASUREMENTS
    from evaluation.sweeps.sweep_report import write_sweep

    segmented = [Path(name) for name in names if (Path(name) / MEASUREMENTS).is_file()]
    if cohort is not None and not segmented:
        raise ValueError(
            f"a cohort goes with a folder of segmented scans, and none given here holds {MEASUREMENTS}; expected the "
            "folder that predict wrote of several scans"
        )
    if sweep:
        return [write_sweep(runs / SWEEPS / sweep, runs)]
    if not names:
        return [report_all(selected_runs([], runs), runs)]
    pages = [report_segmented(folder, cohort) for folder in segmented]
    others = [name for name in names if Path(name) not in segmented]
    return pages + [report_run(read_run(folder)) for folder in (selected_runs(others, runs) if others else [])]


if __name__ == "__main__":
    run_command(main)
