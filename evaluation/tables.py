"""Tables of one run, of several runs, and of a study (the same experiments with several seeds).

Usage: `python -m evaluation.tables RUN_DIR [RUN_DIR ...]` or `python -m evaluation.tables --study STUDY_DIR`.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import print as rich_print
from rich.table import Table

from ct.classes import L3
from machine.command_line import run_command
from machine.latest import through_latest

Metrics = Mapping[str, float | int | None]
Study = Sequence[tuple[str, int, Metrics]]  # (experiment, seed, metrics)

CAPTION = (
    "Dice: mean over the n scans that have the finding. IOU, RV, TPR, FPR: pooled over the lungs of all scans. "
    "A dash: undefined, as where no scan has the finding."
)
KEYS = {  # column -> the part of the metrics.json key after the finding
    "Dice": "dice_mean",
    "IOU": "iou_pooled",
    "RV": "relative_volume",
    "TPR": "tpr",
    "FPR": "fpr",
    "n": "dice_mean_n",
}
FINDINGS = {
    "infection": "infection",
    "consolidation": "consolidation",
    "threshold": "threshold",
    "threshold_best": "best threshold",
    "threshold_smoothed": "best smoothed threshold",
    "opacity": "opacity (groups 2 to 4)",
} | {f"group_{group}": f"group {group}: {L3.leaves[group].name}" for group in L3.opacities}
DICE = "/dice_mean"
SEVERITY = "severity/pearson_r"


class Row(NamedTuple):
    """One finding of a run: its label in the table and its figures by column."""

    label: str
    figures: dict[str, float | int | None]


def finding_rows(metrics: Metrics) -> list[Row]:
    """Return the rows of a run's table, for the findings that the run has.

    Args:
        metrics: The flat dict of metrics.json. If it has `threshold_best/hu` or `threshold_smoothed/hu`, the picked
            threshold is shown in the label.
    """
    rows = []
    for finding in findings_of(metrics):
        label, hu = label_of(finding), metrics.get(f"{finding}/hu")
        figures = {column: metrics.get(f"{finding}/{key}") for column, key in KEYS.items()}
        rows.append(Row(label if hu is None else f"{label} ({hu:.0f} HU)", figures))
    return rows


def findings_of(metrics: Metrics) -> list[str]:
    """Return the findings that a run has figures of: the papers' in their order, then those of its own class set."""
    present = [key.removesuffix(DICE) for key in metrics if key.endswith(DICE) and not key.startswith("site/")]
    return [finding for finding in FINDINGS if finding in present] + [key for key in present if key not in FINDINGS]


def label_of(finding: str) -> str:
    """Return a finding's name in tables: the papers' label, or the key of another class set's finding."""
    return FINDINGS.get(finding, finding.replace("_", " "))


def text(column: str, value: float | int | None) -> str:
    """Format a figure of a column; a dash where it is undefined, whether as None or as NaN."""
    if value is None or not math.isfinite(value):
        return "-"
    if column == "n":
        return str(value)
    return f"{value:.4f}" if column == "FPR" else f"{value:.3f}"


def results_table(metrics: Metrics, title: str = "") -> Table:
    """Return the table that a run shows at its end, for the terminal; arguments as in `finding_rows`."""
    table = Table(title=title or None, caption=CAPTION)
    table.add_column("")
    for column in KEYS:
        table.add_column(column, justify="right")
    for label, figures in finding_rows(metrics):
        table.add_row(label, *(text(column, value) for column, value in figures.items()))
    return table


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows]) + "\n"


def study_records(study: Study) -> list[dict[str, Any]]:
    """Return the rows of study.csv: one per experiment, seed and finding, with the figures of `KEYS`."""
    records: list[dict[str, Any]] = []
    for experiment, seed, metrics in study:
        for finding in findings_of(metrics):
            figures = {column: metrics.get(f"{finding}/{key}") for column, key in KEYS.items()}
            records.append({"experiment": experiment, "seed": seed, "finding": finding, **figures})
        if SEVERITY in metrics:
            figures = {"n": metrics.get(f"{SEVERITY}_n"), "r": metrics[SEVERITY]}
            records.append({"experiment": experiment, "seed": seed, "finding": "severity", **figures})
    return records


