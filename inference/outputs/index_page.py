"""index.html of a batch: a sortable table of the scans, flags, failures, and the follow-up of patients."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from markupsafe import Markup

from ct.classes import ClassSet
from ct.lungs.lobe_scores import HIGHEST, SUM
from inference.overlays import findings_in
from pages.line_chart import Line, line_chart
from pages.page import Alarm, Drawing, Item, Section, Table, counted, page

REPORT = "report.html"
FOOTER = "Made by Ground Glass, a model, not a physician. For research; no medical device and no diagnosis."
# Further columns of measurements.csv and their headings; shares are shown as per cent.
SCORES = {
    "severity_score": "severity (%)",
    SUM: f"CT severity score (0 to {HIGHEST[SUM]})",
    "consolidation_score": "consolidation score (%)",
    "wal_percent": "well-aerated lung (%)",
    "entropy_in_lungs_bits": "entropy (bits)",
}
SHARES = {"severity_score", "consolidation_score"}


def write_index(
    out: str | Path,
    rows: pd.DataFrame,
    failed: pd.DataFrame,
    classes: ClassSet,
    follow_up: pd.DataFrame | None = None,
) -> Path:
    """Write the index of a batch, which loads no other file and repeats no path and no DICOM header.

    Args:
        out: The folder of the batch; the reports lie in <out>/<name>/report.html.
        rows: measurements.csv: `name`, measurements, `flags` (sentences, empty or missing where there are none), and
            `model`, the line of its card.
        failed: failed.csv: a row for each scan that failed, with `name` and the reason without any path.
        classes: The model's class set.
        follow_up: The scans of patients with several, in order of time: `patient` (no name, a number), `name`, `days`
            since the patient's first scan, and volumes.

    Returns:
        The path of index.html.
    """
    flagged = _flags(rows)[_flags(rows).ne("")]
    top: list[Item] = []
    if len(failed):
        top.append(Alarm("Not every scan was segmented.", [f"{counted(len(failed), 'scan')} failed; see below."]))
    if len(flagged):
        text = f"{counted(len(flagged), 'scan')}: the result may be wrong although nothing failed; see below."
        top.append(Alarm("Some results are flagged.", [text]))
    sections = [
        Section("Scans", [_scans(rows, classes)] if len(rows) else []),
        Section("Flagged", [_flagged(rows.loc[flagged.index, "name"], flagged)] if len(flagged) else []),
        Section("Failed", [_failed(failed)] if len(failed) else []),
        Section("Follow-up", _follow_up(follow_up, classes) if follow_up is not None else []),
    ]
    summary = (
        f"{counted(len(rows), 'scan')} segmented, {len(flagged)} of them flagged; {len(failed)} failed. "
        "For research, not for diagnosis."
    )
    path = Path(out) / "index.html"
    facts = {"Model": "; ".join(rows["model"].astype(str).unique())} if "model" in rows else {}
    path.write_text(page("Chest CT scans, segmented", summary, facts, sections, FOOTER, top), encoding="utf-8")
    return path


def _scans(rows: pd.DataFrame, classes: ClassSet) -> Table:
    table = pd.DataFrame({"scan": rows["name"].astype(str), "flagged": np.where(_flags(rows).ne(""), "yes", "")})
    volumes = {"lung_ml": "lungs"} | {
        f"{finding.key}_ml": finding.name for finding in findings_in(rows.columns, classes)
    }
    for key, name in ({key: f"{name} (ml)" for key, name in volumes.items()} | SCORES).items():
        if key in rows and rows[key].notna().any():
            table[name] = rows[key].astype(float) * (100 if key in SHARES else 1)
    caption = "A click on a heading sorts; a click on a scan opens its report."
    return Table(table, "All scans", caption, _links(rows["name"]), sortable=True)


def _flags(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the flags of each scan; empty where there are none."""
    return rows["flags"].fillna("").astype(str).str.strip() if "flags" in rows else pd.Series("", rows.index)


def _flagged(names: "pd.Series[str]", flags: "pd.Series[str]") -> Table:
    frame = pd.DataFrame({"scan": names.astype(str), "flags": flags})
    return Table(frame, "Flagged scans", "Look at these before using their numbers.", _links(names), sortable=True)


def _failed(failed: pd.DataFrame) -> Table:
    return Table(failed.astype(str), "Failed scans", "Why these have no result.", sortable=True)


def _links(names: "pd.Series[str]") -> dict[str, str]:
    return {str(name): f"{quote(str(name))}/{REPORT}" for name in names}


def _follow_up(scans: pd.DataFrame, classes: ClassSet) -> list[Item]:
    findings = findings_in(scans.columns, classes)
    items: list[Item] = []
    tables = []
    for patient, visits in scans.groupby("patient", sort=False):
        if chart := follow_up_chart(visits, classes):
            items.append(Drawing(chart, f"Patient {patient}", f"Change since the first of {len(visits)} scans."))
        table = pd.DataFrame({"patient": str(patient), "scan": visits["name"].astype(str)})
        if "days" in visits:
            table["days"] = visits["days"].astype(float)
        for finding in findings:
            table[f"{finding.name} (ml)"] = visits[f"{finding.key}_ml"].astype(float)
            table[f"change in {finding.name} (ml)"] = changes_ml(visits, finding.key)
        if SUM in visits and visits[SUM].notna().any():
            table[SCORES[SUM]] = visits[SUM].astype(float)
        tables.append(table)
    if not tables:
        return []
    caption = "Changes since the first scan of the same patient."
    return [
        Table(pd.concat(tables), "Patients with several scans", caption, _links(scans["name"]), sortable=True),
        *items,
    ]


def follow_up_chart(scans: pd.DataFrame, classes: ClassSet) -> Markup:
    """Draw the change of every finding's volume since the first scan.

    Args:
        scans: A row per scan of one patient, in order of time: `days` since the first scan and `<finding>_ml`. Where
            dates are unknown, scans stand one apart.
        classes: The model's class set.

    Returns:
        Markup of a chart; empty for fewer than two scans, or where the first has no known volume.
    """
    dated = "days" in scans and scans["days"].notna().all()
    times = scans["days"].to_numpy(float) if dated else range(1, len(scans) + 1)
    lines = []
    for finding in findings_in(scans.columns, classes):
        change = changes_ml(scans, finding.key).to_numpy(float)
        if pd.notna(change[:1]).all():
            lines.append(Line(finding.name, finding.colour, times, change))
    if len(scans) < 2 or not lines:
        return Markup()
    return line_chart(lines, "days since the first scan" if dated else "scan", "change (ml)", points=True)


def changes_ml(scans: pd.DataFrame, key: str) -> "pd.Series[float]":
    """Return the change of a finding's volume since the first scan, in ml; NaN where either volume is unknown."""
    volumes_ml = scans[f"{key}_ml"].astype(float)
    return volumes_ml - volumes_ml.iloc[0]
