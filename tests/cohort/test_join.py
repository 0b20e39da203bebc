"""Several cohorts as one: nothing is lost, and nobody becomes two people or the other way round."""

from pathlib import Path

import pytest

from cohort.join import join, main
from cohort.table import read_cohort


def write(folder: Path, *rows: str, columns: str = "scan_id,patient_id,site,image,split,has_group_2") -> Path:
    folder.mkdir()
    (folder / "scan.nii").write_bytes(b"")
    (folder / "cohort.csv").write_text("\n".join([columns, *rows]) + "\n")
    return folder / "cohort.csv"


def test_rows_of_both_with_the_second_for_training(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "a,p,A,scan.nii,test,1", "b,q,A,scan.nii,,")
    other = write(tmp_path / "other", "c,r,B,scan.nii,test,0")
    assert main([str(one), "--train", str(other), "--out", str(tmp_path / "both" / "cohort.csv")]) == 0
    rows = read_cohort(tmp_path / "both" / "cohort.csv").rows
    assert [(row.scan_id, row.split, row.has_findings) for row in rows] == [
        ("a", "test", (("group_2", "1"),)),
        ("b", "", ()),
        ("c", "train", (("group_2", "0"),)),
    ]
    assert [row.image.parent.resolve().name for row in rows] == ["one", "one", "other"]


@pytest.mark.parametrize(
    ("row", "column"), [("a,z,B,scan.nii,,", "scan_id 'a'"), ("z,p,B,scan.nii,,", "patient_id 'p'")]
)
def test_a_name_that_both_have_is_refused(
    tmp_path: Path, row: str, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = write(tmp_path / "one", "a,p,A,scan.nii,,"), write(tmp_path / "other", row)
    with pytest.raises(ValueError, match=f"{column} is in .*one.* and in .*other"):
        join([one, other], [])
    assert main([str(one), str(other), "--out", str(tmp_path / "out.csv")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out.csv").exists()
