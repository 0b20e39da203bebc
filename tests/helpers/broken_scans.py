"""Broken scans that the gate must refuse, each with a part of the reason."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from body_parts import head_ct
from dicom_harness import edit
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ct.files.dicom.export import write_dicom_series
from ct.files.write import write_scan_nifti
from phantom.grid import Frame
from phantom.write_phantom import make_phantom


def phantom_series(folder: Path, seed: int = 0) -> Path:
    phantom = make_phantom(seed, "B", positive=False, size=32, slices=10)
    write_dicom_series(phantom.hu, Frame(phantom.hu.shape, phantom.spacing_mm).affine, folder)
    return folder


def phantom_nifti(
    path: Path, change: Callable[[NDArray[np.int16]], NDArray[np.int16]] = lambda hu: hu, seed: int = 1
) -> Path:
    phantom = make_phantom(seed, "A", positive=False, size=32, slices=10)
    write_scan_nifti(change(phantom.hu), Frame(phantom.hu.shape, phantom.spacing_mm).affine, path)
    return path


def broken_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write twelve broken scans; return the path of each, and a part of the reason for refusing it."""
    inputs: dict[str, tuple[Path, str]] = {}

    def series(name: str, change: Callable[[Dataset], object], reason: str, only: int | None = None) -> None:
        edit(phantom_series(folder / name), change, only)
        inputs[name] = folder / name, reason

    series("mr", lambda d: setattr(d, "Modality", "MR"), "MR")
    series("localizer", lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer")
    series("no_rescale", lambda d: delattr(d, "RescaleIntercept"), "Rescale")
    series("tilted", lambda d: setattr(d, "ImagePositionPatient", tilted(d)), "tilt")
    phantom_series(folder / "gap")
    sorted((folder / "gap").glob("*.dcm"))[4].unlink()
    inputs["gap"] = folder / "gap", "missing"
    (folder / "empty").mkdir()
    inputs["empty"] = folder / "empty", "no DICOM file"
    whole = phantom_nifti(folder / "cut.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    inputs["truncated"] = folder / "cut.nii.gz", "cut"
    grey = phantom_nifti(folder / "grey.nii", lambda hu: ((hu.clip(-1024, 400) + 1024) / 5.6).astype(np.int16))
    inputs["grey"] = grey, "grey_low_hu"
    nan = nibabel.Nifti1Image.from_filename(phantom_nifti(folder / "whole.nii"))
    values = nan.get_fdata()
    values[2, 3, 4] = np.nan
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), nan.affine), folder / "nan.nii")
    inputs["nan"] = folder / "nan.nii", "NaN"
    inputs["constant"] = phantom_nifti(folder / "constant.nii", lambda hu: np.full_like(hu, -1000)), "constant"
    inputs["pixdim"] = zero_pixdim(phantom_nifti(folder / "pixdim.nii.gz")), "pixdim"
    hu, spacing = head_ct()
    write_scan_nifti(hu, Frame(hu.shape, spacing).affine, folder / "head.nii.gz")
    inputs["head"] = folder / "head.nii.gz", "chest"
    return inputs


def tilted(dataset: Dataset) -> list[float]:
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    return [x, y + 0.2 * z, z]


def zero_pixdim(path: Path) -> Path:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:92] = bytes(12)  # pixdim[1..3] of a NIfTI-1 header
    path.write_bytes(gzip.compress(bytes(raw)))
    return path
