"""NIfTI-1 and NIfTI-2, one file or a pair: stored voxels and affine; contradictory headers are refused."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from ct.files.archives import kind_of_start
from ct.files.volume_file import DAMAGE, MOST_BYTES_PER_BYTE, Layout, StoredVolume, first_line, read_voxels
from ct.refusal import Refusal, Sentence, Word
from ct.scan import OBLIQUE_TOLERANCE, Affine

Shape = tuple[int, int, int]
HEADER_BYTES = 348  # of NIfTI-1 and of Analyze 7.5, where they are the first number too
PARTNER = {".hdr": ".img", ".img": ".hdr", ".HDR": ".IMG", ".IMG": ".HDR"}


def read_nifti(path: Path) -> StoredVolume:
    """Read a NIfTI volume.

    Args:
        path: .nii, or either file of a pair (.hdr and .img), each also with .gz; any byte order, NIfTI-1 or NIfTI-2.

    Returns:
        The voxels as stored, with their scaling and the affine of the sform (or, without one, of the qform).

    Raises:
        ValueError: Damaged; not one volume of real numbers; or its place in the patient is missing, or stated twice in
            different ways.
    """
    encoding = _encoding(path)
    header_file, voxel_file = nifti_files(path)
    for file in (header_file, voxel_file):
        if not file.is_file():
            raise Refusal(
                "{path}: is half of a pair: there is no {name!r} beside it; keep both files together",
                path=path,
                name=file.name,
            )
    try:
        with _opened(header_file, encoding) as stream:
            header = _read_header(path, stream, header_file == voxel_file)
        shape, dtype = _layout(path, header)
        affine = _affine(path, header, shape)
        slope, intercept = header.get_slope_inter()
        size = voxel_file.stat().st_size
        least = 0 if header_file != voxel_file else int(header["sizeof_hdr"]) + 4
        offset = _offset(path, header, least, size * MOST_BYTES_PER_BYTE[encoding])
        with _opened(voxel_file, encoding) as stream:
            stream.seek(offset)
            left = size - (0 if encoding == "gzip" else offset)
            values = read_voxels(stream, shape, dtype, left, encoding, voxel_file)
    except (*DAMAGE, HeaderDataError) as error:
        raise Refusal(
            "{path}: not a readable NIfTI file ({why}); export it again", path=path, why=first_line(error)
        ) from error
    # A slope of 0 or NaN stands for "not scaled".
    scaled = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    return StoredVolume(values, affine, *scaled)


def nifti_layout(path: Path) -> Layout:
    """Read the header alone; raises as `read_nifti` does."""
    header_file, voxel_file = nifti_files(path)
    with _opened(header_file, _encoding(path)) as stream:
        header = _read_header(path, stream, header_file == voxel_file)
    shape, dtype = _layout(path, header)
    return Layout(shape, dtype.itemsize, _affine(path, header, shape))


def nifti_files(path: Path) -> tuple[Path, Path]:
    """Name the file of the header and that of the voxels; the same unless it is a pair."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix not in PARTNER:
        return path, path
    packed = path.name[len(plain.name) :]
    partner = plain.with_name(plain.stem + PARTNER[plain.suffix] + packed)
    return (path, partner) if plain.suffix.lower() == ".hdr" else (partner, path)


def _encoding(path: Path) -> str:
    return "gzip" if path.name.lower().endswith(".gz") else "raw"


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[BinaryIO]:
    with path.open("rb") as packed:
        yield cast(BinaryIO, gzip.GzipFile(fileobj=packed)) if encoding == "gzip" else packed


def _read_header(path: Path, stream: BinaryIO, single: bool) -> Any:
    start = stream.read(540)
    first, second = (b"n+1\0", b"n+2\0") if single else (b"ni1\0", b"ni2\0")
    # The library's own loading replaces impossible voxel sizes by 1 mm, so the header is read as stored.
    if start[344:348] == first:
        return cast(Any, nibabel.Nifti1Header)(start[:HEADER_BYTES], check=False)
    if start[4:8] == second and len(start) == 540:
        return cast(Any, nibabel.Nifti2Header)(start, check=False)
    if not single and HEADER_BYTES in (int.from_bytes(start[:4], order) for order in ("little", "big")):
        raise Refusal(
            "{path}: the header is Analyze 7.5, which does not say where left and right are; expected NIfTI; "
            "convert it where its orientation is known",
            path=path,
        )
    why = f"no signature of {'a single-file NIfTI' if single else 'a NIfTI pair'} in its header"
    if packed := kind_of_start(start):
        why = f"it is packed ({packed}), which its name does not say"
    elif len(start) < HEADER_BYTES:
        why = f"its header has {len(start)} of {HEADER_BYTES} bytes; it is cut off or damaged"
    raise Refusal("{path}: not a readable NIfTI file ({why}); export it again", path=path, why=why)


