"""Files of a public data set, found however it was unpacked, and its masks, written with other values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from cohort.csv_table import read_csv_table
from ct.files.formats import VOLUME, files_of_volume, is_volume_file, read_volume, volume_stem
from ct.files.volume_file import to_numbers


def find_folder(root: str | Path, *names: str) -> Path:
    """Find a data set's folder by name, upper or lower case, in the given folder or one level below.

    Args:
        root: What the user gave.
        names: The names it may have, the usual one first.

    Raises:
        ValueError: There is no such folder.
    """
    folder = look_for_folder(root, *names)
    if folder is None:
        raise ValueError(
            f"{root}: there is no folder {' or '.join(map(repr, names))} in it, nor one level below; expected the data "
            f"set as it is published; name the folder that holds {names[0]!r}"
        )
    return folder


def look_for_folder(root: str | Path, *names: str) -> Path | None:
    """Do as `find_folder`, but return None where there is none."""
    for level in (folders_in(Path(root)), inner_folders(Path(root))):
        for name in names:
            for folder in level:
                if folder.name.lower() == name.lower():
                    return folder
    return None


def folders_in(root: Path) -> list[Path]:
    """List the folders in a folder by name.

    Raises:
        ValueError: There is no such folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected the folder of a data set")
    return [child for child in sorted(root.iterdir()) if child.is_dir() and is_visible(child, root)]


def inner_folders(root: Path) -> list[Path]:
    """List the folders one level further below."""
    return [inner for child in folders_in(root) for inner in folders_in(child)]


def volumes_in(folder: Path) -> dict[str, Path]:
    """List the volume files of a folder and its subfolders by their names without suffix.

    Raises:
        ValueError: There is none, or two have the same name.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and is_visible(file, folder)]
    volumes: dict[str, Path] = {}
    for file in files:
        if not is_volume_file(file) or files_of_volume(file)[0] != file:
            continue
        first = volumes.setdefault(volume_stem(file), file)
        if first != file:
            raise ValueError(f"{file}: has the same name as {first}; expected one file per scan; remove one of them")
    if not volumes:
        raise ValueError(f"{folder}: holds no {VOLUME} file; expected the volumes of the data set (*.nii.gz)")
    return volumes


def is_visible(path: Path, root: Path) -> bool:
    """Tell whether a path below `root` is the data set's own, not what an operating system put beside it."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)


def check_pairs(images: Collection[str], masks: Collection[str], folder: Path) -> None:
    """Check that a folder holds one mask for each image.

    Raises:
        ValueError: A mask is missing, or belongs to no image.
    """
    unpaired = sorted(set(images) ^ set(masks))
    if unpaired:
        missing = "mask for the scan" if unpaired[0] in images else "scan for the mask"
        count = f"{len(unpaired)} are without partner"
        raise ValueError(f"{folder}: there is no {missing} '{unpaired[0]}' ({count}); expected pairs")


def read_groups(path: str | Path | None, names: Collection[str]) -> dict[str, str]:
    """Read which scans belong to one patient.

    Args:
        path: CSV file with the columns name and patient_id; None for no file.
        names: The scans' names in the data set.

    Returns:
        The patient of each name in the file.

    Raises:
        ValueError: The file is missing or wrong, or names no scan of the data set.
    """
    if path is None:
        return {}
    groups: dict[str, str] = {}
    for number, record in read_csv_table(Path(path), ("name", "patient_id")).records():
        name, patient = record.get("name", "").strip(), record.get("patient_id", "").strip()
        if name not in names or not patient or name in groups:
            raise ValueError(
                f"{path}: row {number}: found {record}; expected each scan once, as its name in the data set (such as "
                f"'{min(names)}') and a patient_id"
            )
        groups[name] = patient
    return groups


def recode_mask(source: Path, target: Path, code_of_value: Mapping[int, int]) -> set[int]:
    """Write a mask as NIfTI with other values on the same grid.

    Args:
        source: The mask.
        target: Where to write it, as uint8; its folder is made if missing.
        code_of_value: The new value of every value that may occur.

    Returns:
        The new values that occur.

    Raises:
        ValueError: The mask cannot be read or holds another value.
    """
    stored = read_volume(source)
    codes: npt.NDArray[np.uint8] = np.empty(stored.values.shape, dtype=np.uint8)
    present: set[int] = set()
    # Slice by slice, since the largest masks hold 166 million voxels.
    for k in range(stored.values.shape[2]):
        values = to_numbers(stored.values[:, :, k], stored.slope, stored.intercept)
        codes[:, :, k] = recode(values, code_of_value, source)
        present.update(np.unique(codes[:, :, k]).tolist())
    target.parent.mkdir(parents=True, exist_ok=True)
    nifti: Any = nibabel.Nifti1Image
    image = nifti(codes, stored.affine)
    image.set_qform(stored.affine, 1)
    image.header.set_xyzt_units("mm")
    image.to_filename(target)
    return present


def recode(values: npt.NDArray[Any], code_of_value: Mapping[int, int], where: Path) -> npt.NDArray[np.uint8]:
    """Replace the values of a mask.

    Args:
        values: Real numbers of any shape.
        code_of_value: The new value, 0..255, of every value that may occur.
        where: The mask's file, for the error.

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: Another value occurs.
    """
    codes = np.zeros(values.shape, dtype=np.uint8)
    for value in np.unique(values).tolist():
        if value not in code_of_value:
            raise ValueError(f"{where}: the mask holds the value {value:g}; expected only {sorted(code_of_value)}")
        codes[values == value] = code_of_value[value]
    return codes
