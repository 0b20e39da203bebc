"""Sections of a report with the figures and tables of paper EM."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ct.classes import COLOUR_OF
from ct.colours import name_of
from evaluation.report.em_figures import (
    choose_places,
    draw_fpr_by_dilation,
    fpr_by_dilation,
    overlays,
    score_boxes,
    severity_scatter,
    tpr_fpr,
)
from evaluation.report.report_folder import ReportFolder
from evaluation.run_data import REAL_SCANS, Run

KEYS = {
    "Dice": "dice_mean",
    "TPR": "tpr",
    "FPR": "fpr",
    "TPR in infection": "tpr_in_infection",
    "FPR in infection": "fpr_in_infection",
    "n": "dice_mean_n",
}
THRESHOLDS = {
    "threshold": "threshold (-200 HU)",
    "threshold_best": "best threshold",
    "threshold_smoothed": "best smoothed threshold",
}
# Section IV-B of paper EM; it states the rates inside the predicted infection, the figures look like the lungs'.
PAPER = {
    "phi2 (paper EM, real scans)": (0.628, 0.555, 0.008),
    "phi1 (paper EM, real scans)": (0.400, 0.624, 0.067),
    "threshold (paper EM, real scans)": (0.530, 0.421, 0.006),
}
PLACES = 2


def severity(report: ReportFolder, run: Run) -> None:
    """Add Figure 2."""
    report.section("Severity")
    caption = "Figure 2 of paper EM: share of the lungs that is infected, label against prediction (paper: r = 0.825)."
    report.figure("severity", severity_scatter(run), "Severity score", caption)


def method(run: Run) -> str:
    """Name how a stage 2 run learned consolidation: `phi1`, `phi2`, the class of another prior, or `supervised`."""
    model = run.config["model"]["init_args"]
    if model.get("supervision", "em") != "em":
        return "supervised"
    prior = model["prior"]
    path = prior if isinstance(prior, str) else prior["class_path"]  # older runs hold phi1 or phi2 itself
    return {"losses.em.Phi1": "phi1", "losses.em.Phi2": "phi2"}.get(path, path.rpartition(".")[2])


def results_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return consolidation by every method: each run, the thresholds of the first run, and the paper's own figures."""
    first = next(iter(runs.values()))
    rows: list[dict[str, Any]] = [
        {"method": f"{method(run)} ({name})", "scans": run.tested_on} | _figures(run, "consolidation")
        for name, run in runs.items()
    ]
    rows += [
        {"method": label, "scans": first.tested_on} | _figures(first, finding)
        for finding, label in THRESHOLDS.items()
        if f"{finding}/dice_mean" in first.metrics
    ]
    rows += [
        {"method": name, "scans": REAL_SCANS} | dict(zip(KEYS, values, strict=False)) for name, values in PAPER.items()
    ]
    return pd.DataFrame(rows).astype({"n": "Int64"})


def _figures(run: Run, finding: str) -> dict[str, Any]:
    return {column: run.metrics.get(f"{finding}/{key}") for column, key in KEYS.items()}


def trade_off(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return the points of Figure 4: label, group, tpr and fpr over the lungs, of each run and the threshold."""
    first = next(iter(runs.values()))
    points = [
        {"label": name, "group": method(run)} | {rate: run.metrics[f"consolidation/{rate}"] for rate in ("tpr", "fpr")}
        for name, run in runs.items()
    ]
    points.append(
        {"label": "threshold (-200 HU)", "group": "threshold"}
        | {rate: first.metrics[f"threshold/{rate}"] for rate in ("tpr", "fpr")}
    )
    return pd.DataFrame(points)


def consolidation(report: ReportFolder, runs: Mapping[str, Run]) -> None:
    """Add Figures 4 to 7 and the table of Dice, TPR and FPR, with other runs on the same scans side by side.

    Args:
        report: The report.
        runs: Stage 2 runs by name, first the one that is reported.
    """
    run = next(iter(runs.values()))
    report.section("Consolidation from weak labels")
    caption = (
        "Dice: mean over the n scans with consolidation. TPR and FPR: pooled, over the lungs and inside the infection."
    )
    report.table("consolidation", results_table(runs), "Consolidation by method", caption)
    report.figure(
        "tpr_fpr",
        tpr_fpr(trade_off(runs)),
        "Trade-off of true and false positives",
        "Figure 4 of paper EM, over the lungs.",
    )
    report.figure(
        "overlays",
        overlays(runs, choose_places(run, PLACES)),
        "Overlays",
        f"Figure 5 of paper EM. Dashed {name_of(COLOUR_OF['infection'])}: infection without consolidation "
        f"(the paper's ground glass), solid {name_of(COLOUR_OF['consolidation'])}: consolidation.",
    )
    dilated = fpr_by_dilation(run)
    report.figure(
        "fpr_by_dilation",
        draw_fpr_by_dilation(dilated),
        "False positives by dilation of the label",
        "Figure 6 of paper EM: what remains false when the label is dilated by a square of 3 x 3 pixels, n times. A "
        "curve that falls quickly errs at the border of the label, one that stays errs elsewhere.",
    )
    report.table(
        "fpr_by_dilation", dilated, "False positives by dilation", "FPR over the lungs outside the dilated label."
    )
    caption = "Figure 7 of paper EM: predicted share of the lungs that is consolidated, by the patient's weak label."
    report.figure("scores", score_boxes(run), "Consolidation score", caption)
