"""Sections that every run's report has, whichever paper it belongs to."""

from pathlib import Path

import numpy as np
import pandas as pd

from cohort.composition import label_table, scans_of_index, site_table
from cohort.prepare.places import INDEX, prepared_folder_of
from evaluation.report.general_figures import (
    LIMITS,
    draw_bland_altman,
    draw_by_lesion_size,
    draw_by_spacing,
    draw_calibration,
    forest,
)
from evaluation.report.human_ceiling import ceiling_table
from evaluation.report.learning_curves import curves_of, draw_curves, read_curves
from evaluation.report.reliability_curve import calibration_curve, calibration_error
from evaluation.report.report_folder import ReportFolder
from evaluation.report.strata import by_lesion_size, by_spacing
from evaluation.report.surface import surface_table
from evaluation.report.worst_scans import draw_failures, failure, most_false, worst_scans
from evaluation.run_data import Run
from evaluation.score_agreement import bland_altman
from evaluation.statistics import FEWEST, between, per_site_table
from evaluation.tables import CAPTION, finding_rows
from metrics.overlap import counts
from metrics.summary import tables_of
from pages.page import counted

INTERVAL = "95 % intervals are percentiles of 2000 bootstrap draws of whole patients."


def key_figures(report: ReportFolder, run: Run) -> None:
    """Add the figures that the run prints at its end."""
    report.section("Key figures")
    rows = [{"finding": row.label, **row.figures} for row in finding_rows(run.metrics)]
    report.table("key_figures", pd.DataFrame(rows), "Test figures", CAPTION)
    for key, name in (("severity", "severity score"), ("wal", "percentage of well-aerated lung")):
        r, n = run.metrics.get(f"{key}/pearson_r"), run.metrics.get(f"{key}/pearson_r_n")
        if r is not None and n is not None and n > FEWEST:  # for two scans it is always 1 or -1
            report.note(f"Pearson's r of the {name}, prediction against label: {r:.3f} (n = {n} scans).")


def learning(report: ReportFolder, run: Run) -> None:
    """Add loss and figures of training and validation by epoch."""
    report.section("Training")
    history = read_curves(run.folder)
    if not curves_of(history):
        report.note("metrics.csv has no figure by epoch, so there are no learning curves.")
        return
    caption = "Validation: whole scans as they are, by the weights at the end of each epoch. Training: the predictions "
    caption += "of the epoch's own steps on augmented slices, while the weights changed"
    if run.task == "consolidation" and run.config["model"]["init_args"].get("supervision", "em") == "em":
        caption += ", against what they learned from: the labels of the E-step, not those of a reader"
    report.figure("curves", draw_curves(history), "Learning curves", f"{caption}.")


def cohort(report: ReportFolder, run: Run) -> None:
    """Add the composition of the cohort, after Table 2 of paper L3."""
    report.section("Cohort")
    scans = scans_of_index(prepared_folder_of(Path(run.scans["folder"].iloc[0])) / INDEX)
    sites = site_table(scans)
    report.table(
        "composition",
        sites.rename_axis(index="site").reset_index(),
        "Composition",
        f"Table 2 of paper L3: {sites.index.name}.",
    )
    report.table("labels", label_table(scans).reset_index(), "Labels", "Patients by what is known of consolidation.")


