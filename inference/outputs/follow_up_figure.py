"""The scans of one patient over time: how much the volumes changed since the first of them."""

import pandas as pd
from markupsafe import Markup

from ct.classes import ClassSet
from inference.layers import findings_in
from pages.line_chart import Line, line_chart


def follow_up_chart(scans: pd.DataFrame, classes: ClassSet) -> Markup:
    """Draw the change of every finding's volume since the first scan.

    Args:
        scans: A row per scan of one patient, the first in time first: `days` since the first scan (missing where dates
            are unknown, then scans stand one apart) and `<finding>_ml`.
        classes: What the findings are.

    Returns:
        Markup of a chart; empty where there are fewer than two scans or no volume is known in the first.
    """
    dated = "days" in scans and scans["days"].notna().all()
    across = scans["days"].to_numpy(float) if dated else range(1, len(scans) + 1)
    lines = []
    for finding in findings_in(scans.columns, classes):
        change = changes_ml(scans, finding.key).to_numpy(float)
        if pd.notna(change[:1]).all():
            lines.append(Line(finding.name, finding.colour, across, change))
    if len(scans) < 2 or not lines:
        return Markup()
    return line_chart(lines, "days since the first scan" if dated else "scan", "change (ml)", points=True)


def changes_ml(scans: pd.DataFrame, key: str) -> "pd.Series[float]":
    """Change of a finding's volume since the first of the scans, in ml; NaN where either is unknown."""
    volumes_ml = scans[f"{key}_ml"].astype(float)
    return volumes_ml - volumes_ml.iloc[0]
