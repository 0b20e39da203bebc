from pathlib import Path

import pytest
from tiny_chest import chest, save

from cohort.importing import NewCohort, new_cohort
from cohort.table import CohortRow, read_cohort


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save(chest()[0], tmp_path / "data" / "a.nii.gz")
    return tmp_path / "data"


def fill(new: NewCohort, source: Path, *names: str) -> None:
    for name in names:
        mask = new.folder / "masks" / f"{name}.nii.gz"
        save(chest()[1], mask)
        new.rows.append(CohortRow(name, name, "site", source / "a.nii.gz", infection_mask=mask))


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_second_import_takes_the_place_of_the_first(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohorts" / "new"
    with new_cohort(source, out) as new:
        fill(new, source, "a", "b")
        new.tables["subjects.csv"] = [{"scan_id": "a", "diagnosis": "none"}]
        new.left_out.append(("c", "too small"))
    assert files_in(out) == ["cohort.csv", "left_out.csv", "masks/a.nii.gz", "masks/b.nii.gz", "subjects.csv"]
    assert (out / "left_out.csv").read_text().splitlines() == ["name,reason", "c,too small"]
    (out / "notes.txt").write_text("the user's own")
    with new_cohort(source, out) as new:
        fill(new, source, "b")
    assert files_in(out) == ["cohort.csv", "masks/b.nii.gz", "notes.txt"]
    (row,) = read_cohort(out / "cohort.csv").rows
    assert row.infection_mask == out / "masks" / "b.nii.gz"
    assert files_in(source) == ["a.nii.gz"]


def test_a_failed_import_changes_nothing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for earlier in (False, True):
        before = {file: (tmp_path / file).read_bytes() for file in files_in(tmp_path)}
        with pytest.raises(ValueError, match="null"), new_cohort(source, out) as new:
            fill(new, source, "b", "no file can be named \0")
        with pytest.raises(ValueError, match="found 'B', which row 2 has too"), new_cohort(source, out) as new:
            fill(new, source, "b", "B")
        with (
            pytest.raises(ValueError, match=r"out/cohort\.csv: row 2.*letters, digits"),
            new_cohort(source, out) as new,
        ):
            fill(new, source, "white space")
        with pytest.raises(ValueError, match=r"no scan can be taken in \(x: bad\)"), new_cohort(source, out) as new:
            new.left_out.append(("x", "bad"))
        assert {file: (tmp_path / file).read_bytes() for file in files_in(tmp_path)} == before
        assert out.exists() == earlier
        with new_cohort(source, out) as new:
            fill(new, source, "a")


def test_files_of_others_are_never_replaced(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds the data set itself"), new_cohort(source, tmp_path / "." / "data"):
        pass
    (tmp_path / "out" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds images without a cohort\.csv"), new_cohort(source, tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "images").is_dir()
