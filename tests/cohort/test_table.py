from pathlib import Path

import pytest

from cohort.table import CohortRow, bits_of, read_cohort, weak_label_of, write_cohort
from ct.classes import L3
from ct.grey_window import AUTO

HEADER = "scan_id,patient_id,site,image,lung_mask,readers,report,has_consolidation,split,grey_low_hu,grey_high_hu\n"


def write(folder: Path, body: str, header: str = HEADER) -> Path:
    for name in ("a.nii.gz", "b.nii.gz", "r1.nii", "r2.nii", "s.png"):
        (folder / name).touch()
    (folder / "report.txt").write_text("No consolidation.", encoding="utf-8")
    path = folder / "cohort.csv"
    path.write_text(header + body, encoding="utf-8")
    return path


def test_a_sound_cohort_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "one,p1,A,a.nii.gz,b.nii.gz,r1.nii; r2.nii,report.txt,1,train,,\n\ntwo,p2,B,s.png,,,report.txt,,,-1100,260\n",
    )
    first, second = read_cohort(path).rows
    assert first.image == tmp_path / "a.nii.gz"
    assert first.lung_mask == tmp_path / "b.nii.gz"
    assert [reader.name for reader in first.readers] == ["r1.nii", "r2.nii"]
    assert (first.has_consolidation, first.split, first.grey_low_hu) == (1, "train", None)
    assert (second.has_consolidation, second.split) == (None, "")
    assert (second.grey_low_hu, second.grey_high_hu) == (-1100.0, 260.0)
    assert (weak_label_of(first), weak_label_of(second)) == (1, 0)


def test_weak_label_without_column_and_report_is_unknown() -> None:
    assert weak_label_of(CohortRow("a", "p", "s", Path("a"))) == -1


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, "one,p1,A,a.nii.gz,,,,,,,\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_cohort(path).rows[0].scan_id == "one"


def test_all_wrong_cells_are_listed_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "one,p1,A,missing.nii.gz,,,,yes,train,,\n"
        "../x,,A,a.nii.gz,nolung.nii,,,,training,,\n"
        "One,p1,A,a.nii.gz,,,,,test,,\n"
        "four,p4,A,s.png,,,,,,,\n"
        "five,p5,A,s.png,,,,,,300,-1000\n"
        "six,p6,A,a.nii.gz,,,,,,-1000,\n"
        "seven,p7,A,a.nii.gz,,,,,,air,200\n",
    )
    with pytest.raises(ValueError, match="row 2") as caught:
        read_cohort(path)
    lines = str(caught.value).splitlines()
    expected = [
        "row 2, column 'image': found 'missing.nii.gz'",
        "row 2, column 'has_consolidation': found 'yes', expected 0, 1 or blank",
        "row 3, column 'patient_id': found a blank cell",
        "row 3, column 'scan_id': found '../x'",
        "row 3, column 'lung_mask': found 'nolung.nii'",
        "row 3, column 'split': found 'training', expected train, val, test or blank",
        "row 4, column 'scan_id': found 'One', which row 2 has too",
        "row 4, column 'split': found 'test' for patient 'p1', who is in 'train' in row 2",
        "row 5, column 'grey_low_hu': found a blank cell",
        "row 5, column 'grey_high_hu': found a blank cell",
        "row 6, column 'grey_high_hu': found -1000.0, expected more than grey_low_hu",
        "row 7, column 'grey_high_hu': found a blank cell, expected the HU of this grey value, because the other",
        "row 8, column 'grey_low_hu': found 'air', expected a number of HU",
    ]
    for fragment in expected:
        assert any(fragment in line for line in lines), fragment
    assert len(lines) == len(expected)
    assert all(line.startswith(str(path)) for line in lines)


@pytest.mark.parametrize(
    ("cell", "label"),
    [("1.0", 1), ("0.0", 0), ("1.", 1), (" 1 ", 1), ("", None), ("nan", None), ("NA", None), ("<NA>", None)],
)
def test_labels_as_pandas_and_r_write_them(tmp_path: Path, cell: str, label: int | None) -> None:
    (row,) = read_cohort(write(tmp_path, f"one,p1,A,a.nii.gz,NA,nan,,{cell},nan,NA,NaN\n")).rows
    assert row.has_consolidation == label
    assert (row.lung_mask, row.readers, row.split, row.grey_low_hu, row.grey_high_hu) == (None, (), "", None, None)


@pytest.mark.parametrize("cell", ["True", "0.5", "2.0", "-1", "yes", "inf", "01.0x"])
def test_other_labels_are_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(ValueError, match=r"row 2, column 'has_consolidation': found .*, expected 0, 1 or blank"):
        read_cohort(write(tmp_path, f"one,p1,A,a.nii.gz,,,,{cell},,,\n"))


