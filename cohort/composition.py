"""The composition of a cohort: slices, scans and patients per site, split and label, as the papers' tables show it."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cohort.table import CohortRow, read_cohort, weak_label_of
from machine.command_line import run_command

# The order of paper L3's Table 2.
SPLIT_ORDER = ("test", "val", "train")
UNASSIGNED = "unassigned"
ALL_SITES, ALL_SPLITS = "all sites", "all splits"
LABEL_COLUMNS = {1: "with consolidation", 0: "without", -1: "unknown"}


def scans_of_rows(rows: Sequence[CohortRow]) -> pd.DataFrame:
    """List the scans of a cohort before it is prepared; how many slices they have is not known yet (NaN).

    Returns:
        One row per scan: scan_id, patient_id, site, split ("unassigned" where blank), weak_label (1, 0, -1 unknown),
        slices, has_infection_mask, has_pattern_mask.

    Raises:
        ValueError: A report is not UTF-8 text.
    """
    return pd.DataFrame(
        {
            "scan_id": [row.scan_id for row in rows],
            "patient_id": [row.patient_id for row in rows],
            "site": [row.site for row in rows],
            "split": [row.split or UNASSIGNED for row in rows],
            "weak_label": [weak_label_of(row) for row in rows],
            "slices": [float("nan")] * len(rows),
            # Where no infection mask is given, a pattern mask holds the infection too.
            "has_infection_mask": [int(bool(row.infection_mask or row.pattern_mask)) for row in rows],
            "has_pattern_mask": [int(bool(row.pattern_mask)) for row in rows],
        }
    )


def scans_of_index(index_csv: str | Path) -> pd.DataFrame:
    """List the scans of a prepared cohort from its index.csv; the columns are those of `scans_of_rows`, and others."""
    return pd.read_csv(index_csv, dtype={"scan_id": str, "patient_id": str, "site": str, "split": str})


def site_counts(scans: pd.DataFrame) -> pd.DataFrame:
    """Count slices, scans and patients per site and split.

    Args:
        scans: See `scans_of_rows`.

    Returns:
        Integer columns scans and patients, and float slices (NaN where unknown). The index holds every (site, split),
        with "all sites" and "all splits"; a site without scans in a split has zeros there.
    """
    slim = scans[["scan_id", "patient_id", "slices"]]
    sites, splits = (scans[name].astype("category") for name in ("site", "split"))
    totals = [pd.Series(name, scans.index, dtype="category") for name in (ALL_SITES, ALL_SPLITS)]
    counts = pd.concat(
        slim.groupby([of_site.rename("site"), of_split.rename("split")], observed=True).agg(
            slices=("slices", _known_sum), scans=("scan_id", "size"), patients=("patient_id", "nunique")
        )
        for of_site in (sites, totals[0])
        for of_split in (splits, totals[1])
    )
    names = [*sorted(set(scans["site"])), ALL_SITES]
    cells = pd.MultiIndex.from_product([names, _splits_of(scans)], names=["site", "split"])
    return counts.reindex(cells, fill_value=0)


def site_table(scans: pd.DataFrame) -> pd.DataFrame:
    """Lay out `site_counts` like paper L3's Table 2: a row per site, a column per split.

    Returns:
        Cells of text: "slices (scans)", or "scans (patients)" where the slices of a scan are not known yet. The index's
        name says which.
    """
    counts = site_counts(scans)
    outer, inner = ("scans", "patients") if counts["slices"].isna().any() else ("slices", "scans")
    cells = counts[outer].astype(int).astype(str) + " (" + counts[inner].astype(str) + ")"
    table = cells.unstack("split").loc[[*sorted(set(scans["site"])), ALL_SITES], _splits_of(scans)]
    return table.rename_axis(index=f"{outer} ({inner})", columns=None)


def label_table(scans: pd.DataFrame) -> pd.DataFrame:
    """Count patients by weak label, and what is labelled, per split (like paper EM's Table II).

    A patient has consolidation if one of the scans has it, and none if one is known to have none.

    Args:
        scans: See `scans_of_rows`.

    Returns:
        A row per split and "all splits". Integer columns: patients; of these with consolidation, without, unknown;
        scans; of these with infection masks and with pattern masks; float slices (NaN where unknown).
    """
    with_totals = pd.concat([scans, scans.assign(split=ALL_SPLITS)])
    labels = with_totals.groupby(["split", "patient_id"])["weak_label"].max()
    counts = pd.DataFrame({"patients": labels.groupby("split").size()})
    for value, name in LABEL_COLUMNS.items():
        counts[name] = (labels == value).groupby("split").sum()
    splits = with_totals.groupby("split")
    counts["scans"] = splits.size()
    counts["scans with infection mask"] = splits["has_infection_mask"].sum()
    counts["scans with pattern mask"] = splits["has_pattern_mask"].sum()
    counts["slices"] = splits["slices"].agg(_known_sum)
    return counts.reindex(_splits_of(scans), fill_value=0).rename_axis("split")


def composition(rows: Sequence[CohortRow]) -> str:
    """Return `site_table` of rows as text: scans (patients) per site and split."""
    return as_text(site_table(scans_of_rows(rows)))


def find_index(cohort_csv: str | Path, prepared: str | Path) -> Path | None:
    """Find the index.csv of a prepared cohort; None if there is none as new as the cohort file."""
    cohort = Path(cohort_csv)
    key = hashlib.sha256(str(cohort.resolve()).encode()).hexdigest()[:8]
    candidates = sorted(Path(prepared).glob(f"*-{key}/index.csv"))
    return next((index for index in candidates if index.stat().st_mtime >= cohort.stat().st_mtime), None)


def as_text(table: pd.DataFrame, style: str = "text") -> str:
    """Write a table in a style: text, markdown or csv; blank cells are unknown."""
    if style == "csv":
        return table.to_csv(float_format="%g")
    shown = table.reset_index()
    cells = [[_cell(value) for value in record] for record in shown.itertuples(index=False)]
    head = [str(name) for name in shown.columns]
    if style == "markdown":
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *cells]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[n]) for line in [head, *cells]) for n in range(len(head))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in [head, *cells]
    )


def _splits_of(scans: pd.DataFrame) -> list[str]:
    return [*SPLIT_ORDER, *([UNASSIGNED] if UNASSIGNED in set(scans["split"]) else []), ALL_SPLITS]


def _known_sum(values: pd.Series[float]) -> float:
    return float(values.sum(skipna=False))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.0f}"
    return str(value)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cohort.composition", description=__doc__)
    parser.add_argument("--cohort", required=True, type=Path, help="the cohort.csv")
    parser.add_argument("--prepared", type=Path, default=Path("prepared"), help="where prepared cohorts are kept")
    parser.add_argument("--style", choices=("text", "markdown", "csv"), default="text")
    options = parser.parse_args(args)
    try:
        rows = read_cohort(options.cohort).rows
        index = find_index(options.cohort, options.prepared)
        scans = scans_of_index(index) if index else scans_of_rows(rows)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if index is None:
        print(
            f"{options.cohort} is not prepared in {options.prepared} yet, so its slices are not counted",
            file=sys.stderr,
        )
    print(as_text(site_table(scans), options.style), as_text(label_table(scans), options.style), sep="\n\n")
    return 0


if __name__ == "__main__":
    run_command(main)
