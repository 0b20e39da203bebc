"""Bars of several runs' figures by site, with intervals."""

from collections.abc import Mapping
from typing import cast

import altair
import numpy as np
import pandas as pd

from evaluation.report.drawing import LINE_COLOURS
from evaluation.report.side_by_side import Runs

BAR_FIGURES = {
    "dice_mean": "Dice (mean over scans)",
    "iou_pooled": "IOU (pooled)",
    "relative_volume": "Relative volume (pooled)",
}
ALL, ALL_SITES = "all", "all sites"
NO_INTERVALS = pd.DataFrame(columns=["site", "finding", "figure", "low", "high"])
COLUMNS = ["run", "site", "value", "low", "high"]
# One axis for all charts of a figure, so that they can be compared; the ideal relative volume is 1.
LEAST_TOP = {"dice_mean": 1.0, "iou_pooled": 1.0, "relative_volume": 2.0}
CHART_PIXELS_HIGH = 320
HALO = {"white": 5, "black": 2}


def site_figures(part: Runs, intervals: Mapping[str, pd.DataFrame], finding: str, figure: str) -> pd.DataFrame:
    """Look up a figure of every run at every site and over all.

    Args:
        part: Runs of the same test scans.
        intervals: By run, rows of `evaluation.statistics.per_site_table`; runs whose patients are unknown have none.
        finding: Key of a finding.
        figure: A key of BAR_FIGURES.

    Returns:
        COLUMNS, a row for each run and site and one of the run over all; NaN where a figure or interval is undefined.
    """
    rows = []
    for name, run in part.items():
        ends = intervals.get(name, NO_INTERVALS)
        ends = ends[(ends["finding"] == finding) & (ends["figure"] == figure)].set_index("site")
        for site in [*sorted({str(site) for site in run.scans["site"]}), ALL]:
            key = f"{finding}/{figure}" if site == ALL else f"site/{site}/{finding}/{figure}"
            low, high = (ends[end].get(site, np.nan) for end in ("low", "high"))
            label = ALL_SITES if site == ALL else f"site {site}"
            rows.append([name, label, run.metrics.get(key), low, high])
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "low": float, "high": float})


def draw_sites(rows: pd.DataFrame, figure: str) -> altair.LayerChart:
    """Draw bars of `site_figures`, runs side by side at each site, with their intervals.

    Args:
        rows: The table of `site_figures`.
        figure: A key of BAR_FIGURES.
    """
    runs, label = list(dict.fromkeys(rows["run"])), BAR_FIGURES[figure]
    top = np.nanmax([LEAST_TOP[figure], *rows[["value", "high"]].to_numpy().ravel()])
    colours = [LINE_COLOURS[number % len(LINE_COLOURS)] for number in range(len(runs))]
    defined = rows.dropna(subset="value").assign(top=rows[["value", "high"]].max(axis=1))
    base = altair.Chart(defined).encode(
        x=altair.X("site:N", sort=list(dict.fromkeys(rows["site"])), title=None, axis=altair.Axis(labelAngle=0)),
        xOffset=altair.XOffset("run:N", sort=runs),
        tooltip=["run", "site", *(altair.Tooltip(name, format=".3f") for name in ("value", "low", "high"))],
    )
    bars = base.mark_bar().encode(
        y=altair.Y("value:Q", title=label, scale=altair.Scale(domain=[0, 1.08 * top], nice=False)),
        color=altair.Color(
            "run:N", sort=runs, scale=altair.Scale(domain=runs, range=colours), title=None,
            legend=altair.Legend(orient="top", columns=1, labelLimit=0),
        ),
    )  # fmt: skip
    intervals = base.transform_filter("isValid(datum.low)").encode(y="low:Q", y2="high:Q")
    # Black within white is visible on bars of every colour and on pages in light and dark.
    ends = altair.layer(*(intervals.mark_rule(color=colour, strokeWidth=width) for colour, width in HALO.items()))
    values = base.mark_text(baseline="bottom", dy=-3).encode(y="top:Q", text=altair.Text("value:Q", format=".2f"))
    return cast(altair.LayerChart, altair.layer(bars, ends, values).properties(height=CHART_PIXELS_HIGH))
