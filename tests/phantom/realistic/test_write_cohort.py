"""The cohort of realistic phantoms: its files, its splits, what the gate says, and going on after a stop."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.table import read_cohort
from ct.files.read import read_mask, read_scan
from phantom.realistic import write_cohort as writer
from phantom.realistic.patient import make_realistic
from phantom.realistic.write_cohort import write_cohort


def hashes(folder: Path) -> dict[str, str]:
    """Hash a cohort's files; what preparing leaves beside them is hidden."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "few", 4, 10, size=48, slice_mm=10.0, jobs=1).parent


@pytest.mark.slow
def test_the_gate_accepts_the_cohort(written: Path, tmp_path: Path) -> None:
    rows = read_cohort(written / "cohort.csv").rows
    assert [row.split for row in rows].count("train") == 8
    assert {row.split for row in rows} == {"train", "val", "test"}
    assert len({row.patient_id for row in rows}) == 10
    done = prepare_cohort(written / "cohort.csv", tmp_path / "prepared", size=32, jobs=1)
    assert not done.refused
    first = rows[0]
    scan, expected = read_scan(first.image), make_realistic((4, 0), "infected", 48, 10.0)
    np.testing.assert_array_equal(scan.hu, expected.hu)
    assert [row.lung_mask is None for row in rows] == [number in (1, 3, 4, 5, 8, 9) for number in range(10)]
    severe = make_realistic((4, 3), "severe", 48, 10.0)
    np.testing.assert_array_equal(read_scan(rows[3].image).hu, severe.hu)
    assert first.infection_mask is not None
    np.testing.assert_array_equal(read_mask(first.infection_mask, scan) > 0, expected.infection)


@pytest.mark.slow
def test_a_stopped_cohort_goes_on_and_its_bytes_do_not_depend_on_processes(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "few"

    def stop_at_once(*arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "make_realistic", stop_at_once)
        with pytest.raises(KeyboardInterrupt):
            write_cohort(other, 4, 10, size=48, slice_mm=10.0, jobs=1)
    assert not (other / "cohort.csv").exists()
    write_cohort(other, 4, 10, size=48, slice_mm=10.0, jobs=2)
    assert hashes(other) == hashes(written)


def test_other_folders_and_small_cohorts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert writer.main(["--out", str(tmp_path)]) == 2
    assert "something else than a phantom cohort" in capsys.readouterr().err
    assert writer.main(["--out", str(tmp_path / "new"), "--patients", "3"]) == 2
    assert "patients is 3; expected at least 10" in capsys.readouterr().err
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "phantom.json").write_text('{"seed": 9}')
    assert writer.main(["--out", str(tmp_path / "older")]) == 2
    assert "made differently" in capsys.readouterr().err
