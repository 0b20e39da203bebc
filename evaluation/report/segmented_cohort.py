"""Report of a segmented cohort: involvement and CT severity score by lobe, and agreement with a reader's scores."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import DEFINITION, HIGHEST, HIGHEST_OF_LOBE, LOBE_SCORES, SUM
from evaluation.report.general_figures import LIMITS, draw_bland_altman
from evaluation.report.lobe_figures import draw_scores, draw_shares, name_of, shares_of
from evaluation.report.report_folder import ReportFolder
from evaluation.score_agreement import Agreement, Estimate, agreement_of_scores, cross_table
from evaluation.segmented_scans import INFECTION, NAME, SegmentedScans, read_segmented, score_pairs
from evaluation.statistics import FEWEST, TO, between
from pages.page import counted

REPORT = "report"
MOST_NAMED = 5
NO_LOBES = (
    "measurements.csv has no value of any lobe, so there is nothing to report by lobe: it is of a version that did not "
    "measure lobes (segment the scans again, into a new folder), or no scan shows where its lobes are."
)
NO_READER = (
    "The cohort has no score of a reader (columns reader_ct_severity_score and reader_<lobe>_score), so there is no "
    "agreement to report."
)
SCORES = f"Score of a lobe by the share that is infected: {DEFINITION} (Pan et al., Radiology 2020)."
SCORE_NAMES = {SUM: "CT severity score"} | {key: name_of(lobe) for lobe, key in LOBE_SCORES.items()}
OF_SCORES = ["scans scored", "mean score", "share scored > 0"]
UNDEFINED = "A dash: undefined, as with fewer than 2 scans, or where reader or model gives all scans one score."


def report_segmented(folder: Path, cohort: Path | None = None) -> Path:
    """Write <folder>/report of the scans that were segmented into a folder; return its page.

    Args:
        folder: The folder that `predict` wrote of several scans, which holds measurements.csv.
        cohort: Their cohort.csv, for figures by site and for agreement with a reader.

    Raises:
        ValueError: A file is wrong or of other scans, or a scan's own folder is where the report would go.
    """
    segmented = read_segmented(folder, cohort)
    if any(name.lower() == REPORT for name in segmented.scans[NAME]):
        raise ValueError(f"{folder / REPORT} is a scan's folder, and the report would go there; rename the scan")
    report = ReportFolder(folder / REPORT)
    lobes(report, segmented)
    if cohort is not None:
        agreement(report, segmented)
        left_out(report, segmented)
    summary = "Involvement of the five lobes and CT severity score, as a model measured them."
    return report.write(f"{folder.resolve().name}: report", summary, _facts(segmented))


def _facts(segmented: SegmentedScans) -> dict[str, str]:
    scans, flagged = segmented.scans, int(segmented.scans["flagged"].sum())
    facts = {"Segmented": counted(len(scans), "scan") + (f", {flagged} of them flagged" if flagged else "")}
    if segmented.cohort is None:
        return facts
    sites = ", ".join(sorted(scans["site"].dropna().unique()))
    return facts | {"Cohort": segmented.cohort, "Patients": str(scans["patient"].nunique()), "Sites": sites}


def lobes(report: ReportFolder, segmented: SegmentedScans) -> None:
    """Add involvement and scores by lobe."""
    report.section("Lobes")
    scans = segmented.scans
    measured = [finding for finding in segmented.findings if scans.filter(shares_of(finding)).notna().any(axis=None)]
    if not measured and scans[list(HIGHEST)].isna().all(axis=None):
        report.note(NO_LOBES)
        return
    if INFECTION in measured:
        caption = (
            "Line: median; box: quartiles; whiskers: to the last scan within 1.5 times their distance; each point a "
            f"scan. Right lung white, left lung hatched. Dotted: limits of the scores. {SCORES}"
        )
        report.figure("lobes", draw_shares(scans, INFECTION), "Infected share of each lobe", caption)
    by_lobe = pd.DataFrame(_by_site(segmented, [(lobe, INFECTION) for lobe in LOBES]))
    caption = f"Shares of the lobe from 0 to 1. {SCORES}"
    report.table("by_lobe", by_lobe.drop(columns="finding"), "Infection by lobe", caption)
    severity = pd.DataFrame(_severity(segmented))
    report.table("severity", severity, SCORE_NAMES[SUM], f"Sum of the scores of the five lobes, 0 to {HIGHEST[SUM]}.")
    others = [(lobe, finding) for finding in measured if finding != INFECTION for lobe in LOBES]
    if others:
        table = pd.DataFrame(_by_site(segmented, others)).drop(columns=OF_SCORES)
        report.table("other_findings", table, "Other findings by lobe", "Shares of the lobe from 0 to 1.")


def _by_site(segmented: SegmentedScans, parts: Sequence[tuple[str, str]]) -> Iterator[dict[str, object]]:
    """Yield a row for each site and each (lobe, finding): quartiles of the share, and the lobe's scores."""
    for site, scans in _sites(segmented):
        for lobe, finding in parts:
            share = scans.get(f"{lobe}_{finding}_share", pd.Series(dtype=float)).dropna()
            scores = scans[LOBE_SCORES[lobe]].dropna()
            yield (
                {"site": site, "finding": finding.replace("_", " "), "lobe": name_of(lobe), "scans": len(share)}
                | _quartiles(share)
                | dict(zip(OF_SCORES, (len(scores), scores.mean(), scores.gt(0).mean()), strict=True))
            )


def _severity(segmented: SegmentedScans) -> Iterator[dict[str, object]]:
    for site, scans in _sites(segmented):
        scores = scans[SUM].dropna()
        row = {"site": site, "scans": len(scores)} | _quartiles(scores)
        yield row | {"mean": scores.mean(), "lowest": scores.min(), "highest": scores.max()}


