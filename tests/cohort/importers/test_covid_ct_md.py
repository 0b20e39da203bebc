import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from places import SHARED_DATA

from cohort.importers.covid_ct_md import LOBES, import_covid_ct_md, main
from cohort.table import read_cohort
from ct.files.dicom.export import write_dicom_series
from ct.files.read import read_scan

SHARED = SHARED_DATA / "covidctmd_dev"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real slices are not at {SHARED}")
INDEX_HEAD = "Label Index,Diagnosis,Relative Path,Folder/ID\n"
# Slices from foot to head at z = -100, -98, ... mm.
AFFINE = np.array([[-1.0, 0, 0, 8], [0, -1.0, 0, 8], [0, 0, 2.0, -100], [0, 0, 0, 1]])


def write_series(folder: Path, slices: int, seed: int) -> None:
    """A series of noise, InstanceNumber 1 at the head."""
    hu = np.random.default_rng(seed).integers(-1000, 200, (slices, 16, 16)).astype(np.int16)
    write_dicom_series(hu, AFFINE, folder, folder.name)


def write_labels(
    folder: Path, slices: NDArray[np.float64], lobes: NDArray[np.float64], index: Mapping[str, int]
) -> None:
    np.save(folder / "Slice-level-labels.npy", slices)
    np.save(folder / "Lobe-level-labels.npy", lobes)
    (folder / "Index.csv").write_text(INDEX_HEAD + "".join(f"{row},x,./x/,{name}\n" for name, row in index.items()))


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The published layout; P001 (5 slices) and cap001 (4 slices) have labels, in rows 0 and 2 of three."""
    folder = tmp_path / "md"
    for group, name, count in (
        ("COVID-19 subjects", "P001", 5),
        ("COVID-19 subjects", "P002", 3),
        ("CAP subjects", "cap001", 4),
        ("Normal subjects", "normal001", 4),
    ):
        write_series(folder / group / name, count, count)
    slices, lobes = np.zeros((3, 6)), np.zeros((3, 6, 5))
    slices[0, :2] = 1
    lobes[0, 1, LOBES.index("RML")] = 1
    slices[2, 3] = 1
    write_labels(folder, slices, lobes, {"P001": 0, "cap001": 2})
    return folder


def test_the_index_may_be_saved_again_by_other_programs(source: Path, tmp_path: Path) -> None:
    first = import_covid_ct_md(source, tmp_path / "a").with_name("slices.csv").read_text()
    index = (source / "Index.csv").read_text()
    (source / "Index.csv").write_text(index.replace(",", ";").replace("0;", "0,0;").replace("2;", "2.0;"), "utf-8-sig")
    assert import_covid_ct_md(source, tmp_path / "b").with_name("slices.csv").read_text() == first


def test_labels_run_from_head_to_foot(source: Path, tmp_path: Path) -> None:
    path = import_covid_ct_md(source, tmp_path / "out")
    rows = {row.scan_id: row for row in read_cohort(path).rows}
    assert list(rows) == ["P001", "P002", "cap001", "normal001"]
    assert {(row.site, row.has_consolidation) for row in rows.values()} == {("covid_ct_md", None)}
    records = read_table(path.parent / "slices.csv")
    of_p001 = [record for record in records if record["scan_id"] == "P001"]
    # Labels 0 and 1 belong to instances 1 and 2, the two slices at the head.
    assert [(r["z_index"], r["instance_number"], r["z_mm"], r["slice_infected"], r["RML"]) for r in of_p001] == [
        ("0", "5", "-100.0", "0", "0"),
        ("1", "4", "-98.0", "0", "0"),
        ("2", "3", "-96.0", "0", "0"),
        ("3", "2", "-94.0", "1", "1"),
        ("4", "1", "-92.0", "1", "0"),
    ]
    assert [r["slice_infected"] for r in records if r["scan_id"] == "cap001"] == ["1", "0", "0", "0"]
    assert {r["slice_infected"] + r["LLL"] for r in records if r["scan_id"] in ("P002", "normal001")} == {""}


def test_z_index_is_the_canonical_one(source: Path, tmp_path: Path) -> None:
    path = import_covid_ct_md(source, tmp_path / "out")
    scan = read_scan(read_cohort(path).rows[0].image)
    for record in read_table(path.parent / "slices.csv")[:5]:
        index = int(record["z_index"])
        assert scan.affine[2] @ [0, 0, index, 1] == pytest.approx(float(record["z_mm"]))
        file = next((source / "COVID-19 subjects" / "P001").glob(f"*{int(record['instance_number']):04d}.dcm"))
        np.testing.assert_array_equal(scan.hu[index], pydicom.dcmread(file).pixel_array.astype(int) - 1024)


def test_subjects_tell_the_diagnosis(source: Path, tmp_path: Path) -> None:
    path = import_covid_ct_md(source, tmp_path / "out")
    records = [(r["scan_id"], r["diagnosis"], r["labelled"]) for r in read_table(path.parent / "subjects.csv")]
    assert records == [
        ("P001", "COVID-19", "1"),
        ("P002", "COVID-19", "0"),
        ("cap001", "community-acquired pneumonia", "1"),
        ("normal001", "normal", "0"),
    ]


def test_other_spellings_and_the_updated_labels(source: Path, tmp_path: Path) -> None:
    (source / "Sample data").mkdir()
    for old, new in (
        ("COVID-19 subjects", "Covid-19 Cases"),
        ("CAP subjects", "Cap Cases"),
        ("Normal subjects", "NORMAL"),
    ):
        (source / old).rename(source / "Sample data" / new)
    slices = np.load(source / "Slice-level-labels.npy")
    slices[0] = 0
    np.save(source / "Slice-level-labels-updated-1.npy", slices)
    (source / "Lobe-level-labels.npy").rename(source / "lobe_level_labels.npy")
    path = import_covid_ct_md(source, tmp_path / "out")
    records = read_table(path.parent / "slices.csv")
    assert {r["slice_infected"] for r in records if r["scan_id"] == "P001"} == {"0"}
    assert len(read_cohort(path).rows) == 4


def test_slices_that_cannot_be_matched_are_left_out_and_listed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    covid = source / "COVID-19 subjects"
    write_series(source / "other", 2, 9)
    (source / "other" / "IM0001.dcm").rename(covid / "P002" / "another.dcm")
    for number, file in enumerate(sorted((covid / "P001").iterdir()), start=1):
        dataset = pydicom.dcmread(file)
        dataset.InstanceNumber = 6 - number
        dataset.save_as(file)
    (covid / "notes").mkdir()
    assert main(["--folder", str(source), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "InstanceNumber is 1 at the foot and 5 at the head" in shown
    assert "P002: holds 2 series with 4 slices" in shown
    names = [record["name"] for record in read_table(tmp_path / "out" / "left_out.csv")]
    assert names == ["the slices of P001", "the slices of P002", "COVID-19 subjects/notes"]
    assert {r["scan_id"] for r in read_table(tmp_path / "out" / "slices.csv")} == {"cap001", "normal001"}
    assert len(read_cohort(tmp_path / "out" / "cohort.csv").rows) == 4


def test_another_layout_is_refused(source: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(ValueError, match=match):
            import_covid_ct_md(source, tmp_path / "out")

    with pytest.raises(ValueError, match="no such folder"):
        import_covid_ct_md(tmp_path / "none", tmp_path / "out")
    write_labels(source, np.zeros((3, 6)), np.zeros((3, 6, 5)), {"P001": 3})
    refused("'Label Index' below 3")
    write_labels(source, np.zeros((3, 6)), np.zeros((3, 5, 5)), {"P001": 0})
    refused("expected one set")
    write_labels(source, np.full((3, 6), 2), np.zeros((3, 6, 5)), {"P001": 0})
    refused("no values but 0 and 1")
    (source / "Slice-level-labels.npy").write_bytes(b"broken")
    refused("not a readable array of labels")
    (source / "Slice-level-labels.npy").unlink()
    refused("there is no Slice-level-labels.npy")
    write_labels(source, np.zeros((3, 6)), np.zeros((3, 6, 5)), {"P001": 0})
    for folder in ("COVID-19 subjects", "CAP subjects", "Normal subjects"):
        (source / folder).rename(source / f"all {folder}")
    refused("holds no folders 'COVID-19 subjects'")
    assert not (tmp_path / "out").exists()


@needs_shared
@pytest.mark.shared_data
def test_the_real_series_agrees_with_the_published_order(tmp_path: Path) -> None:
    """P002's 20 original slices against labels that were put in order independently."""
    expected = read_table(SHARED / "P002_slices.csv")
    slices, lobes = np.zeros((2, len(expected))), np.zeros((2, len(expected), 5))
    for record in expected:
        slices[1, int(record["InstanceNumber"]) - 1] = int(record["slice_infected"])
        lobes[1, int(record["InstanceNumber"]) - 1] = [int(record[lobe]) for lobe in LOBES]
    source = tmp_path / "md"
    (source / "COVID-19 subjects").mkdir(parents=True)
    (source / "COVID-19 subjects" / "P002").symlink_to(SHARED / "P002_dicom")
    write_labels(source, slices, lobes, {"P002": 1})
    path = import_covid_ct_md(source, tmp_path / "out")
    records = read_table(path.parent / "slices.csv")
    assert [int(record["z_index"]) for record in records] == list(range(20))
    offset = next(i for i, record in enumerate(expected) if record["InstanceNumber"] == records[0]["instance_number"])
    for ours, theirs in zip(records, expected[offset : offset + 20], strict=True):
        assert ours["instance_number"] == theirs["InstanceNumber"]
        assert float(ours["z_mm"]) == pytest.approx(float(theirs["z_mm"]), abs=0.05)
        assert [ours[name] for name in ("slice_infected", *LOBES)] == [theirs[n] for n in ("slice_infected", *LOBES)]
    assert {record["slice_infected"] for record in records} == {"0", "1"}
