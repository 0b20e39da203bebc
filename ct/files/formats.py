"""The formats of volume files: by which suffixes each is known, and who reads it."""

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
    """A format.

    Attributes:
        suffixes: Of its files, in lower case.
        read: Reads a volume; a ValueError says why it cannot.
        layout: Reads its header alone.
        voxels_apart: The file that a header names for its voxels, None where they are in the file itself; a ValueError
            if there is no such header.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], StoredVolume]
    layout: Callable[[Path], Layout]
    voxels_apart: Callable[[Path], Path | None]


NIFTI_SUFFIXES = (".nii.gz", ".nii")
# The voxels of a pair may be called as DICOM files are, too: only the file beside them tells.
PAIR_HEADERS, PAIR_VOXELS = (".hdr", ".hdr.gz"), (".img", ".img.gz")
FORMATS = (
    VolumeFormat((*NIFTI_SUFFIXES, *PAIR_HEADERS, *PAIR_VOXELS), read_nifti, nifti_layout, _pair_voxels),
    VolumeFormat((".nrrd", ".nhdr"), NRRD.read, NRRD.layout, NRRD.voxels_apart),
    VolumeFormat((".mha", ".mhd"), METAIMAGE.read, METAIMAGE.layout, METAIMAGE.voxels_apart),
)
# As sentences name them.
VOLUME = "NIfTI, NRRD or MetaImage"


def is_volume_file(path: Path) -> bool:
    """Tell by its name whether a path is a volume file that is no DICOM: its header, or all of it."""
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
    known = _format_of(path)
    assert known is not None
    return known.read(path)


def volume_layout(path: Path) -> Layout:
    """Read the header of a volume file alone; as `read_volume` otherwise."""
    known = _format_of(path)
    assert known is not None
    return known.layout(path)


def voxels_apart(path: Path) -> Path | None:
    """Return the file that a volume's header names for its voxels, there or not; None where there is no such file.

    Args:
        path: Any file.

    Raises:
        ValueError: A volume file without a header that can be read.
    """
    known = _format_of(path)
    return known.voxels_apart(path) if known else None


def files_of_volume(path: Path) -> tuple[Path, ...]:
    """List the files that a volume is read from, as far as they are there; its header first.

    Args:
        path: Any file; one that is no volume is all there is.
    """
    try:
        voxels = voxels_apart(path)
    except ValueError:  # told when it is read
        voxels = None
    return (nifti_files(path)[0], voxels) if voxels and voxels.is_file() else (path,)


def volume_stem(path: Path) -> str:
    """Return the name of a volume file without what says its format."""
    known = _format_of(path)
    suffixes = [suffix for suffix in known.suffixes if path.name.lower().endswith(suffix)] if known else [path.suffix]
    return path.name[: len(path.name) - max(map(len, suffixes))]


def _format_of(path: Path) -> VolumeFormat | None:
    return next((each for each in FORMATS if path.name.lower().endswith(each.suffixes)), None)
