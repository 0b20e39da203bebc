import io
import os
from pathlib import Path

import pandas as pd
import pytest

from cohort.composition import (
    as_text,
    composition,
    find_index,
    label_table,
    main,
    scans_of_rows,
    site_counts,
    site_table,
)
from cohort.prepare.prepare_cohort import prepared_folder
from cohort.table import CohortRow

# Slices and scans per split, as paper L3's Table 2 has them.
PAPER = {
    "Iran": {"test": (1852, 52), "val": (2645, 95), "train": (12365, 405)},
    "Italy": {"test": (75, 1)},
    "Saudi Arabia": {"val": (69, 1), "train": (589, 7)},
    "South Korea": {"test": (1568, 18), "val": (1151, 20), "train": (3255, 51)},
    "Vancouver": {"test": (1407, 13)},
}


def scan(
    name: str,
    patient: str,
    site: str,
    split: str,
    label: int = -1,
    slices: int = 1,
    infection: int = 0,
    patterns: int = 0,
) -> dict[str, str | int]:
    keys = ("scan_id", "patient_id", "site", "split", "weak_label", "slices", "has_infection_mask", "has_pattern_mask")
    return dict(zip(keys, (name, patient, site, split, label, slices, infection, patterns), strict=True))


@pytest.fixture
def scans() -> pd.DataFrame:
    """Patient p has two scans, only one of which tells the label; r is of two sites."""
    return pd.DataFrame(
        [
            scan("a", "p", "A", "train", 1, 10, 1, 1),
            scan("b", "p", "A", "train", -1, 20, 1),
            scan("c", "q", "B", "train", 0, 30),
            scan("d", "r", "B", "test", 0, 40, 1),
            scan("e", "r", "A", "test", -1, 50),
            scan("f", "s", "B", "val", -1, 60),
        ]
    )


def test_the_papers_table_comes_out_of_its_scans() -> None:
    scans = pd.DataFrame(
        [
            scan(f"{site}{split}{n}", f"{site}{split}{n}", site, split, slices=slices // count + (n < slices % count))
            for site, splits in PAPER.items()
            for split, (slices, count) in splits.items()
            for n in range(count)
        ]
    )
    table = site_table(scans)
    assert table.index.name == "slices (scans)"
    assert list(table.columns) == ["test", "val", "train", "all splits"]
    assert list(table.loc["Iran"]) == ["1852 (52)", "2645 (95)", "12365 (405)", "16862 (552)"]
    assert list(table.loc["Italy"]) == ["75 (1)", "0 (0)", "0 (0)", "75 (1)"]
    # The paper prints 16208 and 24975, one slice fewer than its rows add up to.
    assert list(table.loc["all sites"]) == ["4902 (84)", "3865 (116)", "16209 (463)", "24976 (663)"]


def test_scans_of_one_patient_are_several_scans_and_one_patient(scans: pd.DataFrame) -> None:
    counts = site_counts(scans)
    assert list(counts.loc[("A", "train"), :]) == [30, 2, 1]
    assert list(counts.loc[("A", "val"), :]) == [0, 0, 0]
    assert list(counts.loc[("all sites", "test"), :]) == [90, 2, 1]
    assert list(counts.loc[("all sites", "all splits"), :]) == [210, 6, 4]


def test_labels_are_counted_by_patient_and_masks_by_scan(scans: pd.DataFrame) -> None:
    table = label_table(scans)
    assert list(table.index) == ["test", "val", "train", "all splits"]
    assert list(table.columns[:4]) == ["patients", "with consolidation", "without", "unknown"]
    assert list(table.columns[4:]) == ["scans", "scans with infection mask", "scans with pattern mask", "slices"]
    assert list(table.loc["test"]) == [1, 0, 1, 0, 2, 1, 0, 90]
    assert list(table.loc["val"]) == [1, 0, 0, 1, 1, 0, 0, 60]
    assert list(table.loc["train"]) == [2, 1, 1, 0, 3, 2, 1, 60]
    assert list(table.loc["all splits"]) == [4, 1, 2, 1, 6, 3, 1, 210]


def test_rows_without_split_and_slices_are_shown_as_such() -> None:
    rows = [
        CohortRow("a", "p", "A", Path("a"), split="train", has_consolidation=1, pattern_mask=Path("m")),
        CohortRow("b", "p", "A", Path("a"), split="train"),
        CohortRow("c", "q", "A", Path("a"), infection_mask=Path("m")),
    ]
    scans = scans_of_rows(rows)
    assert site_table(scans).loc["A"].to_dict() == {
        "test": "0 (0)", "val": "0 (0)", "train": "2 (1)", "unassigned": "1 (1)", "all splits": "3 (2)"
    }  # fmt: skip
    table = label_table(scans)
    assert list(table.loc["unassigned"])[:7] == [1, 0, 0, 1, 1, 1, 0]
    assert list(table.loc["train"])[:7] == [1, 1, 0, 0, 2, 1, 1]
    assert table["slices"].isna().tolist() == [False, False, True, True, True]
    assert " ".join(composition(rows).splitlines()[1].split()) == "A 0 (0) 0 (0) 2 (1) 1 (1) 3 (2)"


def test_three_styles(scans: pd.DataFrame) -> None:
    table = label_table(scans.assign(slices=[10, 20, float("nan"), 40, 50, 60]))
    lines = as_text(table, "markdown").splitlines()
    assert lines[0].startswith("| split | patients | with consolidation |")
    assert lines[1] == "| --- |" + " ---: |" * 8
    assert lines[2] == "| test | 1 | 0 | 1 | 0 | 2 | 1 | 0 | 90 |"
    assert lines[4] == "| train | 2 | 1 | 1 | 0 | 3 | 2 | 1 |  |"
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(as_text(table, "csv")), index_col=0), table)
    text = as_text(table).splitlines()
    assert len(text) == 5
    assert len({len(line) for line in text}) == 1


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.nii").touch()
    path = tmp_path / "c" / "cohort.csv"
    path.write_text("scan_id,patient_id,site,image,split\na,p,S,a.nii,train\nb,q,S,a.nii,\n", encoding="utf-8")
    return path


def test_the_command_counts_slices_once_they_are_prepared(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = tmp_path / "prepared"
    assert main(["--cohort", str(cohort), "--prepared", str(prepared)]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split() == ["S", "0", "(0)", "0", "(0)", "1", "(1)", "1", "(1)", "2", "(2)"]
    assert "is not prepared" in shown.err
    folder = prepared_folder(cohort, 64, prepared)
    folder.mkdir(parents=True)
    rows = pd.DataFrame([scan("a", "x1", "S", "train", 1, 12), scan("b", "x2", "S", "test", 0, 8)])
    rows.to_csv(folder / "index.csv", index=False)
    assert main(["--cohort", str(cohort), "--prepared", str(prepared), "--style", "markdown"]) == 0
    shown = capsys.readouterr()
    assert "| S | 8 (1) | 0 (0) | 12 (1) | 20 (2) |" in shown.out.splitlines()
    assert shown.err == ""
    os.utime(cohort, (2e9, 2e9))
    assert find_index(cohort, prepared) is None


def test_the_commands_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cohort", str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none.csv'}: no such cohort file")
