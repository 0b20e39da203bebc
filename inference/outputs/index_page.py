"""index.html of a batch: every scan in a table that sorts, what is flagged, what failed, and patients over time."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from ct.classes import ClassSet
from inference.layers import findings_in
from inference.outputs.follow_up_figure import changes_ml, follow_up_chart
from pages.page import Alarm, Drawing, Item, Section, Table, counted, page

REPORT = "report.html"
FOOTER = "Made by Ground Glass, a model, not a physician. For research; no medical device and no diagnosis."
# Further columns of measurements.csv and their headings; shares are shown as per cent.
SCORES = {
    "severity_score": "severity (%)",
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
    """Write the index of a batch; it loads nothing and repeats no path and no header of a source.

    Args:
        out: The folder of the batch; the reports lie in <out>/<name>/report.html.
        rows: measurements.csv: `name`, measurements, `flags` (sentences, empty or missing where there are none), and
            `model`, the line of its card.
        failed: failed.csv: a row for each scan that failed, with `name` and the reason without any path.
        classes: What the model looks for.
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
        about = f"{counted(len(flagged), 'scan')}: the result may be wrong although nothing failed; see below."
        top.append(Alarm("Some results are flagged.", [about]))
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
    shown = pd.DataFrame({"scan": rows["name"].astype(str), "flagged": np.where(_flags(rows).ne(""), "yes", "")})
    volumes = {"lung_ml": "lungs"} | {
        f"{finding.key}_ml": finding.name for finding in findings_in(rows.columns, classes)
    }
    for key, name in ({key: f"{name} (ml)" for key, name in volumes.items()} | SCORES).items():
        if key in rows and rows[key].notna().any():
            shown[name] = rows[key].astype(float) * (100 if key in SHARES else 1)
    caption = "A click on a heading sorts; a click on a scan opens its report."
    return Table(shown, "All scans", caption, _links(rows["name"]), sortable=True)


def _flags(rows: pd.DataFrame) -> "pd.Series[str]":
    """The flags of each scan; empty where there are none."""
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
    for patient, own in scans.groupby("patient", sort=False):
        if chart := follow_up_chart(own, classes):
            items.append(Drawing(chart, f"Patient {patient}", f"Change since the first of {len(own)} scans."))
        table = pd.DataFrame({"patient": str(patient), "scan": own["name"].astype(str)})
        if "days" in own:
            table["days"] = own["days"].astype(float)
        for one in findings:
            table[f"{one.name} (ml)"] = own[f"{one.key}_ml"].astype(float)
            table[f"change in {one.name} (ml)"] = changes_ml(own, one.key)
        tables.append(table)
    if not tables:
        return []
    caption = "Changes since the first scan of the same patient."
    return [
        Table(pd.concat(tables), "Patients with several scans", caption, _links(scans["name"]), sortable=True),
        *items,
    ]
