"""The page that compares runs: their figures, by site, and the scans on which each did worst."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st
from matplotlib import pyplot as plt

from evaluation.run_data import Run, read_run
from evaluation.side_by_side import Runs, same_test
from evaluation.tables import CAPTION, FINDINGS, KEYS, finding_rows, text
from evaluation.worst_scans import draw_failures, failure, most_false, worst_scans
from viewer.models import newest_runs
from viewer.site_bars import BAR_FIGURES, draw_sites, site_figures
from viewer.visit import plain

WORST = 4


def show_runs_page(runs: Path) -> None:
    """Draw the page.

    Args:
        runs: Folder of all runs.
    """
    found = newest_runs(runs)
    if not found:
        st.write(f"No finished run in {plain(str(runs))} yet: make train EXP=unet_em makes one.")
        return
    names = list(found)
    chosen = st.multiselect("Runs", names, default=names[:2], help="The newest finished run of every experiment.")
    read = {}
    for name in chosen:
        try:
            read[name] = read_run(found[name])
        except ValueError as error:
            st.error(plain(str(error)))
    for number, part in enumerate(same_test(read), 1):
        _show_part(number, part)


def _show_part(number: int, part: Runs) -> None:
    """Runs that were tested on the same scans."""
    first = next(iter(part.values()))
    st.header(f"{first.task.capitalize()}, {len(first.scans)} test scans", divider=True, anchor=False)
    st.table(runs_table(part), hide_index=True)
    st.caption(CAPTION)
    left, right = st.columns(2)
    finding = left.selectbox(
        "Finding", first.findings, format_func=lambda name: FINDINGS[name], key=f"finding-{number}"
    )
    figure = right.selectbox("Figure", BAR_FIGURES, format_func=lambda key: BAR_FIGURES[key], key=f"figure-{number}")
    values = site_figures(part, finding, figure)
    if values.notna().to_numpy().any():
        drawn = draw_sites(values, BAR_FIGURES[figure])
        st.pyplot(drawn, alt=f"{BAR_FIGURES[figure]} by site")
        plt.close(drawn)
    else:
        st.write("No site has this figure.")
    for name, run in part.items():
        _show_worst(name, run, finding)


def runs_table(part: Mapping[str, Run]) -> pd.DataFrame:
    """A row for each run and finding, as text, columns run, finding and those of the report's tables."""
    return pd.DataFrame(
        {"run": name, "finding": row.label} | {column: text(column, row.figures[column]) for column in KEYS}
        for name, run in part.items()
        for row in finding_rows(run.metrics)
    )


def _show_worst(name: str, run: Run, finding: str) -> None:
    st.subheader(f"Worst scans of {plain(name)}", anchor=False)
    rows = worst_scans(run, finding, WORST)
    rows = rows if len(rows) else most_false(run, finding, WORST)
    if not len(rows):
        st.write("No scan is known to have or to lack this finding.")
        return
    try:
        drawn = draw_failures([failure(run, row, finding) for row in rows.to_dict("records")])
    except ValueError as error:
        st.info(plain(str(error)))
        shown = {column: [text(column, value) for value in rows[column]] for column in ("dice", "lung_ml")}
        st.table(rows.assign(**shown), hide_index=True)
        return
    st.pyplot(drawn, alt=f"Worst scans of {name}")
    plt.close(drawn)