def _sites(segmented: SegmentedScans) -> list[tuple[str, pd.DataFrame]]:
    scans = segmented.scans
    return [("all", scans), *((site, scans[scans["site"] == site]) for site in segmented.sites)]


def _quartiles(values: "pd.Series[float]") -> dict[str, float]:
    quartiles = values.quantile([0.5, 0.25, 0.75])
    return dict(zip(("median", "lower quartile", "upper quartile"), quartiles.tolist(), strict=True))


def agreement(report: ReportFolder, segmented: SegmentedScans) -> None:
    """Add how well the model's scores agree with the reader's."""
    report.section("Agreement with the reader")
    pairs = score_pairs(segmented.scans)
    judged = pairs.dropna(subset="model")
    if judged.empty:
        report.note(NO_READER if pairs.empty else "The model has no score of what the reader scored.")
        return
    figures = {
        str(score): agreement_of_scores(rows["model"], rows["reader"], rows["patient"], HIGHEST[str(score)])
        for score, rows in judged.groupby("score", sort=False)
    }
    report.table("agreement", pd.DataFrame(map(_texts, figures, figures.values())), "Agreement", _intervals(figures))
    if SUM in figures:
        name = SCORE_NAMES[SUM]
        sums = judged[judged["score"] == SUM].assign(finding=name)
        drawn = draw_bland_altman(sums, {name: figures[SUM].differences}, ["model", "reader"])
        caption = f"{LIMITS} Scans with the same two scores make one larger point."
        report.figure("bland_altman", drawn, "Bland-Altman of the CT severity score", caption)
    _score_table(report, judged[judged["score"].isin(LOBE_SCORES.values())])
    rows = [row for score, each in figures.items() for row in _figures(score, each)]
    report.table("agreement_figures", pd.DataFrame(rows), "The same, one figure a row", UNDEFINED)
    _scores(report, pairs)


def _intervals(figures: Mapping[str, Agreement]) -> str:
    """Return the caption of a table of agreement."""
    repeated = any(each.patients < each.icc.n for each in figures.values())
    how = "bootstrapped by whole patients" if repeated else "of kappa bootstrapped, of the others by F and t"
    return (
        "Weighted kappa (Cohen 1968), ICC(2,1) (Shrout and Fleiss 1979), and model minus reader: bias and limits of "
        f"agreement (Bland and Altman 1986). In brackets: 95 % intervals, {how}. {UNDEFINED}"
    )


def _score_table(report: ReportFolder, judged: pd.DataFrame) -> None:
    if judged.empty:
        return
    table = cross_table(judged["reader"], judged["model"], HIGHEST_OF_LOBE)
    caption = "How often a lobe that the reader scored so was scored so by the model, over all five lobes."
    report.figure("lobe_scores", draw_scores(table, judged["scan_id"].nunique()), "Scores of the lobes", caption)
    frame = pd.DataFrame(table, columns=[f"model {score}" for score in range(len(table))])
    frame.insert(0, "reader", np.arange(len(table)))
    report.table("lobe_scores", frame, "Scores of the lobes, reader by model", "Numbers of lobes.")


def _scores(report: ReportFolder, pairs: pd.DataFrame) -> None:
    shown = pairs.drop(columns="patient").assign(score=pairs["score"].map(SCORE_NAMES))
    report.table("scores", shown, "Scores of every scan", "A dash: the model has no score.")
    unscored = list(dict.fromkeys(pairs.loc[pairs["model"].isna(), "scan_id"]))
    if unscored:
        report.note(f"The model lacks a score that the reader gave: {_named(unscored)}.")


def _estimates(agreed: Agreement) -> dict[str, Estimate]:
    return {
        "kappa, linear": agreed.linear,
        "kappa, quadratic": agreed.quadratic,
        "ICC(2,1)": agreed.icc,
        "bias": agreed.differences.bias,
        "lower limit": agreed.differences.lower,
        "upper limit": agreed.differences.upper,
    }


def _texts(score: str, agreed: Agreement) -> dict[str, object]:
    """Return a row of the table of agreement; the intervals of the limits are left to the one of all figures."""
    texts = {name: between(each.value, each.low, each.high, ".2f") for name, each in _estimates(agreed).items()}
    limits = [texts.pop(f"{side} limit").partition(" (")[0] for side in ("lower", "upper")]
    row = {"score": SCORE_NAMES[score], "scans": agreed.icc.n, "patients": agreed.patients}
    return row | texts | {"limits": "-" if agreed.icc.n < FEWEST else TO.join(limits)}


def _figures(score: str, agreed: Agreement) -> Iterator[dict[str, object]]:
    for name, each in _estimates(agreed).items():
        interval = {"value": each.value, "low": each.low, "high": each.high}
        yield {"score": score, "figure": name, **interval, "scans": each.n, "patients": agreed.patients}


def left_out(report: ReportFolder, segmented: SegmentedScans) -> None:
    """Add which scans the cohort and the measurements do not share."""
    report.section("Scans left out")
    if segmented.not_segmented:
        report.note(f"In the cohort, but not segmented: {_named(segmented.not_segmented)}.")
    if segmented.not_in_cohort:
        report.note(
            f"Segmented, but not in the cohort: {_named(segmented.not_in_cohort)}; counted among all, at no site."
        )


def _named(scans: Sequence[str]) -> str:
    """Count scans and name the first of them."""
    rest = f" and {len(scans) - MOST_NAMED} more" if len(scans) > MOST_NAMED else ""
    return f"{counted(len(scans), 'scan')} ({', '.join(scans[:MOST_NAMED])}{rest})"
