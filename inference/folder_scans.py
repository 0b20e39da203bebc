"""A folder of scans: which of its files and folders are scans, and what is left out and why."""

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
SLICE_IMAGE = "an 8-bit slice image has no HU; name it in a cohort.csv that declares grey_low_hu and grey_high_hu"
LONE_DICOM = "DICOM files of one image or none; put the files of a series into a folder of their own"
SPLIT_SERIES = "one series in several files; put them into a folder of their own"
OTHER = f"no scan; expected {VOLUME} or DICOM files, zips or folders of them"


def holds_scans(folder: Path) -> bool:
    """Tell whether a folder holds several scans, each in files or a folder of its own, or else is one scan itself.

    It holds several if there is a volume file, or a folder or zip and no DICOM file of a single image: such files are
    the slices of a series, and the folders beside them belong to it, too.

    Args:
        folder: The folder.
    """
    inside = [each for each in sorted(folder.iterdir()) if not _is_hidden(each)]
    if any(map(is_volume_file, inside)):
        return True
    several = any(each.is_dir() or _is_packed(each, ZIP) for each in inside)
    return several and not any(_dicom_series(each) == "" for each in inside)


def scans_in(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """List the scans of a folder that holds several.

    A folder in it is one scan, unless it holds no DICOM file but volumes or zips: then it is listed itself.

    Args:
        folder: The folder.

    Returns:
        The scans in order, with what only looks like one, so that it is refused with the reason; and why each other
        file was left out, in words that name nothing.
    """
    inside = sorted(folder.iterdir())
    voxels = {file for each in inside if is_volume_file(each) for file in files_of_volume(each)[1:]}
    series = {each: _dicom_series(each) for each in inside}
    scans: list[Path] = []
    left_out: dict[Path, str] = {}
    for each in inside:
        if each in voxels:
            continue  # its header stands for both
        if _is_hidden(each):
            left_out[each] = HIDDEN
        elif _is_taken_apart(each):
            more, others = scans_in(each)
            scans += more
            left_out |= others
        elif reason := _why_left_out(each, series[each], list(series.values())):
            left_out[each] = reason
        else:
            scans.append(each)
    return scans, left_out


def _why_left_out(path: Path, series: str | None, all_series: list[str | None]) -> str:
    """Say why a file or folder is no scan; "" for one that is to be read as such, even if it will be refused."""
    if path.is_dir() or is_volume_file(path) or _is_packed(path, tuple(ARCHIVE_SUFFIXES)):
        return ""
    if series is not None:
        return LONE_DICOM if series == "" else SPLIT_SERIES if all_series.count(series) > 1 else ""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return ""
    return SLICE_IMAGE if path.suffix.lower() in SLICE_IMAGE_SUFFIXES else OTHER


def _dicom_series(path: Path) -> str | None:
    """Return the series of a DICOM file of several frames; "" for one of a single image or none; None for all else."""
    try:
        if not path.is_file() or not is_dicom_file(path):
            return None
        header = Tags(path, read_dataset(path))
        several = "NumberOfFrames" in header and header.whole_number("NumberOfFrames") > 1
        return (header.text("SeriesInstanceUID") or path.name) if several else ""
    except ValueError:  # a scan of its own, so that it is refused with what is wrong
        return path.name


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in SYSTEM_FILES


def _is_packed(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.is_file() and path.name.lower().endswith(suffixes) and not is_volume_file(path)


def _is_taken_apart(path: Path) -> bool:
    """Tell whether a path is a folder with volumes or zips but no DICOM; no link, since links may go in circles."""
    if not path.is_dir() or path.is_symlink():
        return False
    files = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file)]
    holds = any(is_volume_file(file) or _is_packed(file, ZIP) for file in files)
    return holds and all(_dicom_series(file) is None for file in files)