def study_table(study: Study) -> str:
    """Return Markdown: per experiment and finding Dice (Pearson's r for severity) of each seed, then means over seeds.

    A mean leaves out seeds in which the figure is undefined. A row that an earlier experiment already showed (stage 2
    experiments share their stage 1 and its thresholds) is not shown again; study.csv has them all.
    """
    seeds = sorted({seed for _, seed, _ in study})
    groups: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for record in study_records(study):
        groups.setdefault((record["experiment"], record["finding"]), {})[record["seed"]] = record
    means = ("IOU", "RV", "TPR", "FPR")
    header = ["experiment", "finding", *(f"Dice, seed {seed}" for seed in seeds), "Dice, mean", *means]
    rows: list[list[str]] = []
    shown: list[list[str]] = []
    for (experiment, finding), by_seed in groups.items():
        dice = [by_seed.get(seed, {}).get("r" if finding == "severity" else "Dice") for seed in seeds]
        others = [defined_mean(record.get(column) for record in by_seed.values()) for column in means]
        figures = zip(["Dice"] * (len(seeds) + 1) + list(means), [*dice, defined_mean(dice), *others], strict=True)
        row = [
            "severity (Pearson's r)" if finding == "severity" else label_of(finding),
            *(text(column, value) for column, value in figures),
        ]
        if row not in shown:
            shown.append(row)
            rows.append([experiment, *row])
    return markdown(header, rows)


def defined_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are defined; None without any."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def read_metrics(run_dir: Path) -> dict[str, float | int | None]:
    """Read metrics.json of a run folder.

    Raises:
        ValueError: There is none.
    """
    path = through_latest(run_dir / "metrics.json")
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected the folder of a finished run, such as runs/unet_em/latest.")
    metrics: dict[str, float | int | None] = json.loads(path.read_text(encoding="utf-8"))
    return metrics


def print_run(run_dir: Path) -> None:
    """Print the table of a run and where its files are."""
    rich_print(results_table(read_metrics(run_dir), title=str(run_dir)))
    sys.stdout.write(f"run folder: {run_dir}\n")


def read_study(study_dir: Path) -> list[tuple[str, int, dict[str, float | int | None]]]:
    """Read the metrics of every STUDY_DIR/seed<k>/<experiment>/latest, by seed and experiment.

    Raises:
        ValueError: No such folder, or one without metrics.json.
    """
    runs = [
        (experiment.name, int(seed.name[4:]), read_metrics(experiment / "latest"))
        for seed in sorted(study_dir.glob("seed*"), key=lambda folder: (len(folder.name), folder.name))
        if seed.name[4:].isdigit()
        for experiment in sorted(folder for folder in seed.iterdir() if folder.is_dir())
    ]
    if not runs:
        raise ValueError(f"{study_dir}: no runs found; expected seed<k>/<experiment>/latest folders (make study).")
    return runs


def write_study(study_dir: Path) -> str:
    """Write STUDY_DIR/study.md and study.csv (one row per experiment, seed and finding); return the Markdown."""
    study = read_study(study_dir)
    markdown = study_table(study)
    (study_dir / "study.md").write_text(markdown, encoding="utf-8")
    with (study_dir / "study.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["experiment", "seed", "finding", *KEYS, "r"])
        writer.writeheader()
        writer.writerows(study_records(study))
    return markdown


def main(args: Sequence[str] | None = None) -> None:
    """Print the tables of run folders, or write and print a study's table."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.tables", description="Tables of finished runs.")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIR", help="folders with a metrics.json")
    parser.add_argument("--study", type=Path, metavar="STUDY_DIR", help="folder with seed<k>/<experiment>/latest")
    options = parser.parse_args(args)
    if bool(options.runs) == (options.study is not None):
        parser.error("give run folders, or --study STUDY_DIR")
    try:
        if options.study is not None:
            sys.stdout.write(write_study(options.study))
        for run, metrics in [(run, read_metrics(run)) for run in options.runs]:
            rich_print(results_table(metrics, title=str(run)))
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    run_command(main)