def test_patients_without_a_name_do_not_count_as_one_but_a_site_may_be_called_na(tmp_path: Path) -> None:
    rows = read_cohort(write(tmp_path, "one,nan,NA,a.nii.gz,,,,,,,\ntwo,p,NA,a.nii.gz,,,,,,,\n")).rows
    assert [(row.patient_id, row.site) for row in rows] == [("nan", "NA"), ("p", "NA")]
    with pytest.raises(ValueError, match=r"row 2, column 'patient_id': found 'nan', .* in 2 rows") as caught:
        read_cohort(write(tmp_path, "one,nan,A,a.nii.gz,,,,,,,\ntwo,NA,A,a.nii.gz,,,,,,,\n"))
    assert "row 3, column 'patient_id': found 'NA'" in str(caught.value)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_cohort_as_a_german_spreadsheet_saves_it(tmp_path: Path, separator: str) -> None:
    cells = ["one", "p1", "A", "s.png", "", '"r1.nii;r2.nii"', "report.txt", "1", "train", "-1000,0", "260,5"]
    path = write(tmp_path, separator.join(cells) + "\n", "\ufeff" + HEADER.replace(",", separator))
    (row,) = read_cohort(path).rows
    assert [reader.name for reader in row.readers] == ["r1.nii", "r2.nii"]
    assert (row.site, row.split, row.has_consolidation) == ("A", "train", 1)
    assert (row.grey_low_hu, row.grey_high_hu) == (-1000.0, 260.5)


def test_thousands_are_not_taken_for_decimals(tmp_path: Path) -> None:
    header = HEADER.replace(",", ";")
    for cell in ("-1.024", "-1,024"):
        with pytest.raises(ValueError, match=r"row 2, column 'grey_low_hu': found .*without separators of thousands"):
            read_cohort(write(tmp_path, f"one;p1;A;s.png;;;;;;{cell};260\n", header))


def test_readers_without_quotes_in_a_file_of_semicolons(tmp_path: Path) -> None:
    body = "one;p1;A;a.nii.gz;;r1.nii;r2.nii;;;;;\n"
    with pytest.raises(ValueError, match=r"row 2: found \+1 cells .*a cell that holds ';' needs quotes"):
        read_cohort(write(tmp_path, body, HEADER.replace(",", ";")))


