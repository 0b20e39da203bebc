"""Three small scans to prepare: NIfTI, DICOM and slice images, one file of each kind of mask, and a report."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ct.files.read import read_scan
from ct.files.write import write_dicom_series, write_scan_nifti
from ct.scan import Affine, Scan

SPACING = (2.0, 1.5, 1.5)


def affine() -> Affine:
    return np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])


def chest(shape: tuple[int, int, int] = (25, 70, 90)) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return HU and masks: a body with two lungs and a ball of infection with a denser core."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[:, 8:62, 6:84] = 40
    lung = np.zeros(shape, dtype=np.uint8)
    lung[:, 15:55, 12:38] = lung[:, 15:55, 50:78] = 1
    hu[lung == 1] = -850
    distance = np.sqrt(((z - 12) * 2.0) ** 2 + ((y - 35) * 1.5) ** 2 + ((x - 64) * 1.5) ** 2)
    codes = np.where(distance < 9, 10, np.where(distance < 17, 5, 0)).astype(np.uint8)
    hu[codes == 5], hu[codes == 10] = -500, 0
    return hu, lung, codes


def write_scans(folder: Path) -> Path:
    """Write the scans a, b and c and their cohort.csv."""
    hu, lung, codes = chest()
    write_scan_nifti(hu, affine(), folder / "a.nii.gz", "RAS")
    write_scan_nifti(lung, affine(), folder / "a_lung.nii.gz", "LPS")
    write_scan_nifti(codes, affine(), folder / "a_codes.nii.gz", "SAR")
    write_dicom_series(hu, affine(), folder / "b")
    write_scan_nifti((codes > 0).astype(np.uint8), affine(), folder / "b_infection.nii.gz")
    (folder / "b.txt").write_text("Consolidation in the left lung.", encoding="utf-8")
    for name in ("ct", "lungs", "covid"):
        (folder / "c" / name).mkdir(parents=True)
    for z in (3, 12):
        grey = np.clip((hu[z].astype(int) + 1000) / 1200 * 255, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / "c" / "ct" / f"{z:02d}.png")
        Image.fromarray(lung[z] * 255).save(folder / "c" / "lungs" / f"{z:02d}.png")
        Image.fromarray((codes[z] > 0).astype(np.uint8) * 255).save(folder / "c" / "covid" / f"{z:02d}.png")
    path = folder / "cohort.csv"
    path.write_text(
        "scan_id,patient_id,site,image,lung_mask,infection_mask,pattern_mask,report,has_consolidation,split,"
        "grey_low_hu,grey_high_hu\n"
        "a,Miller,A,a.nii.gz,a_lung.nii.gz,,a_codes.nii.gz,,0,train,,\n"
        "b,Smith,B,b,,b_infection.nii.gz,,b.txt,,test,,\n"
        "c,Jones,C,c/ct,c/lungs,c/covid,,,,val,-1000,200\n",
        encoding="utf-8",
    )
    return path


def index_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "index.csv").open(encoding="utf-8", newline="") as file:
        return {row["scan_id"]: row for row in csv.DictReader(file)}


def verdicts_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        return {row["scan_id"]: row for row in csv.DictReader(file)}


def break_a_and_b(tmp_path: Path) -> None:
    """Make the lung mask of scan a unreadable and move the infection mask of scan b."""
    (tmp_path / "a_lung.nii.gz").write_bytes(b"broken")
    image = nibabel.Nifti1Image.from_filename(tmp_path / "b_infection.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 40
    nibabel.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(tmp_path / "b_infection.nii.gz")


def dies(scan_id: str, how: Callable[[], object]) -> Callable[..., Scan]:
    """Return a `read_scan` that ends its process when it comes to a scan."""

    def read(path: Path, name: str, *more: Any) -> Scan:
        if name == scan_id:
            how()
        return read_scan(path, name, *more)

    return read
