"""NIfTI-1 and NIfTI-2 files -> stored voxels and affine; a header that contradicts itself is refused, not corrected."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from ct.scan import OBLIQUE_TOLERANCE, Affine
from ct.volume_file import DAMAGE, MOST_BYTES_PER_BYTE, StoredVolume, first_line, read_voxels

Shape = tuple[int, int, int]


def read_nifti(path: Path) -> StoredVolume:
    """Read a single-file NIfTI volume.

    Args:
        path: .nii or .nii.gz, any byte order, NIfTI-1 or NIfTI-2.

    Returns:
        The voxels as stored, with their scaling and the affine of the sform (or, without one, of the qform).

    Raises:
        ValueError: Damaged; not one volume of real numbers; or its place in the patient is missing or told twice in
            different ways.
    """
    encoding = "gzip" if path.name.lower().endswith(".gz") else "raw"
    try:
        with path.open("rb") as packed:
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=packed)) if encoding == "gzip" else packed
            size = path.stat().st_size
            header = _read_header(path, stream)
            shape, dtype = _layout(path, header)
            affine = _affine(path, header, shape)
            slope, intercept = header.get_slope_inter()
            offset = _offset(path, header, size * MOST_BYTES_PER_BYTE[encoding])
            stream.seek(offset)
            values = read_voxels(stream, shape, dtype, size - (0 if encoding == "gzip" else offset), encoding, path)
    except (*DAMAGE, HeaderDataError) as error:
        raise ValueError(f"{path}: not a readable NIfTI file ({first_line(error)}); export it again") from error
    # A slope of 0 or NaN stands for "not scaled".
    scaled = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    return StoredVolume(values, affine, *scaled)


def _read_header(path: Path, stream: BinaryIO) -> Any:
    start = stream.read(540)
    # The library's own loading replaces impossible voxel sizes by 1 mm, so the header is taken as it is stored.
    if start[344:348] == b"n+1\0":
        return cast(Any, nibabel.Nifti1Header)(start[:348], check=False)
    if start[4:8] == b"n+2\0" and len(start) == 540:
        return cast(Any, nibabel.Nifti2Header)(start, check=False)
    raise ValueError(
        f"{path}: not a readable NIfTI file (no signature of a single-file NIfTI in its header); export it again"
    )


def _layout(path: Path, header: Any) -> tuple[Shape, np.dtype[Any]]:
    """Shape and number type of the voxels."""
    axes = int(header["dim"][0])
    shape = tuple(int(count) for count in header["dim"][1 : axes + 1])
    if not 3 <= axes <= 7 or any(count != 1 for count in shape[3:]) or min(shape) < 1:
        raise ValueError(f"{path}: has {axes} axes of {shape} voxels; expected one volume with three axes")
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype(np.void)
    if dtype.kind not in "iuf":
        kind = dtype.name if dtype.itemsize else f"code {header['datatype']}"
        raise ValueError(f"{path}: voxels are of type {kind}; expected real numbers")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise ValueError(f"{path}: voxels are {dtype.name} but have {header['bitpix']} bits; the header is damaged")
    return (shape[0], shape[1], shape[2]), dtype


def _offset(path: Path, header: Any, most: int) -> int:
    offset = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + 4
    if not (least <= offset <= most and offset.is_integer()):
        raise ValueError(f"{path}: vox_offset is {offset:g}; expected {least}..{most} bytes; export it again")
    return int(offset)


def _affine(path: Path, header: Any, shape: Shape) -> Affine:
    sizes = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise ValueError(f"{path}: pixdim gives voxel sizes {sizes.tolist()}; expected three sizes above 0 mm")
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        name = {1: "meter", 3: "micron"}.get(unit, f"unit {unit}")
        raise ValueError(f"{path}: lengths are in {name}; expected mm; export it with sizes in mm")
    sform = np.asarray(header.get_sform(), dtype=np.float64) if header["sform_code"] > 0 else None
    qform = _qform(path, header) if header["qform_code"] > 0 else None
    affine = qform if sform is None else sform
    if affine is None:
        raise ValueError(
            f"{path}: has neither sform nor qform, so left and right are unknown; export it with an orientation"
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(lengths, sizes, rtol=OBLIQUE_TOLERANCE, atol=0):
        raise ValueError(
            f"{path}: pixdim says {sizes.tolist()} mm but the affine {lengths.tolist()} mm; expected the same"
        )
    if sform is not None and qform is not None:
        _check_agreement(path, sform, qform, sizes, shape)
    return affine


def _qform(path: Path, header: Any) -> Affine:
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # the standard's reading of 0
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError) as error:
        raise ValueError(f"{path}: the qform is impossible ({first_line(error)}); export it again") from error


def _check_agreement(path: Path, sform: Affine, qform: Affine, sizes: npt.NDArray[np.float64], shape: Shape) -> None:
    """Refuse two geometries that differ by more than what noise in the direction cosines explains."""
    turn = float(np.abs((sform - qform)[:3, :3] / sizes).max())
    shift = float(np.abs(sform[:3, 3] - qform[:3, 3]).max())
    # Written this way round, NaN is refused as well.
    if not (turn <= 2 * OBLIQUE_TOLERANCE and shift <= 0.5 * sizes.min()):
        far = np.array([[0, 0, 0, 1], [*(count - 1 for count in shape), 1]], dtype=np.float64).T
        distance = float(np.abs((sform - qform) @ far).max())
        raise ValueError(f"{path}: sform and qform place voxels up to {distance:.1f} mm apart; expected one geometry")
