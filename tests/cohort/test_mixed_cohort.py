"""The gate as a hospital meets it: good scans of every kind and broken ones in one cohort, prepared in one run."""

import csv
import shutil
from pathlib import Path

import pytest
from broken_scans import broken_inputs, phantom_series
from dicom_harness import enhance
from places import SHARED_DATA

from cohort.prepare.__main__ import main
from phantom.write_phantom import write_cohort

needs_shared = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"needs the real scans in {SHARED_DATA}")


def good_inputs(folder: Path) -> dict[str, Path]:
    shutil.copytree(phantom_series(folder / "series", 5), folder / "nested" / "study" / "1")
    enhanced = enhance(sorted(phantom_series(folder / "plain", 6).glob("*.dcm")), folder / "enhanced.dcm")
    tiny = write_cohort(folder / "tiny", seed=4, tiny=True, jobs=1).parent / "images"
    return {"nested": folder / "nested", "enhanced": enhanced, "C008": tiny / "C008.nii.gz", "B007": tiny / "B007"}


def write_table(path: Path, images: dict[str, Path]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scan_id", "patient_id", "site", "image", "split"])
        splits = ["train", "val", "test"]
        for number, (scan_id, image) in enumerate(images.items()):
            # The same chest in two formats is one patient.
            patient = {"cip_dicom": "cip", "cip_nrrd": "cip", "P002_dicom": "P002"}.get(scan_id, scan_id)
            split = "train" if patient in ("cip", "P002") else splits[number % 3]
            writer.writerow([scan_id, patient, "mixed", image, split])
    return path


def prepare(tmp_path: Path, images: dict[str, Path]) -> dict[str, dict[str, str]]:
    table = write_table(tmp_path / "cohort.csv", images)
    assert main(["--cohort", str(table), "--out", str(tmp_path / "out"), "--size", "32", "--jobs", "2"]) == 0
    with (tmp_path / "out" / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        return {row["scan_id"]: row for row in csv.DictReader(file)}


def check(
    tmp_path: Path, good: dict[str, Path], broken: dict[str, tuple[Path, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = prepare(tmp_path, good | {name: path for name, (path, _) in broken.items()})
    assert set(verdicts) == set(good) | set(broken)  # no scan disappears
    assert {name: verdicts[name]["reasons"] for name in good if verdicts[name]["verdict"] == "refused"} == {}
    for name, (path, reason) in broken.items():
        assert verdicts[name]["verdict"] == "refused", name
        assert reason.lower() in verdicts[name]["reasons"].lower(), name
        assert path.name in verdicts[name]["reasons"], name
        assert "\n" not in verdicts[name]["reasons"]
        assert "Traceback" not in verdicts[name]["reasons"]
        assert not (tmp_path / "out" / name).exists()
    with (tmp_path / "out" / "index.csv").open(newline="", encoding="utf-8") as file:
        assert {row["scan_id"] for row in csv.DictReader(file)} == set(good)
    shown = capsys.readouterr()
    assert f"{len(broken)} refused" in shown.out + shown.err


@pytest.mark.slow
def test_good_phantoms_come_in_and_broken_ones_are_refused_for_their_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path, good_inputs(tmp_path), broken_inputs(tmp_path), capsys)


@pytest.mark.slow
@needs_shared
@pytest.mark.shared_data
def test_real_scans_phantoms_and_broken_inputs_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = {
        "cip_dicom": SHARED_DATA / "cip_ct64" / "ct-64Dicom",
        "cip_nrrd": SHARED_DATA / "cip_ct64" / "ct-64.nrrd",
        "P002": SHARED_DATA / "covidctmd_dev" / "P002_2x2x4mm.nii.gz",
        "P002_dicom": SHARED_DATA / "covidctmd_dev" / "P002_dicom",
        "normal002": SHARED_DATA / "covidctmd_dev" / "normal002_2x2x4mm.nii.gz",
        "ibsi": SHARED_DATA / "ibsi_lung_ct" / "phantom.nii.gz",
    }
    broken = broken_inputs(tmp_path) | {"lungmask_dicom": (SHARED_DATA / "lungmask_dicom" / "0.dcm", "Modality")}
    check(tmp_path, good_inputs(tmp_path) | real, broken, capsys)
