from pathlib import Path

import pytest

from ct.cohort import CohortRow, assign_splits, composition, read_cohort, weak_label_of

HEADER = "scan_id,patient_id,site,image,lung_mask,readers,report,has_consolidation,split,grey_low_hu,grey_high_hu\n"


def write(folder, body, header=HEADER):
    for name in ("a.nii.gz", "b.nii.gz", "r1.nii", "r2.nii", "s.png"):
        (folder / name).touch()
    (folder / "report.txt").write_text("No consolidation.", encoding="utf-8")
    path = folder / "cohort.csv"
    path.write_text(header + body, encoding="utf-8")
    return path


def test_a_sound_cohort_is_read(tmp_path):
    path = write(
        tmp_path,
        "one,p1,A,a.nii.gz,b.nii.gz,r1.nii; r2.nii,report.txt,1,train,,\n\ntwo,p2,B,s.png,,,report.txt,,,-1100,260\n",
    )
    one, two = read_cohort(path).rows
    assert one.image == tmp_path / "a.nii.gz"
    assert one.lung_mask == tmp_path / "b.nii.gz"
    assert [reader.name for reader in one.readers] == ["r1.nii", "r2.nii"]
    assert (one.has_consolidation, one.split, one.grey_low_hu) == (1, "train", None)
    assert (two.has_consolidation, two.split, two.grey_low_hu, two.grey_high_hu) == (None, "", -1100.0, 260.0)
    assert (weak_label_of(one), weak_label_of(two)) == (1, 0)


def test_weak_label_without_column_and_report_is_unknown():
    assert weak_label_of(CohortRow("a", "p", "s", Path("a"))) == -1


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = write(tmp_path, "one,p1,A,a.nii.gz,,,,,,,\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_cohort(path).rows[0].scan_id == "one"


def test_all_wrong_cells_are_listed_at_once(tmp_path):
    path = write(
        tmp_path,
        "one,p1,A,missing.nii.gz,,,,yes,train,,\n"
        "../x,,A,a.nii.gz,nolung.nii,,,,training,,\n"
        "One,p1,A,a.nii.gz,,,,,test,,\n"
        "four,p4,A,s.png,,,,,,,\n"
        "five,p5,A,s.png,,,,,,300,-1000\n"
        "six,p6,A,a.nii.gz,,,,,,-1000,200\n",
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
        "row 7, column 'grey_low_hu': found '-1000', expected a blank cell",
        "row 7, column 'grey_high_hu': found '200', expected a blank cell",
    ]
    for fragment in expected:
        assert any(fragment in line for line in lines), fragment
    assert len(lines) == len(expected)
    assert all(line.startswith(str(path)) for line in lines)


@pytest.mark.parametrize(
    ("header", "fragment"),
    [
        ("scan_id,patient_id,image\n", "column 'site' is missing"),
        ("scan_id,patient_id,site,image,infection_masks\n", "expected 'infection_mask'"),
        ("scan_id,patient_id,site,image,site\n", "column 'site' appears twice"),
    ],
)
def test_wrong_headers(tmp_path, header, fragment):
    with pytest.raises(ValueError, match=fragment):
        read_cohort(write(tmp_path, "one,p,A,a.nii.gz\n", header))


def test_missing_empty_and_ragged_files(tmp_path):
    with pytest.raises(ValueError, match="no such cohort file"):
        read_cohort(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="holds no scans"):
        read_cohort(write(tmp_path, ""))
    with pytest.raises(ValueError, match="row 2: found -1 cells against the header"):
        read_cohort(write(tmp_path, "one,p1,A,a.nii.gz,,,,,,\n"))
    (tmp_path / "cohort.csv").write_bytes(b"scan_id,patient_id,site,image\n\xff,p,A,a.nii.gz\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_cohort(tmp_path / "cohort.csv")


def rows_of(*patients, **split):
    return [CohortRow(f"s{n}", p, "A", Path("a"), split=split.get(p, "")) for n, p in enumerate(patients)]


def test_splits_are_patient_disjoint_and_seeded():
    rows = rows_of(*(f"p{n % 20}" for n in range(60)))
    done = assign_splits(rows, seed=3)
    assert [row.scan_id for row in done] == [row.scan_id for row in rows]
    splits_of = {row.patient_id: {r.split for r in done if r.patient_id == row.patient_id} for row in done}
    assert all(len(splits) == 1 for splits in splits_of.values())
    counts = [list(splits_of.values()).count({name}) for name in ("train", "val", "test")]
    assert counts == [14, 3, 3]
    assert done == assign_splits(rows, seed=3)
    assert done != assign_splits(rows, seed=4)


def test_six_patients_give_4_1_1():
    done = [row.split for row in assign_splits(rows_of(*"abcdef"), seed=0)]
    assert sorted(done) == ["test", "train", "train", "train", "train", "val"]


def test_explicit_splits_win_and_hold_for_the_patient():
    done = assign_splits(rows_of("a", "a", "b", "c", "d", "e", a="test"), seed=0)
    assert [row.split for row in done[:2]] == ["test", "test"]
    assert sorted(row.split for row in done[2:]) == ["train", "train", "train", "val"]


def test_composition_counts_scans_and_patients():
    text = composition(assign_splits(rows_of("a", "a", "b", a="train", b="test"), seed=0))
    assert text.splitlines()[1].split() == ["A", "2", "(1)", "0", "(0)", "1", "(1)"]
