"""cohort.csv: its columns, the checks of every row, and how it is written."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from cohort.csv_table import CellOf, CsvTable, Wrong, is_missing, parse_number, parse_whole_number, read_csv_table
from cohort.reader_scores import parse_reader_scores
from cohort.reports.weak_label import is_reported, weak_label
from ct.classes import CLASS_SETS, CONSOLIDATION, ClassSet
from ct.files.images import is_slice_image
from ct.grey_window import AUTO, GreyLimit, Greys
from ct.refusal import Refusal, Sentence, Word
from machine.whole_file import whole_file

SPLITS = ("train", "val", "test")
_SCAN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One scan of a cohort; the attributes are the columns of cohort.csv, paths made absolute.

    Attributes:
        split: train, val, test, or empty until `cohort.splits.assign_splits`.
        labels: Findings or leaves of the class set that the pattern mask draws, where it draws some only: what is none
            of them may be any of the others. Empty where it draws all that its class set says.
        has_consolidation: 0, 1 (1.0 and the like are read, too), or None where the column is blank.
        grey_low_hu: Declared HU of grey 0, for slice images and for volumes whose voxels are not HU; or `AUTO`, to have
            it estimated.
        grey_high_hu: Declared HU of grey 255, for the same; `AUTO` if and only if the other one is.
        reader_ct_severity_score: A reader's CT severity score of both lungs, 0 to 25; None where it is blank, as those
            of the lobes, 0 to 5 each, which do not contradict it.
        has_findings: Key and cell of every other column has_<finding> that is not blank: 0 or 1 for what a class set
            of the project has; `bits_of` reads those of other sets.
    """

    scan_id: str
    patient_id: str
    site: str
    image: Path
    lung_mask: Path | None = None
    infection_mask: Path | None = None
    pattern_mask: Path | None = None
    readers: tuple[Path, ...] = ()
    report: Path | None = None
    labels: tuple[str, ...] = ()
    has_consolidation: int | None = None
    split: str = ""
    grey_low_hu: GreyLimit | None = None
    grey_high_hu: GreyLimit | None = None
    reader_ct_severity_score: int | None = None
    reader_right_upper_lobe_score: int | None = None
    reader_right_middle_lobe_score: int | None = None
    reader_right_lower_lobe_score: int | None = None
    reader_left_upper_lobe_score: int | None = None
    reader_left_lower_lobe_score: int | None = None
    has_findings: tuple[tuple[str, str], ...] = ()

    @property
    def grey_hu(self) -> Greys | None:
        """What grey 0 and grey 255 stand for; None where the image holds HU."""
        if self.grey_low_hu == AUTO or self.grey_high_hu == AUTO:
            return AUTO
        if self.grey_low_hu is None or self.grey_high_hu is None:
            return None
        return self.grey_low_hu, self.grey_high_hu


REQUIRED_COLUMNS = tuple(column.name for column in fields(CohortRow) if column.default is MISSING)
OPTIONAL_COLUMNS = tuple(
    column.name for column in fields(CohortRow) if column.default is not MISSING and column.name != "has_findings"
)
_OPTIONAL = frozenset(OPTIONAL_COLUMNS)
# Columns has_<key> hold patient-level labels of any finding or leaf; these keys are known without a class set.
HAS = "has_"
KNOWN_KEYS = frozenset(key for classes in CLASS_SETS for key in classes.unions)


@dataclass(frozen=True)
class Cohort:
    """The rows of a cohort.csv and where it lies."""

    rows: tuple[CohortRow, ...]
    path: Path


