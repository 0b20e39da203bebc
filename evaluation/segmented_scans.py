"""Segmented scans: their rows of measurements.csv, beside what a cohort.csv says of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cohort.csv_table import CsvTable, is_missing, parse_number, read_csv_table
from cohort.reader_scores import READER
from cohort.table import CohortRow, read_cohort
from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import HIGHEST, LOBE_SCORES, SUM

MEASUREMENTS = "measurements.csv"
NAME = "name"  # of a scan; that of a cohort's scan is its scan_id
FLAGS = "flags"
SHARE = re.compile(rf"({'|'.join(LOBES)})_(\w+)_share")
INFECTION = "infection"


@dataclass(frozen=True)
class SegmentedScans:
    """Scans that a model segmented.

    Attributes:
        scans: A row per scan: name; flagged (bool); site and patient (None where no cohort tells); the measured
            <lobe>_<finding>_share, <lobe>_score and ct_severity_score, and the reader's scores with the prefix
            reader_; NaN where a value is unknown.
        findings: Of which the shares of the lobes are measured.
        cohort: Name of the cohort's folder; None without a cohort.
        not_segmented: Scans of the cohort that were not segmented.
        not_in_cohort: Segmented scans that the cohort lacks.
    """

    scans: pd.DataFrame
    findings: tuple[str, ...]
    cohort: str | None = None
    not_segmented: tuple[str, ...] = ()
    not_in_cohort: tuple[str, ...] = ()

    @property
    def sites(self) -> list[str]:
        """The sites, where there are several."""
        sites = sorted(self.scans["site"].dropna().unique())
        return sites if len(sites) > 1 else []


def read_segmented(folder: Path, cohort: Path | None = None) -> SegmentedScans:
    """Read the measurements.csv of a folder, and join what a cohort says of its scans.

    Args:
        folder: The folder that `predict` wrote of several scans.
        cohort: The cohort.csv of these scans, by which their names are scan_ids.

    Raises:
        ValueError: A file is wrong, with every wrong cell by row, column, found and expected; or the cohort has none of
            the scans.
    """
    path = folder / MEASUREMENTS
    table = read_csv_table(path, (NAME,))
    if NAME not in table.header:
        raise ValueError(
            f"{path}: found the columns {table.header}; expected {NAME!r} among them, as predict writes it"
        )
    scans = _scans_of(path, table)
    keys = (match[2] for match in map(SHARE.fullmatch, table.header) if match)
    findings = tuple(dict.fromkeys(keys))
    if cohort is None:
        return SegmentedScans(scans, findings)
    rows = {row.scan_id: row for row in read_cohort(cohort).rows}
    segmented = dict.fromkeys(scans[NAME])
    if not rows.keys() & segmented.keys():
        raise ValueError(
            f"{cohort}: has none of the {len(scans)} scans of {path}, such as {next(iter(segmented))!r}; expected the "
            "cohort.csv that was segmented, by which scans keep their scan_id"
        )
    return SegmentedScans(
        _with_cohort(scans, rows),
        findings,
        cohort.resolve().parent.name,
        tuple(scan_id for scan_id in rows if scan_id not in segmented),
        tuple(name for name in segmented if name not in rows),
    )


def _scans_of(path: Path, table: CsvTable) -> pd.DataFrame:
    problems: list[str] = []
    first_of: dict[str, int] = {}
    records = []
    for number, cells in table.records():
        name = cells[NAME].strip()
        first = first_of.setdefault(name, number)
        if not name:
            problems.append(f"{path}: row {number}, column '{NAME}': found a blank cell, expected a scan's name")
        elif first != number:
            problems.append(f"{path}: row {number}: found {name!r}, which row {first} has too, expected a row per scan")
        number_of = partial(_number_of, cells=cells, separator=table.separator, where=f"{path}: row {number}")
        measured = {column: number_of(column, problems=problems) for column in _measured(table.header)}
        flagged = not is_missing(cells.get(FLAGS, ""))
        records.append({NAME: name, "flagged": flagged, "site": None, "patient": None} | measured)
    if problems:
        raise ValueError("\n".join(problems))
    if not records:
        raise ValueError(f"{path}: holds no scans; expected at least one row below the header")
    return pd.DataFrame(records)


def _measured(header: Sequence[str]) -> list[str]:
    """Return the columns of a report's figures: all scores, and the shares that the header has."""
    return [*HIGHEST, *(name for name in header if SHARE.fullmatch(name))]


def _number_of(column: str, cells: Mapping[str, str], separator: str, where: str, problems: list[str]) -> float:
    """Return a score or share, NaN where it is blank; what is wrong is added to `problems`."""
    cell = cells.get(column, "")
    if is_missing(cell):
        return np.nan
    number, highest = parse_number(cell, separator), HIGHEST.get(column)
    if not 0 <= number <= (highest or 1) or not (highest is None or number.is_integer()):
        expected = "a share from 0 to 1" if highest is None else f"a whole number from 0 to {highest}"
        problems.append(f"{where}, column '{column}': found {cell!r}, expected {expected}, or blank")
    return number


def _with_cohort(scans: pd.DataFrame, rows: Mapping[str, CohortRow]) -> pd.DataFrame:
    stated = pd.DataFrame([_stated(rows.get(name)) for name in scans[NAME]], scans.index)
    return scans.drop(columns=["site", "patient"]).join(stated)


def _stated(row: CohortRow | None) -> dict[str, object]:
    """Return what a cohort says of a scan."""
    read = {READER + name: getattr(row, READER + name, None) for name in HIGHEST}
    scores: dict[str, object] = {column: np.nan if score is None else float(score) for column, score in read.items()}
    return {"site": row and row.site, "patient": row and row.patient_id} | scores


def score_pairs(scans: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of reader and model, scan by scan.

    Where the reader scored all five lobes and wrote no sum, it is that of the lobes.

    Args:
        scans: Of `SegmentedScans`, with a cohort.

    Returns:
        Columns score (ct_severity_score or <lobe>_score), scan_id, site, patient, reader, model (NaN where unknown);
        rows of scores that the reader gave.
    """
    of_lobes = scans[[READER + name for name in LOBE_SCORES.values()]].sum(axis=1, skipna=False)
    read = scans.assign(**{READER + SUM: scans[READER + SUM].fillna(of_lobes)})
    tables = [
        pd.DataFrame({"score": name, "scan_id": read[NAME], "site": read["site"], "patient": read["patient"]}).assign(
            reader=read[READER + name], model=read[name]
        )
        for name in HIGHEST
    ]
    return pd.concat(tables, ignore_index=True).dropna(subset="reader")
