"""A reader's CT severity score in cohort.csv."""

from pathlib import Path

import pytest

from cohort.reader_scores import READER
from cohort.table import CohortRow, read_cohort, write_cohort
from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import HIGHEST

COLUMNS = [READER + name for name in HIGHEST]  # the sum first


def write(folder: Path, *rows: str, columns: str = ",".join(COLUMNS)) -> Path:
    (folder / "a.nii.gz").touch()
    path = folder / "cohort.csv"
    lines = [f"s{number},p{number},A,a.nii.gz,{cells}" for number, cells in enumerate(rows)]
    path.write_text("\n".join([f"scan_id,patient_id,site,image,{columns}", *lines, ""]), encoding="utf-8")
    return path


def scores(row: CohortRow) -> list[int | None]:
    return [getattr(row, column) for column in COLUMNS]


def test_there_is_a_column_for_the_sum_and_for_each_of_five_lobes() -> None:
    assert ["reader_ct_severity_score", *(f"reader_{lobe}_score" for lobe in LOBES)] == COLUMNS
    assert len(LOBES) == 5
    assert set(COLUMNS) <= set(CohortRow.__dataclass_fields__)


def test_scores_are_read_and_blank_is_unread(tmp_path: Path) -> None:
    path = write(tmp_path, "12,1,2,3,4,2", "25,5,5,5,5,5", ",0,,3.0,NA,nan", "7,,,,,", ",,,,,", "20,0,,5,5,5")
    assert [scores(row) for row in read_cohort(path).rows] == [
        [12, 1, 2, 3, 4, 2],
        [25, 5, 5, 5, 5, 5],
        [None, 0, None, 3, None, None],
        [7, None, None, None, None, None],
        [None] * 6,
        [20, 0, None, 5, 5, 5],
    ]


def test_wrong_scores_are_listed_with_row_column_found_and_expected(tmp_path: Path) -> None:
    path = write(tmp_path, "26,,,,,", ",2.5,,,,", ",,high,,,", ",,,6,,", "-1,,,,,", ",,,,,inf")
    with pytest.raises(ValueError, match="row 2") as caught:
        read_cohort(path)
    assert str(caught.value).splitlines() == [
        f"{path}: row {row}, column '{column}': found {found!r}, expected a whole number from 0 to {highest}, or blank"
        for row, column, found, highest in [
            (2, "reader_ct_severity_score", "26", 25),
            (3, "reader_right_upper_lobe_score", "2.5", 5),
            (4, "reader_right_middle_lobe_score", "high", 5),
            (5, "reader_right_lower_lobe_score", "6", 5),
            (6, "reader_ct_severity_score", "-1", 25),
            (7, "reader_left_lower_lobe_score", "inf", 5),
        ]
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("13,1,2,3,4,2", "found 13, expected 12, the sum of its five lobes"),
        ("0,0,0,0,0,1", "found 0, expected 1, the sum of its five lobes"),
        ("3,,2,,2,", "found 3, expected 4 to 19, by its lobes"),  # three lobes unread: 0 to 15 more
        ("20,,2,,2,", "found 20, expected 4 to 19, by its lobes"),
    ],
)
def test_a_sum_that_contradicts_the_lobes_is_refused(tmp_path: Path, cells: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"row 2, column 'reader_ct_severity_score': {expected}"):
        read_cohort(write(tmp_path, cells))


def test_a_column_that_is_nearly_right_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'reader_rigth_upper_lobe_score' is not known; expected 'reader_right_upper_"):
        read_cohort(write(tmp_path, "1", columns="reader_rigth_upper_lobe_score"))


def test_what_is_written_is_read_back_and_unread_columns_are_not_written(tmp_path: Path) -> None:
    rows = read_cohort(write(tmp_path, "0,,,,,", "3,,,,1,")).rows
    path = write_cohort(rows, tmp_path / "again.csv")
    header = "scan_id,patient_id,site,image,reader_ct_severity_score,reader_left_upper_lobe_score"
    assert path.read_text(encoding="utf-8").splitlines() == [header, "s0,p0,A,a.nii.gz,0,", "s1,p1,A,a.nii.gz,3,1"]
    assert [scores(row) for row in read_cohort(path).rows] == [scores(row) for row in rows]