@pytest.mark.parametrize(
    ("header", "fragment"),
    [
        ("scan_id,patient_id,image\n", "column 'site' is missing"),
        ("scan_id,patient_id,site,image,infection_masks\n", "expected 'infection_mask'"),
        ("scan_id,patient_id,site,image,site\n", "column 'site' appears twice"),
        ("scan_id,patient_id;site;image\n", "separated by commas and by semicolons"),
    ],
)
def test_wrong_headers(tmp_path: Path, header: str, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        read_cohort(write(tmp_path, "one,p,A,a.nii.gz\n", header))


def test_missing_empty_and_ragged_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such cohort file"):
        read_cohort(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="holds no scans"):
        read_cohort(write(tmp_path, ""))
    with pytest.raises(ValueError, match="row 2: found -1 cells against the header"):
        read_cohort(write(tmp_path, "one,p1,A,a.nii.gz,,,,,,\n"))
    (tmp_path / "cohort.csv").write_bytes(b"scan_id,patient_id,site,image\n\xff,p,A,a.nii.gz\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_cohort(tmp_path / "cohort.csv")


def test_a_volume_may_declare_its_greys(tmp_path: Path) -> None:
    (row,) = read_cohort(write(tmp_path, "one,p1,A,a.nii.gz,,,,,,-1024,-769\n")).rows
    assert (row.grey_low_hu, row.grey_high_hu) == (-1024.0, -769.0)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        'one,p1,A,a.nii.gz,b.nii.gz,r1.nii;r2.nii,report.txt,1,train,,\ntwo,p2,"B, north",s.png,,,,0,,-1100.25,260\n',
    )
    rows = read_cohort(source).rows
    written = write_cohort(rows, tmp_path / "new" / "deep" / "cohort.csv")
    assert written.read_text(encoding="utf-8").splitlines() == [
        HEADER.strip(),
        "one,p1,A,../../a.nii.gz,../../b.nii.gz,../../r1.nii;../../r2.nii,../../report.txt,1,train,,",
        'two,p2,"B, north",../../s.png,,,,0,,-1100.25,260',
    ]
    assert [child.name for child in written.parent.iterdir()] == ["cohort.csv"]
    again = write_cohort(read_cohort(written).rows, tmp_path / "again.csv")
    assert read_cohort(again).rows == rows


def test_only_columns_in_use_are_written(tmp_path: Path) -> None:
    path = write_cohort([CohortRow("a", "p", "S", tmp_path / "a.nii.gz")], tmp_path / "c.csv")
    assert path.read_text(encoding="utf-8") == "scan_id,patient_id,site,image\na,p,S,a.nii.gz\n"


def test_relative_paths_survive_linked_folders_and_keep_linked_names(tmp_path: Path) -> None:
    store, real, elsewhere = tmp_path / "store", tmp_path / "deep" / "er" / "real", tmp_path / "link"
    store.mkdir()
    real.mkdir(parents=True)
    elsewhere.symlink_to(real)
    (store / "4f2a").touch()
    (store / "scan.nii.gz").symlink_to(store / "4f2a")
    path = write_cohort([CohortRow("a", "p", "S", store / "scan.nii.gz")], elsewhere / "c.csv")
    (row,) = read_cohort(path).rows
    assert row.image.name == "scan.nii.gz"
    assert row.image.samefile(store / "scan.nii.gz")


def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_cohort([CohortRow("a", "p", "S", tmp_path / "a.nii")], tmp_path / "c.csv")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no scan to write"):
        write_cohort([], path)
    with pytest.raises(ValueError, match="separates the readers"):
        write_cohort([CohortRow("a", "p", "S", tmp_path / "a.nii", readers=(tmp_path / "r;1.nii",))], path)
    assert path.read_bytes() == before


def test_greys_to_be_estimated_are_read_and_written(tmp_path: Path) -> None:
    (row, declared, hu) = read_cohort(
        write(
            tmp_path,
            "one,p1,A,s.png,,,,,,auto,AUTO\ntwo,p2,A,s.png,,,,,,-1000,200\nthree,p3,A,a.nii.gz,,,,,,,\n",
        )
    ).rows
    assert (row.grey_low_hu, row.grey_high_hu, row.grey_hu) == (AUTO, AUTO, AUTO)
    assert (declared.grey_hu, hu.grey_hu) == ((-1000.0, 200.0), None)
    assert read_cohort(write_cohort([row, declared, hu], tmp_path / "again" / "cohort.csv")).rows[0].grey_hu == AUTO


def test_greys_are_estimated_both_or_neither(tmp_path: Path) -> None:
    path = write(tmp_path, "one,p1,A,s.png,,,,,,auto,260\ntwo,p2,A,s.png,,,,,,,auto\n")
    with pytest.raises(ValueError, match="row 2") as caught:
        read_cohort(path)
    first, second = str(caught.value).splitlines()
    assert first.endswith("row 2, column 'grey_high_hu': found '260', expected auto, because the other one is auto")
    assert second.endswith(
        "row 3, column 'grey_low_hu': found a blank cell, expected auto, because the other one is auto"
    )


@pytest.mark.parametrize("other", ["0", "1"])
def test_two_columns_of_the_same_classes_must_agree(tmp_path: Path, other: str) -> None:
    """Consolidation and group_4 are the same leaves in the class set l3."""
    (tmp_path / "scan.nii").write_bytes(b"")
    (tmp_path / "cohort.csv").write_text(
        f"scan_id,patient_id,site,image,has_consolidation,has_group_4,has_group_2\na,p,A,scan.nii,1,{other},NA\n"
    )
    (row,) = read_cohort(tmp_path / "cohort.csv").rows
    if other == "0":
        with pytest.raises(
            ValueError, match="scan a: has_group_4 contradicts another column of the same classes of l3"
        ):
            bits_of(row, L3)
    else:
        bits = bits_of(row, L3)
        assert bits == {"infection": -1, "consolidation": 1, "group_2": -1, "group_3": -1, "group_4": 1}


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("has_group_2", "2", "column 'has_group_2': found '2', expected 0, 1 or blank"),
        (
            "labels",
            "consolidation",
            "column 'labels': found 'consolidation', expected a blank cell, because the row has no",
        ),
        ("labels,pattern_mask,readers", "infection,scan.nii,scan.nii", "because the masks of readers draw every class"),
    ],
)
def test_wrong_labels_of_a_scan_are_refused_with_the_row(tmp_path: Path, header: str, cells: str, message: str) -> None:
    (tmp_path / "scan.nii").write_bytes(b"")
    (tmp_path / "cohort.csv").write_text(f"scan_id,patient_id,site,image,{header}\na,p,A,scan.nii,{cells}\n")
    with pytest.raises(ValueError, match=message):
        read_cohort(tmp_path / "cohort.csv")
