"""CSV files that users write: separated by commas, semicolons or tabs, with numbers as their programs save them."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ct.refusal import Refusal, Sentence, Word

SEPARATORS = {",": Word("commas"), ";": Word("semicolons"), "\t": Word("tabs")}
# Excel's own first line, which names the separator.
SEPARATOR_LINE = re.compile(r"sep=(.)")
# What pandas and R write where a cell is empty.
MISSING = ("nan", "na", "<na>", "n/a", "none", "null")
THOUSANDS = re.compile(r"[-+]?\d{1,3}([.,]\d{3})+")

CellOf = Callable[[str], str]  # of a column, without blanks around it
Wrong = Callable[[str, str, str], None]  # takes note of a column, what was found and what was expected


@dataclass(frozen=True)
class CsvTable:
    """A table as a user saved it.

    Attributes:
        header: The names of the columns, without blanks around them.
        rows: Number of each row in the file, the header being 1, and its cells; rows without any text are left out.
        separator: What stands between cells.
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    separator: str

    def records(self) -> list[tuple[int, dict[str, str]]]:
        """Return each row as its number and its cells by column; cells that are not there are empty."""
        blank = [""] * len(self.header)
        return [(number, dict(zip(self.header, cells + blank, strict=False))) for number, cells in self.rows]


def read_csv_table(path: Path, columns: Collection[str]) -> CsvTable:
    """Read a CSV file, whichever separator it was saved with.

    Args:
        path: UTF-8 file with a header.
        columns: Names that the header is expected to hold; they tell the separator.

    Returns:
        The table; empty for an empty file.

    Raises:
        ValueError: The file is missing or no UTF-8 CSV file, or its header is separated in two ways.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            named = SEPARATOR_LINE.fullmatch(header.strip("\r\n"))
            skipped = 1 if named else 0
            header = file.readline() if named else header
            separator = named[1] if named else _separator(path, header, columns)
            lines = itertools.chain([header] if header else [], file)
            records = list(csv.reader(lines, delimiter=separator, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(
            "{path}: not a readable CSV file in UTF-8 ({error}); save it as CSV with UTF-8 encoding and the "
            "columns {columns}",
            path=path,
            error=error,
            columns=", ".join(columns),
        ) from error
    names = [name.strip() for name in records[0]] if records else []
    rows = [
        (number, cells) for number, cells in enumerate(records[1:], start=2 + skipped) if any(map(str.strip, cells))
    ]
    return CsvTable(names, rows, separator)


def is_missing(cell: str) -> bool:
    """Tell whether a cell is blank or holds what programs write for that."""
    return not cell.strip() or cell.strip().lower() in MISSING


def parse_number(cell: str, separator: str = ",") -> float:
    """Return the number that a cell holds.

    A comma is a decimal one. Where a comma or a point may part thousands instead, as in 1,024 and, in a file that is
    not separated by commas, 1.024, nobody can tell the number.

    Args:
        cell: The cell.
        separator: What separates the cells of its file.

    Returns:
        The number; NaN where it is none or ambiguous.
    """
    text = cell.strip().replace("\N{MINUS SIGN}", "-")
    if ("," in text or separator != ",") and THOUSANDS.fullmatch(text):
        return math.nan
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def parse_whole_number(cell: str, separator: str = ",") -> int | None:
    """Return the whole number that a cell holds, also as 1.0; None where it holds none."""
    number = parse_number(cell, separator)
    return int(number) if number.is_integer() else None


def _separator(path: Path, header: str, columns: Collection[str]) -> str:
    """Find the separator of a header, of which it makes columns that are expected."""
    used = [separator for separator in SEPARATORS if separator in header]
    fitting = [
        separator
        for separator in used
        if any(name.strip() in columns for name in next(csv.reader([header], delimiter=separator), []))
    ]
    if len(fitting) > 1:
        names = Sentence.joined(" and by ", [Sentence("{name}", name=SEPARATORS[separator]) for separator in fitting])
        raise Refusal(
            "{path}: the header is separated by {names}; expected one of them throughout; save it again",
            path=path,
            names=names,
        )
    return fitting[0] if fitting else max(SEPARATORS, key=header.count)
