"""The gate as a hospital meets it: good scans of every kind and broken ones in one cohort, prepared in one run."""

import csv
import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from body_parts import head_ct
from dicom_harness import edit, enhance

from ct.phantom import make_phantom, write_cohort
from ct.phantom_volume import Frame
from ct.prepare import main
from ct.write import write_scan_nifti
from ct.write_dicom import write_dicom_series

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the real scans in {SHARED}")


def phantom_series(folder: Path, seed: int = 0) -> Path:
    phantom = make_phantom(seed, "B", positive=False, size=32, slices=10)
    write_dicom_series(phantom.hu, Frame(phantom.hu.shape, phantom.spacing_mm).affine, folder)
    return folder


def phantom_nifti(path: Path, change=lambda hu: hu, seed: int = 1) -> Path:
    phantom = make_phantom(seed, "A", positive=False, size=32, slices=10)
    write_scan_nifti(change(phantom.hu), Frame(phantom.hu.shape, phantom.spacing_mm).affine, path)
    return path


def broken_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Twelve broken scans, and a part of the reason that each must be refused for."""
    found: dict[str, tuple[Path, str]] = {}

    def series(name: str, change, reason: str, only: int | None = None) -> None:
        edit(phantom_series(folder / name), change, only)
        found[name] = folder / name, reason

    series("mr", lambda d: setattr(d, "Modality", "MR"), "MR")
    series("localizer", lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer")
    series("no_rescale", lambda d: delattr(d, "RescaleIntercept"), "Rescale")
    series("tilted", lambda d: setattr(d, "ImagePositionPatient", tilted(d)), "tilt")
    phantom_series(folder / "gap")
    sorted((folder / "gap").glob("*.dcm"))[4].unlink()
    found["gap"] = folder / "gap", "missing"
    (folder / "empty").mkdir()
    found["empty"] = folder / "empty", "no DICOM file"
    whole = phantom_nifti(folder / "cut.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    found["truncated"] = folder / "cut.nii.gz", "cut"
    grey = phantom_nifti(folder / "grey.nii", lambda hu: ((hu.clip(-1024, 400) + 1024) / 5.6).astype(np.int16))
    found["grey"] = grey, "grey_low_hu"
    nan = nibabel.load(phantom_nifti(folder / "whole.nii"))
    values = nan.get_fdata()
    values[2, 3, 4] = np.nan
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), nan.affine), folder / "nan.nii")
    found["nan"] = folder / "nan.nii", "NaN"
    found["constant"] = phantom_nifti(folder / "constant.nii", lambda hu: np.full_like(hu, -1000)), "constant"
    found["pixdim"] = zero_pixdim(phantom_nifti(folder / "pixdim.nii.gz")), "pixdim"
    hu, spacing = head_ct()
    write_scan_nifti(hu, Frame(hu.shape, spacing).affine, folder / "head.nii.gz")
    found["head"] = folder / "head.nii.gz", "chest"
    return found


def tilted(dataset) -> list[float]:
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    return [x, y + 0.2 * z, z]


def zero_pixdim(path: Path) -> Path:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:92] = bytes(12)  # pixdim[1..3] of a NIfTI-1 header
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


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


def check(tmp_path: Path, good: dict[str, Path], broken: dict[str, tuple[Path, str]], capsys) -> None:
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


def test_good_phantoms_come_in_and_broken_ones_are_refused_for_their_reason(tmp_path: Path, capsys) -> None:
    check(tmp_path, good_inputs(tmp_path), broken_inputs(tmp_path), capsys)


@needs_shared
@pytest.mark.shared_data
def test_real_scans_phantoms_and_broken_inputs_in_one_run(tmp_path: Path, capsys) -> None:
    real = {
        "cip_dicom": SHARED / "cip_ct64" / "ct-64Dicom",
        "cip_nrrd": SHARED / "cip_ct64" / "ct-64.nrrd",
        "P002": SHARED / "covidctmd_dev" / "P002_2x2x4mm.nii.gz",
        "P002_dicom": SHARED / "covidctmd_dev" / "P002_dicom",
        "normal002": SHARED / "covidctmd_dev" / "normal002_2x2x4mm.nii.gz",
        "ibsi": SHARED / "ibsi_lung_ct" / "phantom.nii.gz",
    }
    broken = broken_inputs(tmp_path) | {"lungmask_dicom": (SHARED / "lungmask_dicom" / "0.dcm", "Modality")}
    check(tmp_path, good_inputs(tmp_path) | real, broken, capsys)
