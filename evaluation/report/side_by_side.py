"""Page of all finished runs, those tested on the same scans side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt

from cohort.prepare.prepare_cohort import prepared_folder
from ct.classes import COLOUR_OF, L3
from evaluation.report.drawing import marker_of, rank_of
from evaluation.report.em_figures import choose_places, overlays, tpr_fpr
from evaluation.report.em_sections import PLACES, results_table, trade_off
from evaluation.report.general_figures import CEILING, FOREST_FIGURES
from evaluation.report.opacity_figures import results_table as opacity_results_table
from evaluation.report.report_folder import ReportFolder
from evaluation.run_data import Run
from evaluation.tables import CAPTION, finding_rows

Runs = Mapping[str, Run]


def same_test(runs: Runs) -> list[dict[str, Run]]:
    """Group runs by task and test scans, so that those of a group can be compared; keep their order.

    The same prepared folders are the same scans at the same size. A run without masks tells only the scans' names and
    the place of their folders: it joins the runs with these, unless the scans behind the names have changed.
    """
    parts: dict[Any, dict[Any, list[str]]] = {}
    for name, run in runs.items():
        data, scans = run.config["data"]["init_args"], run.scans
        place = prepared_folder(data["cohort"], data["size"], data["prepared"], run.classes)
        folders = None if scans["folder"].isna().any() else tuple(sorted(scans["folder"]))
        key = run.task, place, tuple(sorted(scans["scan_id"]))
        parts.setdefault(key, {}).setdefault(folders, []).append(name)
    same: list[list[str]] = []
    for part in parts.values():
        changed = len(part.keys() - {None}) > 1
        same += part.values() if changed else [[name for names in part.values() for name in names]]
    return [{name: run for name, run in runs.items() if name in names} for names in same]


def one_of_each(runs: Runs) -> dict[str, Run]:
    """Return the first run with masks of each experiment: a picture has no room for all seeds."""
    first: dict[str, tuple[str, Run]] = {}
    for name, run in runs.items():
        if run.has_masks:
            first.setdefault(run.experiment, (name, run))
    return dict(first.values())


def interval_rows(name: str, run: Run) -> pd.DataFrame:
    """Return Dice and IOU of a run over all sites, from the tables of its report; without one, no intervals.

    Returns:
        Columns name, finding, figure, value, low, high.
    """
    path = run.folder / "report" / "tables" / "per_site.csv"
    if path.is_file():
        table = pd.read_csv(path, dtype={"site": str})
        table = table[(table["site"] == "all") & table["figure"].isin(FOREST_FIGURES)]
    else:
        keys = [(finding, figure) for finding in run.findings for figure in FOREST_FIGURES]
        values = [run.metrics.get(f"{finding}/{figure}") for finding, figure in keys]
        table = pd.DataFrame(keys, columns=["finding", "figure"]).assign(value=pd.Series(values, dtype=float))
    return table.reindex(columns=["finding", "figure", "value", "low", "high"]).assign(name=name)


def ceiling_of(part: Runs) -> pd.DataFrame:
    """Return the human ceiling on the test scans that these runs share, from the first report that has it.

    Returns:
        Columns finding, figure and reader, over all sites; empty without readers.
    """
    for run in part.values():
        path = run.folder / "report" / "tables" / "human_ceiling.csv"
        if path.is_file():
            table = pd.read_csv(path, dtype={"site": str})
            return table.loc[table["site"] == "all", ["finding", "figure", "reader"]]
    return pd.DataFrame(columns=["finding", "figure", "reader"])


def draw_runs(rows: pd.DataFrame, ceiling: pd.DataFrame) -> Any:
    """Draw Dice and IOU of several runs, a panel for each, a row per finding and run.

    Args:
        rows: Rows of `interval_rows`. Equal rows, such as the threshold after the same stage 1, are shown once.
        ceiling: Rows of `ceiling_of`.

    Returns:
        A matplotlib figure.
    """
    wide = rows.pivot(index=["finding", "name"], columns="figure", values=["value", "low", "high"])
    order = list(dict.fromkeys(zip(rows["finding"], rows["name"], strict=True)))
    order.sort(key=lambda row: rank_of(row[0]))
    wide = wide.loc[order]
    findings = wide.index.get_level_values("finding")
    wide = wide[~wide.assign(finding=findings).duplicated()].reset_index()
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 0.27 * len(wide) + 1.3), sharey=True, layout="constrained")
    for axis, (name, label) in zip(axes, FOREST_FIGURES.items(), strict=True):
        for place, (_, row) in enumerate(wide.iterrows()):
            finding = str(row["finding", ""])
            style = {"color": COLOUR_OF[finding], "marker": marker_of(finding)}
            axis.plot([row["low", name], row["high", name]], [place, place], color=style["color"], linewidth=2)
            axis.plot(row["value", name], place, markerfacecolor="white", **style)
            human = ceiling.loc[(ceiling["finding"] == finding) & (ceiling["figure"] == name), "reader"]
            for value in human:
                axis.plot([value, value], [place - 0.4, place + 0.4], **CEILING)
        axis.set(xlim=(-0.02, 1.02), xlabel=label)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(
        range(len(wide)), [f"{f.replace('_', ' ')}: {n}" for f, n in zip(wide["finding"], wide["name"], strict=True)]
    )
    axes[0].tick_params(axis="y", labelsize=8)
    axes[0].invert_yaxis()
    return figure


def write_index(runs: Runs, folder: Path, links: Mapping[str, str]) -> ReportFolder:
    """Write the page of all runs.

    Args:
        runs: Runs by name.
        folder: The page's folder.
        links: Address of each run's own page, relative to the folder.
    """
    report = ReportFolder(folder)
    for number, part in enumerate(same_test(runs), 1):
        _add_part(report, f"{number}", part, links)
    report.write(
        "All runs side by side",
        f"{len(runs)} finished runs; those of a section were tested on the same scans.",
        {"runs": ", ".join(sorted({run.experiment for run in runs.values()}))},
    )
    return report


def _add_part(report: ReportFolder, key: str, part: Runs, links: Mapping[str, str]) -> None:
    first = next(iter(part.values()))
    report.section(f"{first.task.capitalize()}, {first.cohort}, {len(first.scans)} test scans")
    rows = [
        {"run": name, "finding": row.label, **row.figures}
        for name, run in part.items()
        for row in finding_rows(run.metrics)
    ]
    report.table(f"{key}_runs", pd.DataFrame(rows), "Runs", CAPTION, links)
    if first.classes == L3:
        report.table(
            f"{key}_table_3", opacity_results_table(part), "Table 3 of paper L3", "With the paper's rows.", links
        )
    if first.task == "consolidation":
        report.table(f"{key}_methods", results_table(part), "Consolidation by method", "With the paper's rows.")
        caption = "Figure 4 of paper EM: every run on these scans, with its prior, and the threshold."
        report.figure(f"{key}_tpr_fpr", tpr_fpr(trade_off(part)), "Trade-off of true and false positives", caption)
        shown = one_of_each(part)
        if shown:
            places = choose_places(next(iter(shown.values())), PLACES)
            caption = "Figure 5 of paper EM, the first run of each experiment."
            report.figure(f"{key}_overlays", overlays(shown, places), "Overlays", caption)
    intervals = pd.concat([interval_rows(name, run) for name, run in part.items()], ignore_index=True)
    caption = "With 95 % intervals by patient; what several runs share is shown once. Dotted: the human ceiling."
    report.figure(f"{key}_intervals", draw_runs(intervals, ceiling_of(part)), "Dice and IOU of the runs", caption)
