from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort.splits import apply_test_list, assign_splits, leave_one_site_out, main, patient_folds, read_test_list
from cohort.table import CohortRow, read_cohort


def rows_of(*patients: str, **split: str) -> list[CohortRow]:
    return [CohortRow(f"s{n}", p, "A", Path("a"), split=split.get(p, "")) for n, p in enumerate(patients)]


def split_of(rows: Sequence[CohortRow]) -> dict[str, str]:
    """Split of each patient; fails where a patient has two."""
    splits: dict[str, set[str]] = {row.patient_id: set() for row in rows}
    for row in rows:
        splits[row.patient_id].add(row.split)
    assert all(len(named) == 1 for named in splits.values())
    return {patient: named.pop() for patient, named in splits.items()}


@st.composite
def cohorts(draw: st.DrawFn) -> list[CohortRow]:
    """Patients of up to three sites with 1 to 3 scans each; the label is known for some scans."""
    count = draw(st.integers(1, 60))
    patients = draw(
        st.lists(
            st.tuples(st.sampled_from("ABC"), st.sampled_from([0, 1, None]), st.integers(1, 3)),
            min_size=count,
            max_size=count,
        )
    )
    return [
        CohortRow(f"s{n}.{scan}", f"p{n}", site, Path("a"), has_consolidation=label)
        for n, (site, label, scans) in enumerate(patients)
        for scan in range(scans)
    ]


@settings(deadline=None, max_examples=60)
@given(cohorts(), st.integers(0, 9), st.randoms())
def test_splits_are_disjoint_balanced_and_independent_of_the_rows_order(
    rows: list[CohortRow], seed: int, random: Random
) -> None:
    done = assign_splits(rows, seed)
    assert [replace(row, split="") for row in done] == rows
    splits = split_of(done)
    patients = {row.patient_id: (row.site, row.has_consolidation) for row in rows}
    number = len(patients)
    held_out = max(1, round(0.15 * number)) if number > 2 else 0
    assert Counter(splits.values()) == +Counter(train=number - 2 * held_out, val=held_out, test=held_out)
    share = held_out / number
    strata = {
        key: [p for p, of in patients.items() if key in (of, of[1])] for of in patients.values() for key in (of, of[1])
    }
    for members in strata.values():
        for name, part in (("test", share), ("val", share), ("train", 1 - 2 * share)):
            assert abs(sum(splits[patient] == name for patient in members) - part * len(members)) < 1
    assert split_of(assign_splits(random.sample(rows, len(rows)), seed)) == splits


@pytest.mark.parametrize(("patients", "train", "held_out"), [(2, 2, 0), (3, 1, 1), (6, 4, 1), (20, 14, 3)])
def test_the_sizes_of_splits(patients: int, train: int, held_out: int) -> None:
    rows = rows_of(*(f"p{n % patients}" for n in range(3 * patients)))
    sizes = Counter(split_of(assign_splits(rows, seed=3)).values())
    assert (sizes["train"], sizes["val"], sizes["test"]) == (train, held_out, held_out)


def test_the_seed_decides_who_is_held_out() -> None:
    rows = rows_of(*(f"p{n}" for n in range(20)))
    assert split_of(assign_splits(rows, seed=3)) != split_of(assign_splits(rows, seed=4))


def test_explicit_splits_win_and_hold_for_the_patient() -> None:
    done = assign_splits(rows_of("a", "a", "b", "c", "d", "e", a="test"), seed=0)
    assert [row.split for row in done[:2]] == ["test", "test"]
    assert sorted(row.split for row in done[2:]) == ["train", "train", "train", "val"]
    fixed = rows_of("a", "b", "c", a="train", b="val", c="test")
    assert list(assign_splits(fixed, seed=1)) == fixed


