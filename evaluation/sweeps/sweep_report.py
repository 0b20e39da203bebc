"""Page of a sweep over the prior phi2: Figures 3 and 4 of paper EM, and every trial."""

from pathlib import Path

import pandas as pd

from evaluation.report.em_figures import tpr_fpr
from evaluation.report.em_sections import method
from evaluation.report.human_ceiling import ceiling_table
from evaluation.report.log_report import log_report
from evaluation.report.report_folder import ReportFolder
from evaluation.run_data import Run, finished_runs, read_run
from evaluation.sweeps.sweep_figures import B2, DICE, K2, prior_dice
from evaluation.sweeps.sweep_file import TEST
from evaluation.sweeps.trials import best_sentence

STAGE_1 = "infection/dice_mean"  # equal to the last digit in runs with the same weights of stage 1
THRESHOLD = "threshold/dice_mean"
SHOWN = {
    B2: "b2",
    K2: "k2",
    "consolidation/dice_mean": "Dice",
    "consolidation/iou_pooled": "IOU",
    "consolidation/relative_volume": "RV",
    "consolidation/tpr": "TPR",
    "consolidation/fpr": "FPR",
    "seconds": "seconds",
}


def read_trials(folder: Path) -> pd.DataFrame:
    """Read trials.csv of a sweep.

    Raises:
        ValueError: There is none, or it has other parameters.
    """
    path = folder / "trials.csv"
    if not path.is_file():
        raise ValueError(f"{path}: not found; run the sweep first: make sweep-offline SWEEP={folder.name}")
    trials = pd.read_csv(path).rename(columns={"model.b2": B2, "model.k2": K2})  # of older sweeps
    missing = [name for name in (B2, K2, STAGE_1) if name not in trials]
    if missing:
        raise ValueError(
            f"{path}: no column {missing[0]!r}; Figures 3 and 4 need a sweep over {B2} and {K2} of paper EM"
        )
    return trials


def run_with_phi1(trials: pd.DataFrame, runs: Path) -> Run | None:
    """Return the first finished run with the prior phi1 that shares stage 1 and test scans with the trials, if any."""
    of_trials = set(trials.loc[trials["state"] == "ok", STAGE_1].dropna())
    for folder in finished_runs(runs):
        run = read_run(folder)
        if run.task == "consolidation" and method(run) == "phi1" and run.metrics.get(STAGE_1) in of_trials:
            return run
    return None


def readers_dice(run: Run) -> tuple[float, int] | None:
    """Return the human ceiling of consolidation on a run's test scans, which are the trials', and their number."""
    if not run.has_masks:
        return None
    table = ceiling_table(run)
    rows = table[(table["site"] == "all") & (table["finding"] == "consolidation") & (table["figure"] == "dice_mean")]
    return None if rows.empty else (float(rows["reader"].iloc[0]), int(rows["scans"].iloc[0]))


def trade_off(trials: pd.DataFrame, phi1: Run | None) -> pd.DataFrame:
    """Return the points of Figure 4: label, group, tpr and fpr of every finished trial, the threshold and phi1."""
    finished = trials[trials["state"] == "ok"]
    points = [
        {"label": f"b2 = {row[B2]:g}", "group": "phi2"}
        | {rate: row[f"consolidation/{rate}"] for rate in ("tpr", "fpr")}
        for row in finished.to_dict("records")
    ]
    if phi1 is not None:
        rates = {rate: phi1.metrics[f"consolidation/{rate}"] for rate in ("tpr", "fpr")}
        points.append({"label": phi1.experiment, "group": "phi1"} | rates)
    rates = {rate: finished[f"threshold/{rate}"].iloc[0] for rate in ("tpr", "fpr")}
    return pd.DataFrame([*points, {"label": "threshold (-200 HU)", "group": "threshold"} | rates])


def choice_sentence(trials: pd.DataFrame) -> str:
    """Return a sentence on the trial that validation chose and its Dice on test scans, or on why there is none."""
    named = trials["best_by"].dropna() if "best_by" in trials else pd.Series(dtype=str)
    metrics = [str(name) for name in named if name]
    if not metrics or metrics[0].startswith(TEST):
        return "No trial was chosen by validation: run the sweep again with a metric such as val/dice."
    test = trials.loc[trials["best_by"] == metrics[0], DICE].iloc[0]
    return f"Chosen by validation: {best_sentence(trials, [B2, K2], metrics[0])}; its Dice on test scans is {test:.3f}."


def write_sweep(folder: Path, runs: Path) -> Path:
    """Write <sweep>/report and log it to W&B; return its page.

    Args:
        folder: The sweep's folder, with trials.csv.
        runs: Folder of all runs, which is searched for the run with phi1.

    Raises:
        ValueError: There are no trials, or none finished.
    """
    trials = read_trials(folder)
    finished = trials[trials["state"] == "ok"]
    if finished.empty:
        raise ValueError(f"{folder}: none of {len(trials)} trials finished; see their logs, and run the sweep again")
    phi1 = run_with_phi1(trials, runs)
    dice_of_phi1 = None if phi1 is None else phi1.metrics["consolidation/dice_mean"]
    report = ReportFolder(folder / "report")
    report.section("The prior of consolidation")
    report.note(choice_sentence(trials))
    if phi1 is None:
        report.note("There is no finished run with the prior phi1 and the same stage 1 (make train EXP=unet_em_phi1).")
    report.figure(
        "prior_dice",
        prior_dice(trials, dice_of_phi1, finished[THRESHOLD].iloc[0], None if phi1 is None else readers_dice(phi1)),
        "Dice by prior",
        "Figure 3 of paper EM: Dice on the test scans at every point of the grid. It reports; choosing a prior by it "
        "would be tuning on test.",
    )
    caption = "Figure 4 of paper EM, over the lungs; the curve TPR = FPR^gamma is fitted to the trials of phi2."
    report.figure("tpr_fpr", tpr_fpr(trade_off(trials, phi1)), "Trade-off of true and false positives", caption)
    table = finished[list(SHOWN)].rename(columns=SHOWN).sort_values(["b2", "k2"])
    report.table(
        "trials", table, "Trials", "Dice: mean over scans with consolidation; the rest is pooled over the lungs."
    )
    states = trials["state"].replace({"ok": "finished"}).value_counts()
    facts = {"Sweep": folder.name, "Trials": ", ".join(f"{count} {state}" for state, count in states.items())}
    page = report.write(f"{folder.name}: report", "Stage 2 of paper EM with other priors, from one stage 1.", facts)
    log_report(report.folder, folder.name, "sweep", report.pictures, report.tables)
    return page
