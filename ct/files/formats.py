"""Formats of volume files: the suffixes of each, and the functions that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct.files.metaimage import METAIMAGE
from ct.files.nifti import nifti_files, nifti_layout, read_nifti
from ct.files.nrrd import NRRD
from ct.files.volume_file import Layout, StoredVolume


def _pair_voxels(path: Path) -> Path | None:
    header, voxels = nifti_files(path)
    return None if header == voxels else voxels


@dataclass(frozen=True)
class VolumeFormat:
    """A format of volume files.

    Attributes:
        suffixes: Suffixes of its files, in lower case.
        read: Reads a volume; raises a ValueError if it cannot.
        layout: Reads the header alone.
        voxels_apart: Returns the file that a header names for its voxels, None where they are in the file itself;
            raises a ValueError if there is no such header.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], StoredVolume]
    layout: Callable[[Path], Layout]
    voxels_apart: Callable[[Path], Path | None]


NIFTI_SUFFIXES = (".nii.gz", ".nii")
# DICOM files may have the suffix of a pair's voxels, too: only a header beside them makes them a pair.
PAIR_HEADERS, PAIR_VOXELS = (".hdr", ".hdr.gz"), (".img", ".img.gz")
FORMATS = (
    VolumeFormat((*NIFTI_SUFFIXES, *PAIR_HEADERS, *PAIR_VOXELS), read_nifti, nifti_layout, _pair_voxels),
    VolumeFormat((".nrrd", ".nhdr"), NRRD.read, NRRD.layout, NRRD.voxels_apart),
    VolumeFormat((".mha", ".mhd"), METAIMAGE.read, METAIMAGE.layout, METAIMAGE.voxels_apart),
)
# What sentences call these formats.
VOLUME = "NIfTI, NRRD or MetaImage"


def is_volume_file(path: Path) -> bool:
    """Return whether a path is a volume file other than DICOM, or a file of a pair, judged by its name."""
    if not path.is_file() or _format_of(path) is None:
        return False
    return not path.name.lower().endswith(PAIR_VOXELS) or nifti_files(path)[0].is_file()


def read_volume(path: Path) -> StoredVolume:
    """Read a volume file.

    Args:
        path: One that `is_volume_file`.

    Returns:
        The voxels as stored, with their scaling and affine.

    Raises:
        ValueError: Damaged, not one volume of numbers, or without its place in the patient.
    """
    volume_format = _format_of(path)
    assert volume_format is not None
    return volume_format.read(path)


def volume_layout(path: Path) -> Layout:
    """Read the header of a volume file alone; otherwise like `read_volume`."""
    volume_format = _format_of(path)
    assert volume_format is not None
    return volume_format.layout(path)


def voxels_apart(path: Path) -> Path | None:
    """Return the file that a volume's header names for its voxels, existing or not; None where it names none.

    Args:
        path: Any file.

    Raises:
        ValueError: A volume file without a header that can be read.
    """
    volume_format = _format_of(path)
    return volume_format.voxels_apart(path) if volume_format else None


def files_of_volume(path: Path) -> tuple[Path, ...]:
    """List the existing files that a volume is read from, its header first.

    Args:
        path: Any file; one that is no volume is listed alone.
    """
    try:
        voxels = voxels_apart(path)
    except ValueError:  # raised again when the volume is read
        voxels = None
    return (nifti_files(path)[0], voxels) if voxels and voxels.is_file() else (path,)


def volume_stem(path: Path) -> str:
    """Return the name of a volume file without the suffix of its format."""
    volume_format = _format_of(path)
    suffixes = volume_format.suffixes if volume_format else (path.suffix,)
    matching = [suffix for suffix in suffixes if path.name.lower().endswith(suffix.lower())]
    return path.name[: len(path.name) - max(map(len, matching))]


def _format_of(path: Path) -> VolumeFormat | None:
    return next((known for known in FORMATS if path.name.lower().endswith(known.suffixes)), None)