def test_a_patients_label_is_known_if_one_scan_tells(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_bytes(b"\xff")
    (tmp_path / "dense.txt").write_text("There is consolidation.", encoding="utf-8")
    rows = [
        row
        for n in range(20)
        for row in (
            CohortRow(f"a{n}", f"p{n}", "A", Path("a"), report=tmp_path / ("dense.txt" if n % 2 else "broken.txt")),
            CohortRow(f"b{n}", f"p{n}", "A", Path("a")),
        )
    ]
    held_out = {patient for patient, split in split_of(assign_splits(rows, 0)).items() if split != "train"}
    assert Counter(int(patient[1:]) % 2 for patient in held_out) == {0: 3, 1: 3}


@pytest.mark.parametrize("seed", range(5))
def test_one_more_patient_moves_few_others(seed: int) -> None:
    rows = [CohortRow(f"s{n}", f"p{n}", "AB"[n % 2], Path("a"), has_consolidation=n % 3 % 2) for n in range(100)]
    before = split_of(assign_splits(rows, seed))
    after = split_of(assign_splits([*rows, CohortRow("new", "new", "A", Path("a"))], seed))
    moved = [patient for patient in before if before[patient] != after[patient]]
    assert len(moved) <= 5
    assert all("train" in (before[patient], after[patient]) for patient in moved)


def test_sites_are_held_out_whole_with_their_patients_other_scans() -> None:
    rows = [CohortRow(f"s{n}", f"p{n}", "AAAB"[n % 4], Path("a")) for n in range(16)]
    rows += [CohortRow("away", "p3", "A", Path("a")), CohortRow("own", "own", "B", Path("a"), split="train")]
    done = {row.scan_id: row for row in assign_splits(rows, 0, ["B"])}
    assert {done[scan].split for scan in ("s3", "s7", "s11", "s15", "away")} == {"test"}
    assert done["own"].split == "train"
    assert Counter(row.split for row in done.values() if row.patient_id != "p3" and row.site == "A") == {
        "train": 10, "val": 2
    }  # fmt: skip
    with pytest.raises(ValueError, match="no site 'X' to hold out; expected some of A, B"):
        assign_splits(rows, 0, ["X"])


def test_a_test_list_names_scans_or_patients(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffs0\n\n  d \ns0\n", encoding="utf-8")
    assert read_test_list(tmp_path / "list.txt") == ("s0", "d")
    rows = rows_of("a", "a", "b", "c", "d", "e", "f")
    done = assign_splits(apply_test_list(rows, tmp_path / "list.txt"), 0)
    assert {row.scan_id for row in done if row.split == "test"} == {"s0", "s1", "s4"}
    assert Counter(row.split for row in done) == {"test": 3, "val": 1, "train": 3}


@pytest.mark.parametrize(
    ("text", "rows", "fragments"),
    [
        ("x\ns1\ny\n", rows_of("a", "b"), ["'x' is no scan_id or patient_id", "'y' is no scan_id or patient_id"]),
        ("a\n", rows_of("a", "b", a="train"), ["'s0' is listed for test, but the cohort's split column says"]),
        ("s1\n", rows_of("s1", "b"), ["'s1' is a scan of one patient and another's id"]),
        (" \n", rows_of("a"), ["holds no name"]),
    ],
)
def test_wrong_test_lists(tmp_path: Path, text: str, rows: list[CohortRow], fragments: list[str]) -> None:
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"list\.txt") as caught:
        apply_test_list(rows, tmp_path / "list.txt")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(fragments)
    assert all(fragment in line for fragment, line in zip(fragments, lines, strict=True))


def test_a_test_list_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a readable UTF-8 text file"):
        read_test_list(tmp_path / "none.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not a readable UTF-8 text file"):
        read_test_list(tmp_path / "list.txt")


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\n",
        "scan_id\na\nb\n",
        "patient_id;site\na;A\nb;B\n",
        ",scan_id\n0,a\n1,b\n",
        "sep=\t\nscan_id\tx\na\t\nb\t1\n",
    ],
)
def test_a_test_list_may_be_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8-sig")
    assert read_test_list(tmp_path / "list.csv") == ("a", "b")


