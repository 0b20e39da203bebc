import csv
from pathlib import Path

from cohort.prepare.verdicts import Verdict, summary, write_verdicts


def refused(scan_id: str, reason: str) -> Verdict:
    return Verdict(scan_id, "X", "train", "refused", (reason,), (), f"images/{scan_id}.nii.gz")


def test_the_file_has_a_row_per_scan_and_one_line_per_row(tmp_path: Path) -> None:
    verdicts = [
        Verdict("a", "X", "train", "repaired", ("3 voxels, cut", "turned"), (), "a.nii.gz"),
        Verdict("b", "Ü", "val", "pass", (), ("one lung", "small"), "b"),
        refused("c", 'c: first "line"\n  second line'),
    ]
    write_verdicts(verdicts, tmp_path / "verdicts.csv")
    assert len((tmp_path / "verdicts.csv").read_text(encoding="utf-8").splitlines()) == 4
    with (tmp_path / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["scan_id", "site", "split", "verdict", "reasons", "warnings", "image"],
        ["a", "X", "train", "repaired", "3 voxels, cut | turned", "", "a.nii.gz"],
        ["b", "Ü", "val", "pass", "", "one lung | small", "b"],
        ["c", "X", "train", "refused", 'c: first "line" second line', "", "images/c.nii.gz"],
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["verdicts.csv"]


def test_a_thousand_scans_are_summed_up_in_a_few_lines() -> None:
    verdicts = [Verdict(f"p{n}", "X", "train", "pass", (), (), "") for n in range(800)]
    verdicts += [
        refused(f"g{n}", f"data/g{n}.nii.gz: slices lie {n / 7:.2f} mm apart near {-n} mm; expected even steps")
        for n in range(150)
    ]
    verdicts += [refused(f"n{n}", f"data/n{n}: {n} voxels are NaN; expected finite HU") for n in range(4)]
    verdicts += [refused("w", "w/x: a mask with shape (3, 4); expected (4, 3)")]
    verdicts += [
        Verdict(f"r{n}", "X", "val", "repaired", (f"{n} voxels (lowest -{n}) cut",), (), "") for n in range(45)
    ]
    text = summary(verdicts)
    lines = text.splitlines()
    assert lines[0] == "1000 scans: 800 passed, 45 repaired, 155 refused; 0 with warnings"
    assert lines[1:7] == [
        "refused:",
        "   150 x g0: data/g0.nii.gz: slices lie 0.00 mm apart near 0 mm; expected even steps",
        "         also g1, g2, g3, g4, g5 and 144 more",
        "     4 x n0: data/n0: 0 voxels are NaN; expected finite HU",
        "         also n1, n2, n3",
        "     1 x w: w/x: a mask with shape (3, 4); expected (4, 3)",
    ]
    assert lines[7:] == [
        "repaired:",
        "    45 x r0: 0 voxels (lowest -0) cut",
        "         also r1, r2, r3, r4, r5 and 39 more",
    ]


def test_kinds_beyond_the_first_twenty_are_counted() -> None:
    text = summary([refused(f"s{n}", f"x: is {chr(97 + n) * 3}") for n in range(23)])
    assert text.splitlines()[-1] == "     3 x 3 other kinds"
    assert len(text.splitlines()) == 23


def test_warnings_are_told_of_usable_scans() -> None:
    text = summary([Verdict("a", "X", "train", "pass", (), ("one lung only",), "")])
    assert text.splitlines() == [
        "1 scans: 1 passed, 0 repaired, 0 refused; 1 with warnings",
        "warnings:",
        "     1 x a: one lung only",
    ]