def _layout(path: Path, header: Any) -> tuple[Shape, np.dtype[Any]]:
    """Return the shape and the number type of the voxels."""
    axes = int(header["dim"][0])
    shape = tuple(int(count) for count in header["dim"][1 : axes + 1])
    if not 3 <= axes <= 7 or any(count != 1 for count in shape[3:]) or min(shape) < 1:
        raise Refusal(
            "{path}: has {axes} axes of {shape} voxels; expected one volume with three axes",
            path=path,
            axes=axes,
            shape=shape,
        )
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype(np.void)
    if dtype.kind not in "iuf":
        kind = dtype if dtype.itemsize else Sentence("code {code}", code=int(header["datatype"]))
        raise Refusal("{path}: voxels are of type {kind}; expected real numbers", path=path, kind=kind)
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise Refusal(
            "{path}: voxels are {dtype} but have {bits} bits; the header is damaged",
            path=path,
            dtype=dtype,
            bits=int(header["bitpix"]),
        )
    return (shape[0], shape[1], shape[2]), dtype


def _offset(path: Path, header: Any, least: int, most: int) -> int:
    offset = float(header["vox_offset"])
    if not (least <= offset <= most and offset.is_integer()):
        raise Refusal(
            "{path}: vox_offset is {offset:g}; expected {least}..{most} bytes; export it again",
            path=path,
            offset=offset,
            least=least,
            most=most,
        )
    return int(offset)


def _affine(path: Path, header: Any, shape: Shape) -> Affine:
    sizes = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise Refusal(
            "{path}: pixdim gives voxel sizes {sizes}; expected three sizes above 0 mm", path=path, sizes=sizes.tolist()
        )
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        name = Word("meter") if unit == 1 else Word("micron") if unit == 3 else Sentence("unit {code}", code=unit)
        raise Refusal("{path}: lengths are in {name}; expected mm; export it with sizes in mm", path=path, name=name)
    sform = np.asarray(header.get_sform(), dtype=np.float64) if header["sform_code"] > 0 else None
    qform = _qform(path, header) if header["qform_code"] > 0 else None
    affine = qform if sform is None else sform
    if affine is None:
        raise Refusal(
            "{path}: has neither sform nor qform, so left and right are unknown; export it with an orientation",
            path=path,
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(lengths, sizes, rtol=OBLIQUE_TOLERANCE, atol=0):
        raise Refusal(
            "{path}: pixdim says {sizes} mm but the affine {lengths} mm; expected the same",
            path=path,
            sizes=sizes.tolist(),
            lengths=lengths.tolist(),
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
        raise Refusal(
            "{path}: the qform is impossible ({why}); export it again", path=path, why=first_line(error)
        ) from error


def _check_agreement(path: Path, sform: Affine, qform: Affine, sizes: npt.NDArray[np.float64], shape: Shape) -> None:
    """Refuse two geometries that differ by more than what noise in the direction cosines explains."""
    turn = float(np.abs((sform - qform)[:3, :3] / sizes).max())
    shift = float(np.abs(sform[:3, 3] - qform[:3, 3]).max())
    # Written this way round, NaN is refused as well.
    if not (turn <= 2 * OBLIQUE_TOLERANCE and shift <= 0.5 * sizes.min()):
        far = np.array([[0, 0, 0, 1], [*(count - 1 for count in shape), 1]], dtype=np.float64).T
        distance = float(np.abs((sform - qform) @ far).max())
        raise Refusal(
            "{path}: sform and qform place voxels up to {distance:.1f} mm apart; expected one geometry",
            path=path,
            distance=distance,
        )
