"""The reader study (paper L3, section 3): how well readers agree, and where a model lies among them.

Usage: `python -m evaluation.readers --cohort COHORT --out OUT_DIR [--predictions RUN_DIR/masks]`. It takes the scans of
the cohort that two or more readers labelled (column `readers` of cohort.csv), of any split, and writes readers.csv,
pairwise.csv, scans.csv, readers.json, readers.md and figures/ (PNG and PDF). A reader of one scan is taken to be the
reader at the same place in the column of every other scan.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cohort.prepare.prepare_cohort import prepare_cohort, prepared_folder
from ct.classes import L3
from evaluation.readers.study_counts import ScanCounts, count_study
from evaluation.readers.study_figures import draw_maps, draw_matrix, most_contested
from evaluation.readers.study_tables import Metrics, pairs_table, readers_table, scans_table, summarise
from evaluation.report.drawing import save
from machine.command_line import run_command
from machine.latest import through_latest

SLICES_SHOWN = 3


# Rows of the summary: key in readers.json, label, and what the key's `_n` counts.
LINES = {
    "pairwise_iou_mean": ("two readers, opacity IOU, mean over pairs", "pairs"),
    "pairwise_iou_min": ("two readers, opacity IOU, least", ""),
    "pairwise_iou_max": ("two readers, opacity IOU, most", ""),
    **{
        f"group_{group}_pairwise_iou_mean": (f"two readers, {L3.leaves[group].name} IOU, mean over pairs", "pairs")
        for group in L3.opacities
    },
    "average_iou_mean": ("reader and average of all, opacity IOU", "readers"),
    "ceiling_iou": ("reader and average of the others, opacity IOU (human ceiling)", "readers"),
    "closer_to_average": ("readers closer to the average of the others than to any peer", "readers"),
    "full_agreement": ("full agreement: all say opaque, of voxels that any calls opaque", "voxels"),
    "full_group_agreement": ("full agreement in the group, of the same voxels", "voxels"),
    "entropy_mean": ("entropy of the groups (nats), mean over the same voxels", "voxels"),
    "staple_mean_iou": ("STAPLE and average of all, opacity IOU", "scans"),
    "model_pairwise_iou_mean": ("model and each reader, opacity IOU", "readers"),
    "model_iou": ("model and average of the others, opacity IOU", "readers"),
    "model_ceiling_iou": ("reader and average of the others on the model's scans", "readers"),
    "model_minus_ceiling": ("model - reader", "scans"),
    "model_minus_ceiling_low": ("model - reader, 95 % interval (paired bootstrap over scans), low", ""),
    "model_minus_ceiling_high": ("model - reader, 95 % interval, high", ""),
}


def summary_markdown(figures: Metrics) -> str:
    """Return the summary in Markdown; a dash where a figure is undefined, no rows of the model without one."""
    rows = ["| opacity = groups 2 to 4 | figure | n |", "| --- | ---: | ---: |"]
    for key, (label, unit) in LINES.items():
        if f"readers/{key}" in figures:
            value = figures[f"readers/{key}"]
            text = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
            n = f"{figures[f'readers/{key}_n']} {unit}" if unit else ""
            rows.append(f"| {label} | {text} | {n} |")
    return "\n".join(rows) + "\n"


def heading(scans: Sequence[ScanCounts], figures: Metrics, predictions: Path | None) -> str:
    """Return a line on the study's size, and one for each of its limits."""
    least, most = figures["readers/readers_min"], figures["readers/readers"]
    readers = f"{most}" if least == most else f"{least} to {most}"
    lines = [f"{len(scans)} scans, {figures['readers/slices']} labelled slices, {readers} readers per scan"]
    if predictions is not None:
        lines.append(f"model: {sum(scan.has_model for scan in scans)} of these scans have a mask in {predictions}")
    if figures["readers/staple_unconverged"]:
        lines.append(f"STAPLE did not converge on {figures['readers/staple_unconverged']} scans")
    return "\n".join(lines) + "\n\n"


def write_study(prepared: Path, out: Path, predictions: Path | None = None) -> str:
    """Study the readers of a prepared cohort and write tables and figures to `out`.

    Args:
        prepared: Folder of a prepared cohort.
        out: Folder for tables and figures; made if needed.
        predictions: The masks folder of a model's run.

    Returns:
        The text of readers.md.

    Raises:
        ValueError: No scan has two readers, or the masks do not fit.
    """
    scans = count_study(prepared, predictions)
    figures = summarise(scans)
    markdown = heading(scans, figures, predictions) + summary_markdown(figures)
    out.mkdir(parents=True, exist_ok=True)
    readers_table(scans).to_csv(out / "readers.csv", index=False)
    pairs_table(scans).to_csv(out / "pairwise.csv", index=False)
    scans_table(scans).to_csv(out / "scans.csv", index=False)
    (out / "readers.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (out / "readers.md").write_text(markdown, encoding="utf-8")
    save(draw_matrix(scans), out / "figures" / "agreement_matrix")
    places = most_contested(scans, SLICES_SHOWN)
    if places:
        save(draw_maps(scans, places, predictions), out / "figures" / "agreement_maps")
    return markdown


def main(args: Sequence[str] | None = None) -> None:
    """Write the study and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.readers", description="How well readers agree.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cohort", type=Path, help="cohort.csv with a column 'readers'; prepared first, if needed")
    source.add_argument("--prepared", type=Path, help="folder of a prepared cohort")
    parser.add_argument("--size", type=int, default=256, help="pixels along each side in plane, with --cohort")
    parser.add_argument("--out", required=True, type=Path, help="folder for the tables and figures")
    parser.add_argument("--predictions", type=through_latest, help="masks folder of a run (make evaluate SAVE_MASKS=1)")
    options = parser.parse_args(args)
    prepared = options.prepared or prepared_folder(options.cohort, options.size)
    try:
        if options.cohort:
            summary = prepare_cohort(options.cohort, prepared, options.size)
            if summary.refused:
                sys.stdout.write(f"{summary.refused} scans were refused and are left out; see {summary.verdicts_csv}\n")
        sys.stdout.write(write_study(prepared, options.out, options.predictions))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    sys.stdout.write(f"\ntables and figures: {options.out}\n")


if __name__ == "__main__":
    run_command(main)
