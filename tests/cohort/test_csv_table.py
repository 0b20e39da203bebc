import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from cohort.csv_table import is_missing, parse_number, parse_whole_number, read_csv_table

COLUMNS = ("scan_id", "patient_id", "site", "image")
CELLS = [["scan_id", "notes", "site"], ["s1", "a, b; c", "A"], ["s2", "", "B"]]


def save(path: Path, separator: str, cells: Sequence[Sequence[str]] = CELLS, first: str = "") -> Path:
    lines = [separator.join(f'"{cell}"' if set(",;\t") & set(cell) else cell for cell in row) for row in cells]
    path.write_bytes((first + "\r\n".join([*lines, "", separator * 2])).encode("utf-8-sig"))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("first", [False, True])
def test_every_separator_and_excels_own_first_line(tmp_path: Path, separator: str, first: bool) -> None:
    line = f"sep={separator}\r\n" if first else ""
    table = read_csv_table(save(tmp_path / "t.csv", separator, first=line), COLUMNS)
    assert (table.header, table.separator) == (CELLS[0], separator)
    assert table.rows == [(2 + first, CELLS[1]), (3 + first, CELLS[2])]
    assert table.records()[1] == (3 + first, {"scan_id": "s2", "notes": "", "site": "B"})


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("scan_id", ","),
        ("scan_id,notes;of,reader", ","),
        ("notes,old;scan_id", ";"),
        ('"a;b",scan_id', ","),
        ("id;patient;hospital", ";"),
        ("id", ","),
    ],
)
def test_the_expected_columns_tell_the_separator(tmp_path: Path, header: str, separator: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n", encoding="utf-8")
    assert read_csv_table(tmp_path / "t.csv", COLUMNS).separator == separator


def test_a_header_with_two_separators_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("scan_id,patient_id;site;image\n", encoding="utf-8")
    with pytest.raises(ValueError, match="separated by commas and by semicolons; expected one of them"):
        read_csv_table(tmp_path / "t.csv", COLUMNS)


def test_files_that_are_no_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("scan_id\tsite\n".encode("utf-16"))
    with pytest.raises(ValueError, match="not a readable CSV file in UTF-8"):
        read_csv_table(tmp_path / "t.csv", COLUMNS)
    with pytest.raises(ValueError, match="not a readable CSV file in UTF-8"):
        read_csv_table(tmp_path / "none.csv", COLUMNS)
    (tmp_path / "t.csv").write_bytes(b"")
    assert read_csv_table(tmp_path / "t.csv", COLUMNS).header == []


@pytest.mark.parametrize(
    ("cell", "comma", "semicolon"),
    [
        ("1", 1, 1),
        (" 1 ", 1, 1),
        ("1.", 1, 1),
        ("1.0", 1, 1),
        ("-1000.5", -1000.5, -1000.5),
        ("-1000,0", -1000, -1000),
        ("\N{MINUS SIGN}1000,0", -1000, -1000),
        ("0,25", 0.25, 0.25),
        ("-1,024", math.nan, math.nan),
        ("-1.024", -1.024, math.nan),
        ("-1024.125", -1024.125, -1024.125),
        ("1.024,5", math.nan, math.nan),
        ("-1e3", -1000, -1000),
        ("air", math.nan, math.nan),
        ("", math.nan, math.nan),
    ],
)
def test_numbers_as_programs_save_them(cell: str, comma: float | None, semicolon: float | None) -> None:
    assert parse_number(cell) == pytest.approx(comma, nan_ok=True)
    assert parse_number(cell, ";") == pytest.approx(semicolon, nan_ok=True)


def test_whole_numbers() -> None:
    assert [parse_whole_number(cell) for cell in ("0.0", "1.", " 7 ", "1,0", "-2")] == [0, 1, 7, 1, -2]
    assert [parse_whole_number(cell) for cell in ("0.5", "nan", "inf", "True", "")] == [None] * 5


def test_what_programs_write_for_nothing() -> None:
    assert all(map(is_missing, ("", " ", "nan", "NaN", "NA", "<NA>", "None", "null")))
    assert not any(map(is_missing, ("0", "-", "Nan Madol", "a.nii")))