def per_site(report: ReportFolder, run: Run) -> None:
    """Add Dice and IOU with intervals for every site, the human ceiling among them."""
    report.section("Results per site")
    table, ceiling = per_site_table(run), ceiling_table(run)
    caption = f"Filled: all sites, hollow: one site. {INTERVAL}"
    if len(ceiling):
        n = ceiling["scans"].max()
        caption += (
            f" Dotted: a reader against the average of the others, mean over the readers of the {n} test scans with "
            "two readers or more; the model is judged against the label of all scans."
        )
    if table["value"].notna().any():
        report.figure("per_site", forest(table, ceiling), "Dice and IOU per site", caption)
    else:
        report.note("No test scan has a finding of this model, so there is no figure to draw.")
    if len(ceiling):
        caption = "Readers and model on the same scans, both against the average of the other readers."
        report.table("human_ceiling", ceiling, "Human ceiling", caption)
    else:
        report.note("No test scan of this cohort has two readers, so there is no human ceiling to draw.")
    report.table("sites", with_intervals(table), "Figures per site", INTERVAL)
    report.table("per_site", table, "The same, one figure a row", INTERVAL)


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Turn `per_site_table` into a row per finding and site and a column per figure, "value (low to high)"."""
    rows = []
    for finding, of_finding in table.groupby("finding", sort=False):
        for site, figures in of_finding.groupby("site", sort=False):
            intervals = zip(figures["figure"], figures["value"], figures["low"], figures["high"], strict=True)
            texts = {figure: between(value, low, high) for figure, value, low, high in intervals}
            rows.append(
                {"finding": finding, "site": site, "scans": figures["scans"].max()}
                | {"patients": figures["patients"].max()}
                | {name: texts[figure] for figure, name in FIGURE_NAMES.items()}
            )
    return pd.DataFrame(rows)


FIGURE_NAMES = {
    "dice_mean": "Dice, mean",
    "iou_pooled": "IOU",
    "relative_volume": "RV",
    "tpr": "TPR",
    "fpr": "FPR",
}


def volumes(report: ReportFolder, run: Run) -> None:
    """Add Bland-Altman of volumes."""
    report.section("Volumes")
    table = volume_table(run)
    measured = table.dropna(subset=["truth_ml", "predicted_ml"])
    if measured.empty:
        report.note("No test scan has both a label and a known spacing, so there are no volumes in ml to compare.")
        return
    limits = {
        str(finding): bland_altman(rows["predicted_ml"], rows["truth_ml"])
        for finding, rows in measured.groupby("finding", sort=False)
    }
    report.figure(
        "bland_altman",
        draw_bland_altman(measured.rename(columns=COMPARED_ML), limits, list(COMPARED_ML.values()), "ml"),
        "Bland-Altman of volumes",
        f"{LIMITS} Of a single scan there are neither intervals nor limits.",
    )
    left_out = table["scan_id"].nunique() - measured["scan_id"].nunique()
    if left_out:
        report.note(f"Left out: {counted(left_out, 'scan')} without a label or of unknown spacing.")
    report.table("volumes", table, "Volumes", "Of the voxels inside the lungs whose truth is known.")


COMPARED_ML = {"predicted_ml": "prediction", "truth_ml": "truth"}


def volume_table(run: Run) -> pd.DataFrame:
    """Return scan_id, site, finding, truth_ml, predicted_ml; NaN where the spacing or the whole truth is unknown."""
    tables = []
    for finding in run.findings:
        tp, fp, fn, tn = counts(tables_of(run.scans, finding))
        ml = np.where(tp + fp + fn + tn > 0, run.scans["voxel_ml"].to_numpy(float), np.nan)
        tables.append(
            run.scans[["scan_id", "site"]].assign(finding=finding, truth_ml=(tp + fn) * ml, predicted_ml=(tp + fp) * ml)
        )
    return pd.concat(tables, ignore_index=True)


def boundaries(report: ReportFolder, run: Run) -> None:
    """Add surface distances."""
    report.section("Boundaries")
    table = surface_table(run)
    rows = [
        {"finding": finding}
        | {f"{name}, median": scans[name].median() for name in SURFACE}
        | {f"{name}, mean": scans[name].mean() for name in SURFACE}
        | {"n": int(scans[SURFACE[0]].notna().sum()), "left out": int(scans[SURFACE[0]].isna().sum())}
        for finding, scans in table.groupby("finding", sort=False)
    ]
    caption = (
        "Distances between the surfaces in space, by MONAI. left out: truth or prediction is empty, or no spacing."
    )
    report.table("surface", pd.DataFrame(rows), "Surface distances", caption)
    report.table(
        "surface_scans", table, "Surface distances of every scan", "hd95: 95th percentile; assd: symmetric mean."
    )


SURFACE = ("hd95_mm", "assd_mm")


def calibration(report: ReportFolder, run: Run) -> None:
    """Add calibration curves."""
    report.section("Calibration")
    with_probability = {*CALIBRATED, run.classes.findings[0].figures}
    curves = {finding: calibration_curve(run, finding) for finding in run.findings if finding in with_probability}
    curves = {finding: curve for finding, curve in curves.items() if curve["voxels"].sum()}
    if not curves:
        report.note("No voxel of the test scans has a known truth, so there is nothing to hold the probabilities to.")
        return
    errors = {finding: calibration_error(curve) for finding, curve in curves.items()}
    report.figure(
        "calibration",
        draw_calibration(curves, errors),
        "Calibration",
        "Voxels inside the lungs whose truth is known, in 15 equal bins of predicted probability. ECE: expected "
        "calibration error, over all voxels; most of them are easy.",
    )
    report.table("calibration", pd.concat([c.assign(finding=f) for f, c in curves.items()]), "Bins of the curves", BINS)


BINS = "low and high: ends of the bin. Where it has no voxels, nothing is known."
CALIBRATED = ("infection", "consolidation", "opacity")


def strata(report: ReportFolder, run: Run) -> None:
    """Add results by slice spacing and by lesion size."""
    report.section("Slice spacing and lesion size")
    spacing, size, ceiling = by_spacing(run), by_lesion_size(run), report.tables.get("human_ceiling")
    caption = f"Distance between the slices of the source scan. {INTERVAL}"
    if ceiling is not None:
        caption += " Dotted: the human ceiling over all sites."
    if spacing.dropna(subset="value")["stratum"].nunique() > 1:
        report.figure("by_spacing", draw_by_spacing(spacing, ceiling), "Dice by slice spacing", caption)
    else:
        report.note("All test scans with a finding have slices about as far apart, so there is nothing to compare.")
    report.table("by_spacing", spacing, "By slice spacing", INTERVAL)
    if size.loc[size["lesions"] > 0, "size"].nunique() > 1:
        report.figure("by_lesion_size", draw_by_lesion_size(size), "Lesions found, by size", LESIONS)
    else:
        report.note(f"There are not lesions of several sizes to compare. {LESIONS}")
    report.table("by_lesion_size", size, "By lesion size", "Pixels where the spacing is unknown.")


LESIONS = "A lesion is a connected component of the truth in space (26 neighbours); touched: any voxel is predicted."


def failures(report: ReportFolder, run: Run) -> None:
    """Add the ten worst scans with their pictures."""
    report.section("Worst scans")
    finding = run.judged_by
    worst, false = worst_scans(run, finding), most_false(run, finding)
    if len(worst):
        shown = [failure(run, row, finding) for row in worst.to_dict("records")]
        caption = f"By Dice of {finding}, least first; of each the slice with the most wrong voxels, cut to the lungs."
        title = f"The {len(worst)} worst scans" if len(worst) > 1 else "The worst scan"
        report.figure("worst_scans", draw_failures(shown), title, caption)
        report.table("worst_scans", worst, title, f"By Dice of {finding}.")
    else:
        report.note(f"No test scan has {finding} in its truth, so there is no Dice to sort by.")
    if len(false):
        report.table("most_false", false, f"Scans without {finding}, most false positives first", "They have no Dice.")
