import csv
from pathlib import Path

import numpy as np
import pytest
from tiny_chest import SHAPE, chest, save

from cohort.importers.mosmed import import_mosmed, main
from cohort.table import read_cohort
from ct.files.read import read_mask, read_scan

CLASSES = {"study_0001": "CT-0", "study_0255": "CT-1", "study_0256": "CT-1", "study_1110": "CT-4"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "COVID19_1110"
    for name, severity in CLASSES.items():
        save(chest()[0], folder / "studies" / severity / f"{name}.nii.gz")
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[4:6, 4:7, 2] = 1
    save(mask, folder / "masks" / "study_0255_mask.nii.gz")
    (folder / "dataset_registry.xlsx").write_bytes(b"")
    return folder


@pytest.mark.parametrize("level", [".", ".."])
def test_volumes_and_masks_are_named_where_they_are(
    source: Path, tmp_path: Path, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(source / level), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("4 scans of 4 patients (mosmed 4)")
    rows = read_cohort(tmp_path / "out" / "cohort.csv").rows
    assert [row.scan_id for row in rows] == list(CLASSES)
    assert [row.infection_mask is not None for row in rows] == [False, True, False, False]
    assert {row.has_consolidation for row in rows} == {None}
    scan = read_scan(rows[1].image)
    assert rows[1].infection_mask is not None
    mask = read_mask(rows[1].infection_mask, scan)
    # The file's slices run down, the scan's up.
    assert mask.sum() == mask[0, 4:6, 4:7].sum() == 6


def test_subjects_tell_severity(source: Path, tmp_path: Path) -> None:
    path = import_mosmed(source, tmp_path / "out")
    assert sorted(file.name for file in path.parent.iterdir()) == ["cohort.csv", "subjects.csv"]
    with (path.parent / "subjects.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert {record["scan_id"]: record["severity_class"] for record in records} == CLASSES
    assert [record["diagnosis"] for record in records] == ["normal"] + 3 * ["viral pneumonia"]


def test_another_layout_is_refused(source: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(ValueError, match=match):
            import_mosmed(source, tmp_path / "out")

    save(chest()[1], source / "masks" / "study_0300_mask.nii.gz")
    refused("study_0300_mask.nii.gz: there is no study for this mask")
    (source / "masks" / "study_0300_mask.nii.gz").unlink()
    save(chest()[0], source / "studies" / "CT-2" / "study_0001.nii.gz")
    refused("has the same name as")
    (source / "studies" / "CT-2" / "study_0001.nii.gz").unlink()
    save(chest()[0], source / "studies" / "study_0002.nii.gz")
    refused("lies in none of the folders CT-0 .. CT-4")
    (source / "masks").rename(source / "other")
    refused("there is no folder 'masks'")
    assert not (tmp_path / "out").exists()
