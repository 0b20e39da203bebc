"""Follow-up of patients with several scans: changes of volume in the order of their dates."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from ct.files.dicom.file_set import find_dicom_files
from ct.files.dicom.tags import Tags, read_dataset
from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import SCORES
from inference.scan_list import Source
from inference.unpacked import unpacked

DATES = ("AcquisitionDate", "SeriesDate", "ContentDate", "StudyDate")


def follow_up(sources: Sequence[Source], rows: pd.DataFrame) -> pd.DataFrame:
    """Return the scans of patients that have several, in order of time.

    Patient and date come from the DICOM headers; a cohort's patient_id takes precedence. Neither is written: patients
    are numbered, and dates become days since the first scan. Scans without a date keep the order of the batch.

    Args:
        sources: The scans of the batch.
        rows: measurements.csv: a row for each segmented scan.

    Returns:
        `patient` ("patient 1"), `name`, `days` since the first scan (NaN where a date of the patient is unknown), and
        for every volume `<finding>_ml` and `<finding>_change_ml` since the first scan, also of lobes, and for every
        score `<score>` and `<score>_change`.
    """
    segmented = set(rows["name"])
    headers = [_visit(source) for source in sources if source.name in segmented]
    scans = pd.DataFrame(headers, columns=["name", "patient_id", "date"])
    scans = scans[scans["patient_id"] != ""].merge(rows, on="name", how="inner")
    repeated = scans[scans.duplicated("patient_id", keep=False)]
    values = [*_volumes(rows), *(score for score in SCORES if score in rows)]
    tables = []
    for number, (_, visits) in enumerate(repeated.groupby("patient_id", sort=False), 1):
        dated = visits["date"].notna().all()
        visits = visits.sort_values("date", kind="stable") if dated else visits
        days = (visits["date"] - visits["date"].iloc[0]).dt.days if dated else float("nan")
        table = visits[["name", *values]].assign(patient=f"patient {number}", days=days)
        for value in values:
            table[_changed(value)] = table[value] - table[value].iloc[0]
        tables.append(table)
    columns = ["patient", "name", "days"]
    if not tables:
        return pd.DataFrame(columns=columns)
    table = pd.concat(tables, ignore_index=True)
    return table[columns + [column for column in table if column not in columns]]


def _volumes(rows: pd.DataFrame) -> list[str]:
    """Return the columns of volumes, of whole lungs and of lobes, without those of sides and zones."""
    names = [name for name in map(str, rows) if name.endswith("_ml")]
    return [name for name in names if name.split("_")[0] not in ("left", "right") or name.startswith(LOBES)]


def _changed(value: str) -> str:
    """Return the name of the change of a value."""
    return f"{value.removesuffix('_ml')}_change_ml" if value.endswith("_ml") else f"{value}_change"


def _visit(source: Source) -> tuple[str, str, datetime | None]:
    """Return (name, patient_id, date) of a scan; "" and None where they are unknown."""
    patient_id, date = _header(source.path)
    return source.name, source.patient or patient_id, date


def _header(path: Path) -> tuple[str, datetime | None]:
    """Return PatientID and date of a scan's first DICOM file; "" and None for other formats."""
    try:
        with unpacked(path) as scan:
            file = find_dicom_files(scan)[0][0]
            header = Tags(file, read_dataset(file))
            patient_id = header.text("PatientID")
            dates = [_date(header.text(tag)) for tag in DATES]
    except (ValueError, OSError):
        return "", None
    return patient_id, next((date for date in dates if date), None)


def _date(value: str) -> datetime | None:
    try:
        return datetime.strptime(value[:8], "%Y%m%d")
    except ValueError:
        return None
