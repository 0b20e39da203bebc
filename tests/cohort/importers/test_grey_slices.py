import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import SHARED_DATA

from cohort.importers.grey_slices import import_slices, main, parse_split
from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.table import read_cohort
from ct.grey_window import AUTO
from datamodules.slices import SliceTable

needs_shared = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real scans are not at {SHARED_DATA}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "slices"
    rows = ["file,case,order_in_case"]
    for number in range(12):
        name, case = f"{number:04d}.png", f"case{number // 2:02d}"
        rows.append(f"{name},{case},{number % 2}")
        plane = np.zeros((16, 16), dtype=np.uint8)
        plane[4:12, 4:12] = number + 1
        for part in ("ct", "lungs", "covid"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(plane if part == "ct" else (plane > 0).astype(np.uint8) * 255).save(folder / part / name)
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_one_scan_per_case_with_its_masks(source: Path, tmp_path: Path) -> None:
    path = import_slices(source, tmp_path / "out", -1340, 700)
    rows = read_cohort(path).rows
    assert [row.scan_id for row in rows] == [f"case{n:02d}" for n in range(6)]
    assert sorted(row.split for row in rows) == ["test", "train", "train", "train", "train", "val"]
    assert {(row.grey_low_hu, row.grey_high_hu, row.site) for row in rows} == {(-1340.0, 700.0, "slices")}
    assert sorted(file.name for file in rows[1].image.iterdir()) == ["0002.png", "0003.png"]
    prepare_cohort(path, tmp_path / "prepared", size=16, jobs=1)
    hu = np.load(tmp_path / "prepared" / "case01" / "hu.npy")
    np.testing.assert_array_equal(hu[:, 8, 8], np.rint(-1340 + np.array([3, 4]) * 8))
    assert np.load(tmp_path / "prepared" / "case01" / "infection.npy").sum() == 128


def test_explicit_splits_and_a_second_import(source: Path, tmp_path: Path) -> None:
    import_slices(source, tmp_path / "out", -1340, 700)
    named = parse_split("case00=test, case01=val,")
    rows = read_cohort(import_slices(source, tmp_path / "out", -1000, 500, named, site="X")).rows
    assert [row.split for row in rows] == ["test", "val", "train", "train", "train", "train"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cases", "cohort.csv"]


def test_a_table_as_a_german_spreadsheet_and_pandas_save_it(source: Path, tmp_path: Path) -> None:
    table = (source / "cases.csv").read_text().replace(",", ";").replace(";0\n", ";0,0\n").replace(";1\n", ";1.0\n")
    (source / "cases.csv").write_text(table, encoding="utf-8-sig")
    rows = read_cohort(import_slices(source, tmp_path / "out", -1340, 700)).rows
    assert sorted(file.name for file in rows[1].image.iterdir()) == ["0002.png", "0003.png"]
    (source / "cases.csv").write_text(table.replace("1.0", "1.5"))
    with pytest.raises(ValueError, match=r"row 3: found .*a whole number"):
        import_slices(source, tmp_path / "out", -1340, 700)


def test_folders_of_masks_are_optional(source: Path, tmp_path: Path) -> None:
    for file in (source / "covid").iterdir():
        file.unlink()
    (source / "covid").rmdir()
    assert read_cohort(import_slices(source, tmp_path / "out", -1340, 700)).rows[0].infection_mask is None


@pytest.mark.parametrize("text", ["case01", "case01=training", "a=train,a=val"])
def test_wrong_splits(text: str) -> None:
    with pytest.raises(ValueError, match="--split holds"):
        parse_split(text)


def test_wrong_folders_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names 'case99'"):
        import_slices(source, tmp_path / "out", -1340, 700, {"case99": "train"})
    with pytest.raises(ValueError, match="expected the first lower"):
        import_slices(source, tmp_path / "out", 700, -1340)
    (source / "lungs" / "0003.png").unlink()
    with pytest.raises(ValueError, match=r"0003\.png: no such image"):
        import_slices(source, tmp_path / "out", -1340, 700)
    (source / "cases.csv").write_text("file,case,order_in_case\n0001.png,a,0\n0000.png,a,1\n")
    with pytest.raises(ValueError, match="not in the order of their names"):
        import_slices(source, tmp_path / "out", -1340, 700)
    (source / "cases.csv").unlink()
    with pytest.raises(ValueError, match="no such file"):
        import_slices(source, tmp_path / "out", -1340, 700)
    assert not (tmp_path / "out").exists()


def test_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [f"--folder={source}", f"--out={tmp_path / 'out'}", "--grey-low-hu", "-1340", "--grey-high-hu=700"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip().endswith("cohort.csv")
    assert main([*command, "--split", "case00=none"]) == 2
    assert capsys.readouterr().err.startswith("error: --split holds")


def test_hu_are_estimated_unless_they_are_declared(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [f"--folder={source}", f"--out={tmp_path / 'out'}"]
    for both in ([], ["--grey-low-hu=auto", "--grey-high-hu=auto"]):
        assert main([*command, *both]) == 0
        assert {row.grey_hu for row in read_cohort(tmp_path / "out" / "cohort.csv").rows} == {AUTO}
    capsys.readouterr()
    wrong = {
        "expected both or neither": ["--grey-low-hu=-1340"],
        "expected both auto, or two numbers of HU": ["--grey-low-hu=-1340", "--grey-high-hu=auto"],
        "expected the first lower": ["--grey-low-hu=700", "--grey-high-hu=-1340"],
    }
    for sentence, greys in wrong.items():
        assert main([*command, *greys]) == 2
        assert sentence in capsys.readouterr().err


@needs_shared
def test_without_lungs_all_pixels_can_count(source: Path, tmp_path: Path) -> None:
    path = import_slices(source, tmp_path / "given", -1340, 700, whole_image=True)
    lungs = np.asarray(Image.open(path.parent / "cases" / "case01" / "lungs" / "0002.png"))
    assert (lungs == 255).sum() == 64, "lungs that come with the slices stay"
    for image in (source / "lungs").iterdir():
        image.unlink()
    (source / "lungs").rmdir()
    rows = read_cohort(import_slices(source, tmp_path / "out", -1340, 700, whole_image=True)).rows
    prepare_cohort(tmp_path / "out" / "cohort.csv", tmp_path / "prepared", size=16, jobs=1)
    assert all(row.lung_mask for row in rows)
    assert np.load(tmp_path / "prepared" / "case01" / "lung.npy").all()
    assert SliceTable.read(tmp_path / "prepared", "train").whole_image.all()
    prepare_cohort(path, tmp_path / "prepared_given", size=16, jobs=1)
    assert not SliceTable.read(tmp_path / "prepared_given", "train").whole_image.any()
    assert not any(row.lung_mask for row in read_cohort(import_slices(source, tmp_path / "out", -1340, 700)).rows)


def textured(folder: Path, seeds: dict[str, int]) -> Path:
    """Cases of nine slices, each with a picture of its own by its seed; noise differs."""
    rows = ["file,case,order_in_case"]
    (folder / "ct").mkdir(parents=True)
    for case, seed in seeds.items():
        picture = np.random.default_rng(seed).normal(0, 60, (9, 12, 12)).repeat(8, 1).repeat(8, 2)
        noise = np.random.default_rng(len(rows)).normal(0, 15, picture.shape)
        for number, plane in enumerate((128 + picture + noise).clip(0, 255).astype(np.uint8)):
            name = f"{case}_{number}.png"
            rows.append(f"{name},{case},{number}")
            Image.fromarray(plane).save(folder / "ct" / name)
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_cases_that_show_one_image_are_one_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = textured(tmp_path / "slices", {"a": 1, "b": 2, "c": 1, "d": 3, "e": 4})
    rows = read_cohort(import_slices(source, tmp_path / "out")).rows
    assert {row.scan_id: row.patient_id for row in rows} == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "e"}
    assert len({row.split for row in rows if row.patient_id == "a"}) == 1
    assert "a and c show nearly the same image: one patient, a" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--split puts a and c, which show one patient, into different splits"):
        import_slices(source, tmp_path / "out", split={"a": "train", "c": "test"})
    (source / "ct" / "a_3.png").write_bytes(b"no image")
    rows = read_cohort(import_slices(source, tmp_path / "out")).rows
    assert [row.patient_id for row in rows] == ["a", "b", "c", "d", "e"], "what cannot be read is left to the gate"


@pytest.mark.shared_data
def test_the_real_folder_makes_six_cases(tmp_path: Path) -> None:
    path = import_slices(SHARED_DATA / "covid20_dev", tmp_path / "out", -1340, 700)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scan_id"] for row in rows] == ["case01", "case04", "case06", "case13", "case14", "case17"]
    assert len(list((tmp_path / "out" / "cases").glob("*/ct/*.png"))) == 182
