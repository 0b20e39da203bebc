"""Sections of a report with the figures and tables of paper L3."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cohort.prepare.places import prepared_folder_of
from ct.classes import L3
from evaluation.readers.study_counts import count_study
from evaluation.readers.study_figures import draw_maps, draw_matrix, most_contested
from evaluation.readers.study_report import LINES, SLICES_SHOWN
from evaluation.readers.study_tables import readers_table, summarise
from evaluation.report.opacity_figures import (
    choose_places,
    draw_confusion,
    draw_groups,
    draw_wal,
    group_confusion,
    results_table,
)
from evaluation.report.report_folder import ReportFolder
from evaluation.run_data import Run


def results(report: ReportFolder, runs: Mapping[str, Run]) -> None:
    """Add Table 3, confusion of the groups, Figure 5 and well-aerated lung.

    Args:
        report: The report.
        runs: Runs of the multi-class task by name, first the one that is reported.
    """
    run = next(iter(runs.values()))
    report.section("Groups of opacities" if run.classes == L3 else "Classes")
    if run.classes == L3:
        caption = "Table 3 of paper L3 with more columns; RV: relative volume, WAL r: Pearson's r of well-aerated lung."
        report.table("results", results_table(runs), "Results", caption)
    report.figure(
        "groups",
        draw_groups(run, choose_places(run)),
        "CT, label and prediction",
        "As Figure 5 of paper L3, cut to the lungs.",
    )
    table = group_confusion(run)
    report.figure(
        "group_confusion", draw_confusion(table, run.classes), "Confusion of the classes", "Voxels inside the lungs."
    )
    wal = draw_wal(run.scans)
    report.figure("wal", wal, "Well-aerated lung", "100 % minus the opaque share of the labelled lung.")


def readers(report: ReportFolder, run: Run) -> None:
    """Add Figures 3 and 4 over the run's test scans, the model among the readers; a sentence where no readers exist."""
    report.section("Readers")
    prepared, masks = prepared_folder_of(Path(run.scans["folder"].iloc[0])), run.folder / "masks"
    try:
        scans = count_study(prepared, masks, set(run.scans["scan_id"]))
    except ValueError as error:
        report.note(f"There is no reader study of this run: {error}")
        return
    report.figure(
        "agreement_matrix",
        draw_matrix(scans),
        "Agreement of the readers",
        "Figure 3 of paper L3: IOU of opacity, pooled.",
    )
    places = most_contested(scans, SLICES_SHOWN)
    if places:
        caption = "Figure 4 of paper L3: where the readers of the test scans disagree most."
        report.figure("agreement_maps", draw_maps(scans, places, masks), "Maps of the readers", caption)
    figures = summarise(scans)
    rows = [(label, figures[f"readers/{key}"]) for key, (label, _) in LINES.items() if f"readers/{key}" in figures]
    report.table(
        "readers_summary", pd.DataFrame(rows, columns=["opacity = groups 2 to 4", "figure"]), "Agreement in figures", ""
    )
    report.table("readers", readers_table(scans), "Every reader", "The last row is the model.")