def read_cohort(csv_path: str | Path) -> Cohort:
    """Read and check a cohort.csv.

    Args:
        csv_path: UTF-8 file with a header, separated by commas, semicolons or tabs; paths in it are relative to its
            folder. Blank cells of optional columns may be written nan or NA, as pandas and R do.

    Returns:
        The rows, in the file's order.

    Raises:
        ValueError: The file is missing or wrong; every wrong cell is listed with row, column, found and expected.
    """
    path = Path(csv_path)
    if not path.is_file():
        raise Refusal(
            "{cohort}: no such cohort file; expected a CSV file with the columns {columns}",
            cohort=path,
            columns=Word(", ".join(REQUIRED_COLUMNS)),
        )
    table = read_csv_table(path, (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS))
    _check_header(path, table.header)
    problems: list[str] = []
    rows = [_parse_row(path, number, cells, table, problems) for number, cells in table.rows]
    _check_across_rows(path, rows, problems)
    if problems:
        text = "{cohort}: {count} of its cells or rows are wrong; see what was found and expected where it was read"
        raise Refusal.of(Sentence(text, cohort=path, count=len(problems)).in_private("\n".join(problems)))
    if not rows:
        raise Refusal("{cohort}: holds no scans; expected at least one row below the header", cohort=path)
    return Cohort(tuple(row for _, row in rows), path)


def write_cohort(rows: Sequence[CohortRow], path: str | Path) -> Path:
    """Write rows as a cohort.csv, whole or not at all.

    Only the columns of `CohortRow` and has_<finding> are written, and of the optional ones only those that some row
    fills.

    Args:
        rows: The rows; their paths become relative to the new file's folder.
        path: The file to write; its folder is made if need be.

    Returns:
        The file.

    Raises:
        ValueError: There is no row, or the path of a reader's mask holds ';', which separates readers.
    """
    target = Path(path)
    if not rows:
        raise Refusal("{cohort}: there is no scan to write; expected at least one row", cohort=target)
    target.parent.mkdir(parents=True, exist_ok=True)
    records = [_cells_of(row, target.parent) for row in rows]
    used = [name for name in OPTIONAL_COLUMNS if any(record[name] for record in records)]
    used += dict.fromkeys(HAS + key for row in rows for key, _ in row.has_findings)
    with whole_file(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        columns = [*REQUIRED_COLUMNS, *used]
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return target


def _cells_of(row: CohortRow, folder: Path) -> dict[str, str]:
    for reader in row.readers:
        if ";" in reader.name:
            raise Refusal(
                "{file}: the name holds ';', which separates the readers of a scan; rename the file", file=reader
            )
    cells = {name: _cell(getattr(row, name), folder) for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)}
    return cells | {HAS + key: cell for key, cell in row.has_findings}


def _cell(value: str | int | float | Path | tuple[Path | str, ...] | None, folder: Path) -> str:
    if isinstance(value, Path):
        return _relative(value, folder)
    if isinstance(value, tuple):
        return ";".join(_cell(part, folder) for part in value)
    return "" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)


