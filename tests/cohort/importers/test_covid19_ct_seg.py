import csv
from pathlib import Path

import numpy as np
import pytest
from tiny_chest import SHAPE, chest, save

from cohort.importers.covid19_ct_seg import import_covid19_ct_seg, main
from cohort.table import read_cohort
from ct.files.read import read_mask, read_scan
from ct.grey_window import AUTO

NAMES = ("coronacases_001", "radiopaedia_10_85902_1", "radiopaedia_10_85902_3", "radiopaedia_29_86490_1")
LUNGS = chest()[1]
INFECTION = np.zeros(SHAPE, dtype=np.uint8)
INFECTION[4:7, 4:6, 1] = 1


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Zenodo's layout: coronacases in HU, radiopaedia in 0..255, shown between -1250 and 250 HU."""
    folder = tmp_path / "covid"
    for name in NAMES:
        hu, lungs = chest()
        hu[INFECTION > 0] = -300
        window = np.rint((np.clip(hu.astype(float), -1250, 250) + 1250) * 255 / 1500).astype(np.int16)
        save(hu if name.startswith("corona") else window, folder / "COVID-19-CT-Seg_20cases" / f"{name}.nii.gz")
        save(lungs, folder / "Lung_Mask" / f"{name}.nii.gz")
        save(INFECTION, folder / "Infection_Mask" / f"{name}.nii.gz")
        both = np.where(INFECTION > 0, np.uint8(3), lungs)
        save(both, folder / "Lung_and_Infection_Mask" / f"{name}.nii.gz")
    return folder


def test_windowed_volumes_are_left_out_and_listed_unless_their_hu_are_declared(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--folder", str(source), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].strip() for line in shown[:3]] == list(NAMES[1:])
    assert all("display window" in line for line in shown[:3])
    assert shown[3] == "1 scans of 1 patients (coronacases 1)"
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        assert [record["name"] for record in csv.DictReader(file)] == list(NAMES[1:])
    assert main([*command, "--grey-low-hu=-1250", "--grey-high-hu=250"]) == 0
    assert "4 scans of 3 patients (coronacases 1, radiopaedia 3)" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cohort.csv"]
    assert main([*command, "--grey-low-hu=auto", "--grey-high-hu=auto"]) == 0
    rows = read_cohort(tmp_path / "out" / "cohort.csv").rows
    assert [row.grey_hu for row in rows] == [None, AUTO, AUTO, AUTO]
    capsys.readouterr()
    assert main([*command, "--grey-low-hu=-1250"]) == 2
    assert "expected both or neither" in capsys.readouterr().err


def test_patients_sites_and_masks(source: Path, tmp_path: Path) -> None:
    rows = read_cohort(import_covid19_ct_seg(source, tmp_path / "out", -1250, 250)).rows
    assert [(row.scan_id, row.site, row.patient_id) for row in rows] == [
        ("coronacases_001", "coronacases", "coronacases_001"),
        ("radiopaedia_10_85902_1", "radiopaedia", "radiopaedia_10"),
        ("radiopaedia_10_85902_3", "radiopaedia", "radiopaedia_10"),
        ("radiopaedia_29_86490_1", "radiopaedia", "radiopaedia_29"),
    ]
    assert [row.grey_low_hu for row in rows] == [None, -1250, -1250, -1250]
    assert {row.has_consolidation for row in rows} == {None}
    assert rows[0].image.resolve() == (source / "COVID-19-CT-Seg_20cases" / "coronacases_001.nii.gz").resolve()
    scan = read_scan(rows[0].image)
    assert rows[0].infection_mask is not None
    assert rows[0].lung_mask is not None
    assert (read_mask(rows[0].infection_mask, scan) != 0).sum() == INFECTION.sum()
    assert (read_mask(rows[0].lung_mask, scan) != 0).sum() == (LUNGS > 0).sum()


def test_both_kinds_of_values_become_the_same_hu(source: Path, tmp_path: Path) -> None:
    rows = read_cohort(import_covid19_ct_seg(source, tmp_path / "out", -1250, 250)).rows
    plain = read_scan(rows[0].image).hu
    declared = read_scan(rows[1].image, grey_hu=rows[1].grey_hu).hu
    # Half a grey step and the rounding of HU.
    assert np.abs(plain.astype(int) - declared).max() <= 1500 / 255 / 2 + 0.5


def test_infection_can_be_taken_from_the_common_mask(source: Path, tmp_path: Path) -> None:
    (source / "Infection_Mask").rename(source / "elsewhere")
    rows = read_cohort(import_covid19_ct_seg(source, tmp_path / "out", -1250, 250)).rows
    scan = read_scan(rows[0].image)
    assert rows[0].infection_mask is not None
    assert rows[0].lung_mask is not None
    assert rows[0].infection_mask.resolve().parent == (tmp_path / "out" / "masks").resolve()
    np.testing.assert_array_equal(
        read_mask(rows[0].infection_mask, scan), read_mask(source / "elsewhere" / f"{NAMES[0]}.nii.gz", scan)
    )
    assert (read_mask(rows[0].lung_mask, scan) != 0).sum() == (LUNGS > 0).sum()


def test_kaggles_names_are_known(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "kaggle"
    for folder, name in (("COVID-19-CT-Seg_20cases", "ct_scans"), ("Lung_Mask", "lung_mask")):
        (copy / name).mkdir(parents=True)
        (source / folder).rename(copy / name)
    (source / "Infection_Mask").rename(copy / "infection_mask")
    scans = copy / "ct_scans"
    (scans / "coronacases_001.nii.gz").rename(scans / "coronacases_org_case001.nii.gz")
    kaggle = "radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii.gz"
    (scans / kaggle).mkdir()
    (scans / "radiopaedia_10_85902_1.nii.gz").rename(scans / kaggle / kaggle)
    rows = read_cohort(import_covid19_ct_seg(copy, tmp_path / "out", -1250, 250)).rows
    assert [row.scan_id for row in rows] == list(NAMES)


def test_another_layout_is_refused(source: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(ValueError, match=match):
            import_covid19_ct_seg(source, tmp_path / "out")

    (source / "Lung_Mask" / "coronacases_001.nii.gz").rename(source / "coronacases_001.nii.gz")
    refused("no mask for the scan 'coronacases_001'")
    (source / "coronacases_001.nii.gz").rename(source / "Lung_Mask" / "coronacases_org_001.nii.gz")
    save(INFECTION, source / "Lung_Mask" / "coronacases_001.nii.gz")
    refused("is the same scan as")
    save(INFECTION, source / "COVID-19-CT-Seg_20cases" / "another.nii.gz")
    refused("another.nii.gz: has another name")
    (source / "COVID-19-CT-Seg_20cases").rename(source / "scans")
    refused("there is no folder 'COVID-19-CT-Seg_20cases' or 'ct_scans'")
    assert not (tmp_path / "out").exists()
