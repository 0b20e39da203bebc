"""Figures of a cross-validation: every scan is in the test split of one fold, and all of them count together.

    python -m evaluation.folds runs/folds

The folder holds fold-<n>/<experiment>/latest (make cross-validate).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evaluation.tables import KEYS, finding_rows, markdown, text
from machine.command_line import run_command
from machine.latest import through_latest
from metrics.summary import Metrics, overlap_figures, tables_of


def pooled_metrics(scans: pd.DataFrame) -> Metrics:
    """Return the overlap figures of metrics.json from the rows of scans.csv files.

    Args:
        scans: Rows of the test scans of all folds, each scan once.

    Returns:
        Flat figures, None where undefined; the means are over the scans that have the finding.

    Raises:
        ValueError: A scan is listed twice.
    """
    repeated = scans["scan_id"][scans["scan_id"].duplicated()]
    if len(repeated):
        raise ValueError(f"scan {repeated.iloc[0]!r} is in the test split of two folds; expected each scan once")
    figures: Metrics = {"scans": len(scans), "slices": int(scans["slices"].sum())}
    for name in (column.removesuffix("_tp") for column in map(str, scans) if column.endswith("_tp")):
        figures |= overlap_figures(name, tables_of(scans, name), scans)
    return figures


def read_folds(folder: Path) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the scans.csv of all folds by experiment, and a sentence for each that is not finished in every fold.

    Raises:
        ValueError: No experiment is finished in every fold.
    """
    folds = sorted(path for path in folder.glob("fold-*") if path.is_dir())
    experiments = sorted({path.parent.name for path in folder.glob("fold-*/*/latest")})
    if not experiments:
        raise ValueError(f"{folder}: no finished folds; expected fold-<n>/<experiment>/latest (make cross-validate)")
    scans_of, left_out = {}, []
    for experiment in experiments:
        tables = [through_latest(fold / experiment / "latest" / "scans.csv") for fold in folds]
        missing = [fold.name for fold, table in zip(folds, tables, strict=True) if not table.is_file()]
        if missing:
            left_out.append(f"{experiment} is left out: not finished in {', '.join(missing)}")
        else:
            scans_of[experiment] = pd.concat([pd.read_csv(table) for table in tables], ignore_index=True)
    if not scans_of:
        raise ValueError(f"{folder}: {'; '.join(left_out)}; make cross-validate EXP=<experiment> trains them")
    return scans_of, left_out


def folds_table(metrics_of: dict[str, Metrics]) -> str:
    """Return a Markdown table with a row per experiment and finding."""
    rows = [
        [experiment, row.label, *(text(column, value) for column, value in row.figures.items())]
        for experiment, metrics in metrics_of.items()
        for row in finding_rows(metrics)
    ]
    return markdown(["experiment", "finding", *KEYS], rows)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.folds", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with fold-<n>/<experiment>/latest")
    options = parser.parse_args(args)
    try:
        scans_of, left_out = read_folds(options.folder)
        metrics_of = {name: pooled_metrics(scans) for name, scans in scans_of.items()}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for experiment, metrics in metrics_of.items():
        (options.folder / f"{experiment}.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    table = folds_table(metrics_of)
    (options.folder / "folds.md").write_text(table, encoding="utf-8")
    print(table, *left_out, sep="\n")
    return 0


if __name__ == "__main__":
    run_command(main)