def _relative(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder; links among its folders are followed, since '..' would follow them."""
    absolute = path.absolute()
    return Path(os.path.relpath(absolute.parent.resolve() / absolute.name, folder.resolve())).as_posix()


def weak_label_of(row: CohortRow) -> int:
    """Return 1 or 0 for consolidation present or absent: the column first, then the report; -1 where neither tells."""
    if row.has_consolidation is not None:
        return row.has_consolidation
    return -1 if row.report is None else weak_label(_report_text(row.report)).value


def bits_of(row: CohortRow, classes: ClassSet) -> dict[str, int]:
    """Return what is known of the whole scan: 1 present, 0 absent, -1 unknown, by the keys of `ClassSet.unions`.

    The columns has_<finding> come first, then the report. Two keys of the same leaves, as consolidation and group_4
    of paper L3 are, share one label.

    Raises:
        ValueError: A cell is none of 0, 1 and blank, two columns of the same leaves contradict each other, or the
            report is no text.
    """
    of_leaves: dict[tuple[int, ...], int] = {}
    stated = row.has_findings
    if row.has_consolidation is not None:
        stated = ((CONSOLIDATION, str(row.has_consolidation)), *stated)
    for key, cell in stated:
        if key in classes.unions and of_leaves.setdefault(classes.unions[key], _bit(row, key, cell)) != int(cell):
            text = (
                "scan {scan}: {column} contradicts another column of the same classes of {classes}; leave one of them"
            )
            raise Refusal(text, scan=row.scan_id, column=HAS + key, classes=classes.name)
    bits = {key: of_leaves.get(leaves, -1) for key, leaves in classes.unions.items()}
    if row.report is not None:
        text = _report_text(row.report)
        bits |= {key: weak_label(text, key).value for key, bit in bits.items() if bit < 0 and is_reported(key)}
    return bits


def _bit(row: CohortRow, key: str, cell: str) -> int:
    if cell not in ("0", "1"):
        text = "scan {scan}, column {column}: found {cell!r}; expected 0, 1 or blank"
        raise Refusal(text, scan=row.scan_id, column=HAS + key, cell=cell)
    return int(cell)


def _report_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(
            "{file}: the report is not UTF-8 text ({error}); save it as UTF-8", file=path, error=error
        ) from error


def _check_header(path: Path, header: list[str]) -> None:
    columns = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *(HAS + key for key in sorted(KNOWN_KEYS)))
    problems = [
        f"{path}: column '{name}' is missing; found {header}" for name in REQUIRED_COLUMNS if name not in header
    ]
    problems += [
        f"{path}: column '{name}' appears twice" for name in sorted({n for n in header if header.count(n) > 1})
    ]
    for name in header:
        close = difflib.get_close_matches(name.lower().replace(" ", "_"), columns, n=1, cutoff=0.85)
        if name not in set(columns) and close:
            problems.append(f"{path}: column '{name}' is not known; expected '{close[0]}'")
    if problems:
        text = "{cohort}: {count} of its columns are wrong; see which where it was read"
        raise Refusal.of(Sentence(text, cohort=path, count=len(problems)).in_private("\n".join(problems)))


def _parse_row(
    path: Path, number: int, record: list[str], table: CsvTable, problems: list[str]
) -> tuple[int, CohortRow]:
    """Turn the cells of one row into a CohortRow; what is wrong is added to `problems`."""
    folder = path.parent
    cells = {column: _without_blanks(column, cell) for column, cell in zip(table.header, record, strict=False)}

    def wrong(column: str, found: str, expected: str) -> None:
        problems.append(f"{path}: row {number}, column '{column}': found {found}, expected {expected}")

    def text(column: str) -> str:
        return cells.get(column, "")

    def file(column: str, value: str | None = None) -> Path | None:
        value = text(column) if value is None else value
        if not value:
            return None
        target = folder / value
        if not os.path.exists(target):
            wrong(column, f"'{value}', which does not exist", "a file or folder relative to the cohort file")
        return target

    if len(record) != len(table.header):
        problems.append(
            f"{path}: row {number}: found {len(record) - len(table.header):+d} cells against the header, expected as "
            f"many as columns; a cell that holds {table.separator!r} needs quotes"
        )
    for column in REQUIRED_COLUMNS:
        if not text(column):
            wrong(column, "a blank cell", "a value")
    if text("scan_id") and not _SCAN_ID.fullmatch(text("scan_id")):
        wrong("scan_id", repr(text("scan_id")), "letters, digits, '_', '-' and '.' only (it becomes a folder name)")
    if text("split") not in ("", *SPLITS):
        wrong("split", repr(text("split")), "train, val, test or blank")
    image = file("image") or folder
    is_image = text("image") != "" and is_slice_image(image) and os.path.exists(image)
    low, high = _parse_greys(text, wrong, table.separator, is_image)
    readers = [file("readers", part.strip()) for part in text("readers").split(";") if part.strip()]
    return number, CohortRow(
        scan_id=text("scan_id"),
        patient_id=text("patient_id"),
        site=text("site"),
        image=image,
        lung_mask=file("lung_mask"),
        infection_mask=file("infection_mask"),
        pattern_mask=file("pattern_mask"),
        readers=tuple(reader for reader in readers if reader),
        report=file("report"),
        labels=_parse_labels(text, wrong),
        has_consolidation=_parse_bit("has_consolidation", text, wrong, table.separator),
        has_findings=_parse_findings(table, text, wrong),
        split=text("split"),
        grey_low_hu=low,
        grey_high_hu=high,
        **parse_reader_scores(text, wrong, table.separator),
    )


def _without_blanks(column: str, cell: str) -> str:
    """Return a cell without blanks around it, and empty where a program wrote that it is."""
    cell = cell.strip()
    return "" if cell and (column in _OPTIONAL or column.startswith(HAS)) and is_missing(cell) else cell


def _parse_labels(text: CellOf, wrong: Wrong) -> tuple[str, ...]:
    labels = tuple(part.strip() for part in text("labels").split(";") if part.strip())
    if labels and not text("pattern_mask"):
        wrong("labels", repr(text("labels")), "a blank cell, because the row has no pattern_mask")
    if labels and text("readers"):
        wrong("labels", repr(text("labels")), "a blank cell, because the masks of readers draw every class")
    return labels


def _parse_bit(column: str, text: CellOf, wrong: Wrong, separator: str) -> int | None:
    label = parse_whole_number(text(column), separator)
    if text(column) and label not in (0, 1):
        wrong(column, repr(text(column)), "0, 1 or blank")
    return label if label in (0, 1) else None


def _parse_findings(table: CsvTable, text: CellOf, wrong: Wrong) -> tuple[tuple[str, str], ...]:
    """Return key and cell of the columns has_<finding> that are filled, as `CohortRow.has_findings` holds them."""
    cells: dict[str, str] = {}
    for column in (name for name in table.header if name.startswith(HAS) and name != HAS + CONSOLIDATION):
        key = column.removeprefix(HAS)
        if key in KNOWN_KEYS:
            label = _parse_bit(column, text, wrong, table.separator)
            cells[key] = "" if label is None else str(label)
        else:
            cells[key] = text(column)
    return tuple((key, cell) for key, cell in cells.items() if cell)


def _parse_greys(
    text: CellOf, wrong: Wrong, separator: str, is_image: bool
) -> tuple[GreyLimit | None, GreyLimit | None]:
    columns = ("grey_low_hu", "grey_high_hu")
    if not is_image and not any(map(text, columns)):
        return None, None
    is_auto = [text(column).lower() == AUTO for column in columns]
    if all(is_auto):
        return AUTO, AUTO
    if any(is_auto):
        declared = columns[is_auto.index(False)]
        cell = repr(text(declared)) if text(declared) else "a blank cell"
        wrong(declared, cell, "auto, because the other one is auto")
        return None, None
    reason = "the image is an 8-bit slice image" if is_image else "the other one is declared"
    values: list[float | None] = []
    for column in columns:
        value = parse_number(text(column), separator) if text(column) else None
        if value is not None and not np.isfinite(value):
            wrong(column, repr(text(column)), "a number of HU without separators of thousands, or auto in both")
            value = None
        elif value is None and (is_image or any(map(text, columns))):
            wrong(column, "a blank cell", f"the HU of this grey value, because {reason}, or auto in both")
        values.append(value)
    low, high = values
    if low is not None and high is not None and low >= high:
        wrong("grey_high_hu", f"{high}", f"more than grey_low_hu = {low}")
    return low, high


def _check_across_rows(path: Path, rows: list[tuple[int, CohortRow]], problems: list[str]) -> None:
    nameless = [(number, row.patient_id) for number, row in rows if row.patient_id and is_missing(row.patient_id)]
    if len(nameless) > 1:
        problems += [
            f"{path}: row {number}, column 'patient_id': found {name!r}, as programs write a blank cell, in "
            f"{len(nameless)} rows, expected a value; they would count as one patient"
            for number, name in nameless
        ]
    first_of_id: dict[str, int] = {}
    split_of_patient: dict[str, tuple[str, int]] = {}
    for number, row in rows:
        # Folder names that differ only in case are one folder on some file systems.
        first = first_of_id.setdefault(row.scan_id.lower(), number)
        if row.scan_id and first != number:
            problems.append(
                f"{path}: row {number}, column 'scan_id': found '{row.scan_id}', which row {first} has too, "
                f"expected a different name for every scan"
            )
        if row.split in SPLITS and row.patient_id:
            split, first = split_of_patient.setdefault(row.patient_id, (row.split, number))
            if split != row.split:
                problems.append(
                    f"{path}: row {number}, column 'split': found '{row.split}' for patient '{row.patient_id}', who is "
                    f"in '{split}' in row {first}, expected one split per patient"
                )
