"""Several scans of one patient, in the order of their dates: what changed."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from ct.files.dicom.file_set import find_dicom_files
from ct.files.dicom.tags import Tags, read_dataset
from inference.scan_list import Source
from inference.unpacked import unpacked

DATES = ("AcquisitionDate", "SeriesDate", "ContentDate", "StudyDate")


def follow_up(sources: Sequence[Source], rows: pd.DataFrame) -> pd.DataFrame:
    """The scans of patients that have several, in order of time.

    Patient and date come from the DICOM headers; a cohort's patient_id goes before. Neither is given on: patients are
    numbered, and dates become days since the first scan. Scans without a date stand in the order of the batch.

    Args:
        sources: The scans of the batch.
        rows: measurements.csv: a row for each that was segmented.

    Returns:
        `patient` ("patient 1"), `name`, `days` since the first scan (NaN where a date of the patient is unknown), and
        for every volume `<what>_ml` and `<what>_change_ml` since the first scan.
    """
    done = set(rows["name"])
    visits = pd.DataFrame([_visit(each) for each in sources if each.name in done], columns=["name", "who", "date"])
    visits = visits[visits["who"] != ""].merge(rows, on="name", how="inner")
    volumes = _volumes(rows)
    found = []
    for number, (_, own) in enumerate(visits[visits.duplicated("who", keep=False)].groupby("who", sort=False), 1):
        dated = own["date"].notna().all()
        own = own.sort_values("date", kind="stable") if dated else own
        days = (own["date"] - own["date"].iloc[0]).dt.days if dated else float("nan")
        own = own[["name", *volumes]].assign(patient=f"patient {number}", days=days)
        for volume in volumes:
            own[volume.replace("_ml", "_change_ml")] = own[volume] - own[volume].iloc[0]
        found.append(own)
    columns = ["patient", "name", "days"]
    if not found:
        return pd.DataFrame(columns=columns)
    table = pd.concat(found, ignore_index=True)
    return table[columns + [column for column in table if column not in columns]]


def _volumes(rows: pd.DataFrame) -> list[str]:
    """Columns of whole volumes, without those of regions."""
    return [name for name in map(str, rows) if name.endswith("_ml") and name.split("_")[0] not in ("left", "right")]


def _visit(source: Source) -> tuple[str, str, datetime | None]:
    """(name, who, date) of a scan; empty and None where they are not known."""
    who, date = _header(source.path)
    return source.name, source.patient or who, date


def _header(path: Path) -> tuple[str, datetime | None]:
    """PatientID and date of the first DICOM file that has one; a file of another kind has neither."""
    try:
        with unpacked(path) as scan:
            file = find_dicom_files(scan)[0][0]
            header = Tags(file, read_dataset(file))
            who = header.text("PatientID")
            dates = [_date(header.text(tag)) for tag in DATES]
    except (ValueError, OSError):
        return "", None
    return who, next((date for date in dates if date), None)


def _date(said: str) -> datetime | None:
    try:
        return datetime.strptime(said[:8], "%Y%m%d")
    except ValueError:
        return None
