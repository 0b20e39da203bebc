"""Files of masks on the scan's own grid, and of scans as NIfTI in any orientation or as a DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from ct.files.dicom.export import write_dicom_series
from ct.refusal import Refusal
from ct.scan import Affine, Scan, grid_facing, to_source

__all__ = ["write_dicom_series", "write_mask", "write_scan_nifti"]


def write_mask(
    mask_zyx: npt.NDArray[np.integer] | npt.NDArray[np.bool_], scan: Scan, path: str | Path, note: str = ""
) -> None:
    """Write a mask as NIfTI (uint8) on the grid of the scan's own file.

    Args:
        mask_zyx: (Z, Y, X) on the scan's canonical grid, values 0..255.
        scan: The scan.
        path: Where to write; .nii or .nii.gz.
        note: For the header's description, 79 characters at most.

    Raises:
        ValueError: The shape is not the scan's, or a value does not fit.
    """
    if mask_zyx.size and (mask_zyx.min() < 0 or mask_zyx.max() > 255):
        raise Refusal(
            "{path}: the mask has values {lowest}..{highest}; expected 0..255",
            path=path,
            lowest=mask_zyx.min(),
            highest=mask_zyx.max(),
        )
    _save_nifti(to_source(mask_zyx.astype(np.uint8), scan.source), scan.source.affine, Path(path), note)


def write_scan_nifti(
    array_zyx: npt.NDArray[np.integer], affine: Affine, path: str | Path, axcodes: str = "LPS"
) -> None:
    """Write a canonical array as NIfTI, with the file's axes in any orientation.

    Args:
        array_zyx: (Z, Y, X) int8, uint8 or int16.
        affine: (4, 4) of canonical (x, y, z).
        path: Where to write; .nii or .nii.gz.
        axcodes: Where the file's axes i, j, k point to, for example "RAS" or "SLP".
    """
    grid = grid_facing(array_zyx.shape, affine, axcodes)
    _save_nifti(to_source(array_zyx, grid), grid.affine, Path(path))


def _save_nifti(array_ijk: npt.NDArray[np.integer], affine: Affine, path: Path, note: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti: Any = nibabel.Nifti1Image
    image = nifti(array_ijk, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = note.encode()
    image.to_filename(path)
