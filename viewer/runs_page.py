"""Page that compares runs of the same test scans: figures, bars by site, and the worst scans of each run."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd
import streamlit as st
from matplotlib import pyplot as plt

from cohort.table import read_cohort
from evaluation.report.side_by_side import Runs, same_test
from evaluation.report.worst_scans import draw_failures, failure, most_false, worst_scans
from evaluation.run_data import Run, read_run
from evaluation.statistics import between, per_site_table
from evaluation.tables import CAPTION, KEYS, finding_rows, findings_of, label_of, text
from pages.page import cell, counted
from viewer.models import newest_runs, run_label
from viewer.site_bars import ALL, BAR_FIGURES, NO_INTERVALS, draw_sites, site_figures
from viewer.visit import plain

WORST = 4
WORDS = {
    "scan_id": "scan",
    "dice": "Dice",
    "missed_voxels": "missed voxels",
    "false_voxels": "false voxels",
    "lung_ml": "lungs (ml)",
}
NO_MASKS = "the masks of the test scans were not kept (make report makes them)"
WITH_INTERVAL = ("Dice", "IOU", "RV")
INTERVALS = "In brackets and as lines on the bars: 95 % intervals, bootstrapped by patient."


def show_runs_page(runs: Path) -> None:
    """Draw the page.

    Args:
        runs: Folder of all runs.
    """
    parts = same_test(_readable(newest_runs(runs)))
    if not parts:
        st.write(f"No finished run in {plain(str(runs))} yet: make train EXP=unet_em makes one.")
        return
    titles = [part_title(part) for part in parts]
    number = st.selectbox(
        "Test scans",
        range(len(parts)),
        format_func=lambda number: titles[number],
        help="Only runs that were tested on the same scans can be compared.",
    )
    part = parts[number]
    chosen = st.multiselect(
        "Runs", list(part), default=list(part)[:2], help="The newest finished run of every experiment."
    )
    if chosen:
        _show_part({name: part[name] for name in chosen})


def _readable(folders: Mapping[str, Path]) -> dict[str, Run]:
    """Return runs by their labels; warn of those whose files contradict each other, and leave them out."""
    runs = {}
    for place, folder in folders.items():
        name = run_label(place, folder)
        try:
            runs[name] = _read(folder, (folder / "metrics.json").stat().st_mtime_ns)
        except ValueError as error:
            st.warning(plain(f"{name} is left out: {str(error).replace(str(folder), 'its folder')}"))
    return runs


@lru_cache(maxsize=1024)  # at every click all runs are read, to find those of the same test scans
def _read(folder: Path, changed_ns: int) -> Run:
    return read_run(folder)


def part_title(part: Runs) -> str:
    """Return the title of runs of the same test scans."""
    first = next(iter(part.values()))
    scans = counted(len(first.scans), "test scan")
    return f"{first.task.capitalize()}, {scans} of {first.cohort} ({counted(len(part), 'run')})"


def _show_part(part: Runs) -> None:
    first = next(iter(part.values()))
    intervals = {name: table for name, run in part.items() if (table := _intervals(run)) is not None}
    st.table(runs_table(part, intervals).map(plain), hide_index=True)
    st.caption(f"{CAPTION} {INTERVALS}{_missing_intervals(part, intervals)}")
    left, right = st.columns(2)
    finding = left.selectbox("Finding", first.findings, format_func=label_of)
    figure = right.selectbox("Figure", BAR_FIGURES, format_func=lambda key: BAR_FIGURES[key])
    rows = site_figures(part, intervals, finding, figure)
    if rows["value"].notna().any():
        st.altair_chart(draw_sites(rows, figure), width="stretch")
    else:
        st.write("No site has this figure.")
    for name, run in part.items():
        _show_worst(name, run, finding)


def with_patients(run: Run) -> Run | None:
    """Return a run with the patients of its scans, from its cohort where it kept no masks; None without them."""
    scans = run.scans
    if scans["patient"].isna().any():
        try:
            rows = read_cohort(run.config["data"]["init_args"]["cohort"]).rows
        except (ValueError, OSError):
            return None
        scans = scans.assign(patient=scans["scan_id"].map({row.scan_id: row.patient_id for row in rows}))
    return None if scans["patient"].isna().any() else replace(run, scans=scans)


class UnknownPatientsError(Exception):
    """The patients of a run's scans are not known."""


def _intervals(run: Run) -> pd.DataFrame | None:
    """Return the intervals of a run; None where the patients of its scans are not known."""
    cohort = Path(run.config["data"]["init_args"]["cohort"])
    cohort_changed_ns = cohort.stat().st_mtime_ns if cohort.exists() else 0
    try:
        return _cached_intervals(run, run.folder.stat().st_mtime_ns, cohort_changed_ns)
    except UnknownPatientsError:
        return None


@st.cache_data(show_spinner=False, hash_funcs={Run: lambda run: str(run.folder)})
def _cached_intervals(run: Run, changed_ns: int, cohort_changed_ns: int) -> pd.DataFrame:
    """Return the intervals of a run, kept until its folder or its cohort changes.

    Raises:
        UnknownPatientsError: It is not kept that patients are unknown: files of a cohort may come back.
    """
    complete = with_patients(run)
    if complete is None:
        raise UnknownPatientsError
    return per_site_table(complete)


def _missing_intervals(part: Runs, intervals: Mapping[str, pd.DataFrame]) -> str:
    names = [name for name in part if name not in intervals]
    return f" None for {plain('; '.join(names))}: its cohort has changed or is gone since." if names else ""


def runs_table(part: Mapping[str, Run], intervals: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row of text for each run and finding; columns run, finding and those of the report's tables."""
    rows = []
    for name, run in part.items():
        ends = intervals.get(name, NO_INTERVALS)
        keys = findings_of(run.metrics)
        for key, row in zip(keys, finding_rows(run.metrics), strict=True):
            of_finding = ends[(ends["site"] == ALL) & (ends["finding"] == key)].set_index("figure")
            figures = {
                column: text(column, value)
                if value is None or column not in WITH_INTERVAL
                else between(value, *_ends(of_finding, KEYS[column]))
                for column, value in row.figures.items()
            }
            rows.append({"run": name, "finding": row.label} | figures)
    return pd.DataFrame(rows)


def _ends(ends: pd.DataFrame, figure: str) -> tuple[float, float]:
    """Return the interval of a figure; NaN where it has none."""
    return tuple(ends.loc[figure, ["low", "high"]]) if figure in ends.index else (math.nan, math.nan)


def _show_worst(name: str, run: Run, finding: str) -> None:
    st.subheader(f"Worst scans of {plain(name)}", anchor=False)
    rows = worst_scans(run, finding, WORST)
    rows = rows if len(rows) else most_false(run, finding, WORST)
    if not len(rows):
        st.write("No scan is known to have or to lack this finding.")
        return
    columns = {"dice": rows["dice"].map(cell), "lung_ml": rows["lung_ml"].round().map(cell)}
    st.table(rows.assign(**columns).rename(columns=WORDS).astype(str).map(plain), hide_index=True)
    if not run.has_masks:
        st.caption(f"No pictures: {NO_MASKS}.")
        return
    try:
        with plt.style.context("dark_background" if st.context.theme.type == "dark" else "default"):
            pictures = draw_failures([failure(run, row, finding) for row in rows.to_dict("records")])
    except ValueError:  # its sentence names files of this machine
        st.caption("No pictures: the scans were prepared in another way since, or are gone; test the run again.")
        return
    st.pyplot(pictures, alt=f"Worst scans of {name}")
    plt.close(pictures)