def test_names_of_a_plain_list_may_hold_separators(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("Doe; J\nmy_scan_id, 2\n", encoding="utf-8")
    assert read_test_list(tmp_path / "list.txt") == ("Doe; J", "my_scan_id, 2")


def test_each_site_is_left_out_once() -> None:
    rows = [CohortRow(f"s{n}", f"p{n}", "ABC"[n % 3], Path("a"), split="train") for n in range(21)]
    rows.append(CohortRow("both", "p0", "B", Path("a"), split="train"))
    folds = leave_one_site_out(rows, 0)
    assert list(folds) == ["A", "B", "C"]
    for site, fold in folds.items():
        assert [row.scan_id for row in fold] == [row.scan_id for row in rows]
        away = {"p0"} if site in "AB" else set()
        expected = {row.patient_id for row in rows if row.site == site} | away
        assert {patient for patient, split in split_of(fold).items() if split == "test"} == expected
        assert Counter(split_of(fold).values())["val"] == 2
    with pytest.raises(ValueError, match="one site, 'A'; expected at least two"):
        leave_one_site_out(rows_of("a", "b"), 0)
    few = [CohortRow(name, name, site, Path("a")) for name, site in (("a", "A"), ("b", "A"), ("c", "B"))]
    with pytest.raises(ValueError, match="site 'A' held out leaves no patient for val"):
        leave_one_site_out(few, 0)


@settings(deadline=None, max_examples=30)
@given(cohorts(), st.integers(2, 6), st.integers(0, 9))
def test_every_patient_is_tested_in_one_fold(rows: list[CohortRow], folds: int, seed: int) -> None:
    patients = {row.patient_id: (row.site, row.has_consolidation) for row in rows}
    if len(patients) < folds or len(patients) - -(-len(patients) // folds) < 2:
        with pytest.raises(ValueError, match="expected"):
            patient_folds(rows, folds, seed)
        return
    done = [split_of(fold) for fold in patient_folds(rows, folds, seed)]
    tested = [{patient for patient, split in fold.items() if split == "test"} for fold in done]
    assert sorted(patient for members in tested for patient in members) == sorted(patients)
    for stratum in {None, *patients.values()}:
        counts = [sum(stratum in (None, patients[patient]) for patient in members) for members in tested]
        assert max(counts) - min(counts) <= 1
    assert all({"train", "val"} <= set(fold.values()) for fold in done)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Twelve scans of the sites 'South Korea' and B, split by hand."""
    (tmp_path / "a.nii").touch()
    lines = [f"s{n},p{n},{'B' if n % 2 else 'South Korea'},a.nii,train" for n in range(12)]
    path = tmp_path / "cohort.csv"
    path.write_text("\n".join(["scan_id,patient_id,site,image,split", *lines]), encoding="utf-8")
    return path


def test_the_command_writes_a_cohort_per_fold(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folds"
    assert main(["--cohort", str(cohort), "--out", str(out), "--leave-one-site-out"]) == 0
    shown = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["site-B", "site-South_Korea"]
    rows = read_cohort(out / "site-B" / "cohort.csv").rows
    assert {row.scan_id for row in rows if row.split == "test"} == {f"s{n}" for n in range(1, 12, 2)}
    assert all(row.image.samefile(tmp_path / "a.nii") for row in rows)
    assert str(out / "site-B" / "cohort.csv") in shown.out
    assert ["B", "6", "(6)", "0", "(0)", "0", "(0)", "6", "(6)"] in [line.split() for line in shown.out.splitlines()]
    assert "the split column" in shown.err
    assert main(["--cohort", str(cohort), "--out", str(out), "--folds", "3", "--seed", "1"]) == 0
    tested = [
        row.scan_id
        for n in (1, 2, 3)
        for row in read_cohort(out / f"fold-{n}" / "cohort.csv").rows
        if row.split == "test"
    ]
    assert sorted(tested) == sorted(f"s{n}" for n in range(12))


def test_the_command_writes_one_cohort_for_held_out_sites_and_lists(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "held"
    assert main(["--cohort", str(cohort), "--out", str(out), "--held-out-sites", "B"]) == 0
    assert "not held out, because the split column" in capsys.readouterr().err
    assert {row.split for row in read_cohort(out / "cohort.csv").rows} == {"train"}
    cohort.write_text(cohort.read_text(encoding="utf-8").replace(",train", ","), encoding="utf-8")
    (tmp_path / "list.txt").write_text("s3\np4\n", encoding="utf-8")
    assert main(["--cohort", str(cohort), "--out", str(out), "--test-list", str(tmp_path / "list.txt")]) == 0
    rows = read_cohort(out / "cohort.csv").rows
    assert {row.scan_id for row in rows if row.split == "test"} == {"s3", "s4"}
    assert capsys.readouterr().err == ""


def test_the_commands_errors_are_one_line(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cohort", str(cohort), "--out", str(tmp_path / "x"), "--folds", "13"]) == 2
    assert capsys.readouterr().err == "error: found 13 folds for 12 patients; expected from 2 to 12 folds\n"
    assert not (tmp_path / "x").exists()
    cohort.write_text(cohort.read_text(encoding="utf-8").replace(",B,", ",South/Korea,"), encoding="utf-8")
    assert main(["--cohort", str(cohort), "--out", str(tmp_path / "x"), "--leave-one-site-out"]) == 2
    assert "would get the same folder name" in capsys.readouterr().err
