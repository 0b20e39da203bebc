"""Scans of a folder: its files and folders that are scans, and the reasons why others are left out."""

from pathlib import Path

from ct.files.archives import SUFFIXES as ARCHIVE_SUFFIXES
from ct.files.dicom.file_set import DICOM_SUFFIXES, is_dicom_file
from ct.files.dicom.tags import Tags, read_dataset
from ct.files.formats import VOLUME, files_of_volume, is_volume_file
from ct.files.images import SLICE_IMAGE_SUFFIXES
from ct.files.unzip import RESOURCE_FORKS

ZIP = (".zip",)
SYSTEM_FILES = (RESOURCE_FORKS, "Thumbs.db", "desktop.ini")
HIDDEN = "hidden, or what an operating system put there"
SLICE_IMAGE = "a slice image beside scans; give it alone, put it into a folder of its own, or name it in a cohort.csv"
LONE_DICOM = "DICOM files of one image or none; put the files of a series into a folder of their own"
SPLIT_SERIES = "one series in several files; put them into a folder of their own"
OTHER = f"no scan; expected {VOLUME} or DICOM files, zips or folders of them"


def holds_scans(folder: Path) -> bool:
    """Tell whether a folder holds several scans, each in files or a folder of its own, or is one scan itself.

    It holds several if there is a volume file, or a folder or zip and no DICOM file of a single image: such files are
    the slices of one series, to which the folders beside them belong too.

    Args:
        folder: The folder.
    """
    entries = [path for path in sorted(folder.iterdir()) if not _is_hidden(path)]
    if any(map(is_volume_file, entries)):
        return True
    several = any(path.is_dir() or _is_packed(path, ZIP) for path in entries)
    return several and not any(_dicom_series(path) == "" for path in entries)


def scans_in(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """List the scans of a folder that holds several.

    A folder in it is one scan, unless it holds volumes or zips and no DICOM file: then its own scans are listed.

    Args:
        folder: The folder.

    Returns:
        The scans in order, including files that only look like one, which reading will refuse with the reason; and why
        each other file was left out, in words that name no file.
    """
    entries = sorted(folder.iterdir())
    voxel_files = {file for path in entries if is_volume_file(path) for file in files_of_volume(path)[1:]}
    series = {path: _dicom_series(path) for path in entries}
    scans: list[Path] = []
    left_out: dict[Path, str] = {}
    for path in entries:
        if path in voxel_files:
            continue  # its header stands for both
        if _is_hidden(path):
            left_out[path] = HIDDEN
        elif _holds_only_volumes(path):
            inner_scans, inner_left_out = scans_in(path)
            scans += inner_scans
            left_out |= inner_left_out
        elif reason := _why_left_out(path, series[path], list(series.values())):
            left_out[path] = reason
        else:
            scans.append(path)
    return scans, left_out


def _why_left_out(path: Path, series: str | None, all_series: list[str | None]) -> str:
    """Return why a file or folder is no scan; "" where it is to be read as one, even if it will be refused."""
    if path.is_dir() or is_volume_file(path) or _is_packed(path, tuple(ARCHIVE_SUFFIXES)):
        return ""
    if series is not None:
        return LONE_DICOM if series == "" else SPLIT_SERIES if all_series.count(series) > 1 else ""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return ""
    return SLICE_IMAGE if path.suffix.lower() in SLICE_IMAGE_SUFFIXES else OTHER


def _dicom_series(path: Path) -> str | None:
    """Return the series of a DICOM file of several frames, "" of a single image or none; None for other files."""
    try:
        if not path.is_file() or not is_dicom_file(path):
            return None
        header = Tags(path, read_dataset(path))
        several = "NumberOfFrames" in header and header.whole_number("NumberOfFrames") > 1
        return (header.text("SeriesInstanceUID") or path.name) if several else ""
    except ValueError:  # listed as a scan of its own, so that reading refuses it with the reason
        return path.name


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in SYSTEM_FILES


def _is_packed(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.is_file() and path.name.lower().endswith(suffixes) and not is_volume_file(path)


def _holds_only_volumes(path: Path) -> bool:
    """Tell whether a path is a folder of volumes or zips without DICOM; no link, since links may be circular."""
    if not path.is_dir() or path.is_symlink():
        return False
    files = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file)]
    volumes = any(is_volume_file(file) or _is_packed(file, ZIP) for file in files)
    return volumes and all(_dicom_series(file) is None for file in files)
