"""Paired comparison of two runs over the scans that both were tested on.

    python -m evaluation.compare unet_em unet_em_phi1

Writes tables, a figure and a page to runs/compare/<A>-<B>/. Both runs need the masks of their test scans
(make compare A=... B=... makes them first), so that their truths can be compared voxel by voxel.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from tqdm import tqdm

from evaluation.find_run import find_run
from evaluation.report.drawing import point_styles
from evaluation.report.report_folder import ReportFolder
from evaluation.run_data import Run, read_run
from evaluation.statistics import between, paired_comparison
from machine.command_line import run_command
from metrics.overlap import counts
from metrics.summary import tables_of
from pages.page import counted

FIGURES = {
    "dice": "Dice",
    "iou": "IOU",
    "volume_error_ml": "absolute error of the volume (ml)",
    "false_positive_ml": "false positives (ml), scans without the finding",
}
MOST_NAMES = 40


def common_findings(a: Run, b: Run) -> list[str]:
    """Return the findings that both runs are judged by.

    Raises:
        ValueError: There is none.
    """
    both = [finding for finding in a.findings if finding in b.findings]
    if not both:
        raise ValueError(
            f"{a.folder} is judged by {', '.join(a.findings)}, {b.folder} by {', '.join(b.findings)}; "
            "expected two runs of the same task"
        )
    return both


def common_scans(a: Run, b: Run) -> list[str]:
    """Return the scans that both runs were tested on, in the order of the first, after comparing their truths.

    Raises:
        ValueError: There are none, masks are missing, or the truths differ in a voxel.
    """
    for run in (a, b):
        if not run.has_masks:
            raise ValueError(f"{run.folder}: no masks of its test scans; make them with make compare, or SAVE_MASKS=1")
    scans = [scan_id for scan_id in a.scans["scan_id"] if scan_id in set(b.scans["scan_id"])]
    if not scans:
        raise ValueError(
            f"{a.folder} and {b.folder} were tested on no scan in common; expected runs on the same test split"
        )
    findings = common_findings(a, b)
    for scan_id in tqdm(scans, "truths", unit="scan", leave=False, disable=None):
        truths = [{finding: run.pair(scan_id, finding)[0] for finding in findings} for run in (a, b)]
        differing = [finding for finding in findings if not np.array_equal(truths[0][finding], truths[1][finding])]
        if differing:
            raise ValueError(
                f"scan {scan_id}: the truth of {differing[0]} differs between {a.folder} and {b.folder}; expected runs "
                "on the same cohort prepared at the same size, both tested since it last changed"
            )
    return scans


def scan_values(run: Run, finding: str) -> pd.DataFrame:
    """Return the figures of each scan: patient, site and the columns of FIGURES; indexed by scan_id, NaN if undefined.

    Volumes are of the labelled voxels inside the lungs. A scan with the finding has no false_positive_ml, one without
    it no dice and no iou.
    """
    scans = run.scans.set_index("scan_id")
    tp, fp, fn, tn = counts(tables_of(scans, finding))
    ml, judged = scans["voxel_ml"].to_numpy(float), tp + fp + fn + tn > 0
    negative = judged & (tp + fn == 0)
    return pd.DataFrame(
        {"patient": scans["patient"], "site": scans["site"], "dice": scans[f"{finding}_dice"]}
        | {"iou": scans[f"{finding}_iou"], "volume_error_ml": np.where(judged, np.abs(fp - fn), np.nan) * ml}
        | {"false_positive_ml": np.where(negative, fp, np.nan) * ml}
    )


def paired_scans(a: Run, b: Run) -> pd.DataFrame:
    """Return a row per finding and common scan: finding, scan_id, patient, site, and every figure as <figure>_a, _b."""
    scans = common_scans(a, b)
    tables = []
    for finding in common_findings(a, b):
        first, second = scan_values(a, finding).loc[scans], scan_values(b, finding).loc[scans]
        figures = [values[list(FIGURES)].add_suffix(suffix) for values, suffix in ((first, "_a"), (second, "_b"))]
        joined = pd.concat([first[["patient", "site"]], *figures], axis=1).reset_index()
        joined.insert(0, "finding", finding)
        tables.append(joined)
    return pd.concat(tables, ignore_index=True)


def comparison_table(pairs: pd.DataFrame, name_a: str, name_b: str) -> pd.DataFrame:
    """Return the means of every finding and figure, their difference with its interval by patient, and Wilcoxon's test.

    Args:
        pairs: Rows of `paired_scans`.
        name_a: The first run, heading its means.
        name_b: The second run.
    """
    rows = []
    for finding in pairs["finding"].unique():
        scans = pairs[pairs["finding"] == finding]
        for figure, label in FIGURES.items():
            first, second = scans[f"{figure}_a"], scans[f"{figure}_b"]
            both = first.notna() & second.notna()
            if both.any():
                test = paired_comparison(first, second, scans["patient"])
                rows.append(
                    {"finding": finding, "figure": label, name_a: first[both].mean(), name_b: second[both].mean()}
                    | {"difference": test.mean_difference, "low": test.low, "high": test.high}
                    | {"p (Wilcoxon)": test.wilcoxon_p, "n": test.n, "left out": test.left_out}
                )
    return pd.DataFrame(rows)


def draw_differences(pairs: pd.DataFrame, name_a: str, name_b: str) -> Any:
    """Draw the difference in Dice of every scan, sorted, with the mean and its interval; a panel per finding.

    Args:
        pairs: Rows of `paired_scans`.
        name_a: The first run.
        name_b: The second run.

    Returns:
        A matplotlib figure.
    """
    findings = [name for name in pairs["finding"].unique() if _differences(pairs, name)["difference"].notna().any()]
    most = max(int(_differences(pairs, finding)["difference"].notna().sum()) for finding in findings)
    figure, axes = plt.subplots(
        1,
        len(findings),
        figsize=(4.2 * len(findings) + 0.4, 2.2 + 0.17 * min(most, MOST_NAMES)),
        squeeze=False,
        layout="constrained",
    )
    for axis, finding in zip(axes[0], findings, strict=True):
        rows = _differences(pairs, finding).dropna(subset="difference").sort_values("difference")
        test = paired_comparison(rows["dice_a"], rows["dice_b"], rows["patient"])
        places = pd.Series(range(len(rows)), index=rows.index)
        for site, (marker, colour) in zip(sorted(pairs["site"].unique()), point_styles(), strict=False):
            difference = rows.loc[rows["site"] == site, "difference"]
            axis.scatter(
                difference, places[difference.index], marker=marker, color=colour, label=f"site {site}", zorder=3
            )
        axis.axvline(0, color="grey", linestyle=":")
        axis.axvline(test.mean_difference, color="black")
        axis.axvspan(test.low, test.high, color="black", alpha=0.12, linewidth=0)
        mean = between(test.mean_difference, test.low, test.high, "+.3f")
        axis.set_title(f"{finding}, n = {counted(test.n, 'scan')}\nmean {mean}, p = {test.wilcoxon_p:.2g}", fontsize=9)
        axis.set(xlabel=f"Dice of {name_a}\nminus Dice of {name_b}", ylabel="scan")
        axis.set_yticks(places, rows["scan_id"] if len(rows) <= MOST_NAMES else [""] * len(rows), fontsize=7)
    axes[0, 0].legend(fontsize=8)
    return figure


def _differences(pairs: pd.DataFrame, finding: str) -> pd.DataFrame:
    rows = pairs[pairs["finding"] == finding]
    return rows.assign(difference=rows["dice_a"] - rows["dice_b"])


def names_of(a: Run, b: Run) -> tuple[str, str]:
    """Return the names of two runs: their experiments, with their timestamps where these are the same."""
    if a.experiment != b.experiment:
        return a.experiment, b.experiment
    return f"{a.experiment}_{a.folder.name}", f"{b.experiment}_{b.folder.name}"


def write_comparison(a: Run, b: Run, out: Path) -> Path:
    """Write tables, figure and page of a comparison to out/<A>-<B>.

    Returns:
        The folder.

    Raises:
        ValueError: The runs cannot be compared (see `common_scans`).
    """
    pairs, (name_a, name_b) = paired_scans(a, b), names_of(a, b)
    table = comparison_table(pairs, name_a, name_b)
    report = ReportFolder(out / f"{name_a}-{name_b}")
    report.section("Paired differences")
    caption = (
        f"difference = {name_a} minus {name_b}; low and high: its 95 % interval, bootstrapped by patient. Two-sided "
        f"Wilcoxon signed-rank tests of scans; the {len(table)} p values are not adjusted for their number. left out: "
        "scans of which the figure is undefined in either run."
    )
    report.table("comparison", table, "Paired tests", caption)
    if pairs["dice_a"].notna().any():
        report.figure("differences", draw_differences(pairs, name_a, name_b), "Difference of each scan", DIFFERENCES)
    report.table("scans", pairs, "Every scan", "_a: the first run, _b: the second.")
    facts = {name: f"run {run.folder.name}" for name, run in ((name_a, a), (name_b, b))}
    report.write(
        f"{name_a} against {name_b}", f"{pairs['scan_id'].nunique()} test scans that both were tested on.", facts
    )
    return report.folder


DIFFERENCES = "Solid line and band: mean and its 95 % interval, bootstrapped by patient. Dotted line: no difference."


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.compare", description=__doc__)
    parser.add_argument("a", help="a run folder, or an experiment")
    parser.add_argument("b", help="the run to compare it with")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    options = parser.parse_args(args)
    if not (options.a and options.b):
        print("error: name two runs: A=<run folder or experiment> B=<run folder or experiment>", file=sys.stderr)
        return 2
    try:
        a, b = (read_run(find_run(name, options.runs)) for name in (options.a, options.b))
        folder = write_comparison(a, b, options.runs / "compare")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print((folder / "tables" / "comparison.md").read_text(encoding="utf-8"), f"written to {folder}", sep="\n")
    return 0


if __name__ == "__main__":
    run_command(main)
