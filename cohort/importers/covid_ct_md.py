"""COVID-CT-MD: CT series of COVID-19, other pneumonia and normal lungs, some with labels per slice and lobe.

Source: Afshar et al., "COVID-CT-MD, COVID-19 computed tomography scan dataset applicable in machine learning and deep
learning", Scientific Data 8:121, 2021, doi 10.1038/s41597-021-00900-3, on Figshare (see there for its licence). The
layout is "COVID-19 subjects"/P001/*.dcm, "CAP subjects"/cap001/*.dcm and "Normal subjects"/normal001/*.dcm with
Index.csv, Slice-level-labels.npy and Lobe-level-labels.npy, of which the -updated files are the newer ones.

Traps: label i belongs to InstanceNumber i + 1, counted from head to foot; file names follow no order. Labels are
infection, not consolidation, which stays unknown, and single slices are labelled wrongly here and there. Index.csv
names the labelled subjects; the numbers in it have a gap. Normal subjects have no labels: subjects.csv holds the
diagnosis of all.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cohort.csv_table import parse_whole_number, read_csv_table
from cohort.dataset_files import folders_in, inner_folders
from cohort.importing import importer_options, new_cohort, run_importer
from cohort.table import CohortRow
from ct.files.dicom.file_set import find_dicom_files
from ct.files.dicom.tags import Tags, read_dataset
from machine.command_line import run_command

SITE = "covid_ct_md"
# How the folders' names begin, and what they hold; the rest of the name differs between copies.
DIAGNOSES = {"covid": "COVID-19", "cap": "community-acquired pneumonia", "normal": "normal"}
SUBJECT = re.compile(r"(P|cap|normal)\d+", re.IGNORECASE)
LOBES = ("LLL", "LUL", "RLL", "RML", "RUL")
INDEX_COLUMNS = ("Folder/ID", "Label Index")
INDEX, SLICE_LABELS, LOBE_LABELS = "Index.csv", "Slice-level-labels.npy", "Lobe-level-labels.npy"


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of the labelled subjects.

    Attributes:
        slices: (rows, slices), 1 where a slice shows infection, from head to foot.
        lobes: (rows, slices, 5), the same for each of `LOBES`.
        row_of_subject: Which row belongs to which subject.
    """

    slices: npt.NDArray[Any]
    lobes: npt.NDArray[Any]
    row_of_subject: dict[str, int]


def import_covid_ct_md(folder: str | Path, out_dir: str | Path) -> Path:
    """Write a cohort.csv that names the series, with subjects.csv and slices.csv beside it; nothing is copied.

    Only headers are read. slices.csv has one row per slice: scan_id, z_index (0 at the foot, as in the scan's canonical
    grid), instance_number, z_mm, slice_infected and the lobes, 1, 0, or blank where no label was given.

    Args:
        folder: Holds the subjects' folders and the labels, each there or one level below.
        out_dir: Where the three files go; earlier ones there are replaced.

    Returns:
        The cohort.csv. A series whose slices cannot be matched is in it, but not in slices.csv; left_out.csv tells.

    Raises:
        ValueError: No folder of subjects, or labels that are missing or of another shape.
    """
    root = Path(folder)
    labels = _read_labels(root)
    with new_cohort(folder, out_dir) as new:
        subjects: list[dict[str, Any]] = []
        slices: list[dict[str, Any]] = []
        for image, diagnosis in tqdm(_subjects(root), desc="import", unit="scan", leave=False, disable=None):
            name = image.name
            if not SUBJECT.fullmatch(name):
                new.left_out.append(
                    (str(image.relative_to(root)), "is named unlike a subject (P001, cap001, normal001)")
                )
                continue
            new.rows.append(CohortRow(name, name, SITE, image))
            subjects.append({"scan_id": name, "diagnosis": diagnosis, "labelled": int(name in labels.row_of_subject)})
            try:
                slices += _slices(image, labels)
            except ValueError as error:
                new.left_out.append((f"the slices of {name}", str(error)))
        new.tables = {"subjects.csv": subjects, "slices.csv": slices}
    return Path(out_dir) / "cohort.csv"


def _subjects(root: Path) -> list[tuple[Path, str]]:
    """Return the folder and diagnosis of each subject."""
    groups = [folder for folder in (*folders_in(root), *inner_folders(root)) if not SUBJECT.fullmatch(folder.name)]
    subjects = [
        (subject, diagnosis)
        for start, diagnosis in DIAGNOSES.items()
        for group in groups
        if group.name.lower().startswith(start)
        for subject in folders_in(group)
    ]
    if not subjects:
        raise ValueError(
            f"{root}: holds no folders 'COVID-19 subjects', 'CAP subjects' or 'Normal subjects' with P001, cap001 or "
            f"normal001 in them; expected COVID-CT-MD as it is published"
        )
    return subjects


def _read_labels(root: Path) -> Labels:
    slices, lobes = _load(_find_file(root, SLICE_LABELS), 2), _load(_find_file(root, LOBE_LABELS), 3)
    index = _find_file(root, INDEX)
    if lobes.shape != (*slices.shape, len(LOBES)):
        raise ValueError(f"{root}: labels of slices are {slices.shape}, of lobes {lobes.shape}; expected one set")
    table = read_csv_table(index, INDEX_COLUMNS)
    rows: dict[str, int] = {}
    for number, record in table.records():
        subject = record.get("Folder/ID", "").strip()
        row = parse_whole_number(record.get("Label Index", ""), table.separator)
        if not subject or row is None or not 0 <= row < len(slices):
            raise ValueError(
                f"{index}: row {number}: found {record}; expected a 'Folder/ID' and a 'Label Index' below {len(slices)}"
            )
        rows[subject] = row
    return Labels(slices, lobes, rows)


def _find_file(root: Path, name: str) -> Path:
    """Find a file by its name, upper or lower case, _ for -, whatever else it ends with; the last update of several."""
    start, suffix = name.lower().replace("-", "_").split(".")
    files = [file for folder in (root, *folders_in(root)) for file in sorted(folder.iterdir()) if file.is_file()]
    matches = [
        file
        for file in files
        if file.suffix.lower() == f".{suffix}" and file.stem.lower().replace("-", "_").startswith(start)
    ]
    if not matches:
        raise ValueError(f"{root}: there is no {name} in it, nor one level below; expected COVID-CT-MD as published")
    return max(matches, key=lambda file: ("updated" in file.name.lower(), file.name))


def _load(path: Path, dimensions: int) -> npt.NDArray[Any]:
    try:
        labels = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable array of labels ({error}); download it again") from error
    if labels.ndim != dimensions or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{path}: has {labels.ndim} axes; expected {dimensions} and no values but 0 and 1")
    return labels


def _slices(folder: Path, labels: Labels) -> list[dict[str, Any]]:
    """Return the records of a series, from foot to head."""
    places = _places(folder)
    row, count = labels.row_of_subject.get(folder.name), labels.slices.shape[1]
    instances = [number for _, number in places]
    if row is not None and not (
        instances == sorted(instances, reverse=True) and 0 < instances[-1] <= instances[0] <= count
    ):
        raise ValueError(
            f"{folder}: InstanceNumber is {instances[0]} at the foot and {instances[-1]} at the head; expected numbers "
            f"from 1 to {count} that fall all the way, as the labels do"
        )
    return [
        {
            "scan_id": folder.name,
            "z_index": index,
            "instance_number": number,
            "z_mm": round(z, 3),
            "slice_infected": "" if row is None else int(labels.slices[row, number - 1]),
            **{lobe: "" if row is None else int(labels.lobes[row, number - 1, k]) for k, lobe in enumerate(LOBES)},
        }
        for index, (z, number) in enumerate(places)
    ]


def _places(folder: Path) -> list[tuple[float, int]]:
    """Return position along the body in mm and InstanceNumber of each slice, from foot to head."""
    files, _ = find_dicom_files(folder)
    series: set[str] = set()
    places: list[tuple[float, int]] = []
    with warnings.catch_warnings():
        # The publishers' UIDs are no valid ones, which does not matter here.
        warnings.simplefilter("ignore")
        for file in files:
            header = Tags(file, read_dataset(file))
            series.add(header.text("SeriesInstanceUID"))
            z = float(header.numbers("ImagePositionPatient", 3)[2])
            places.append((z, header.whole_number("InstanceNumber")))
    count = len({z for z, _ in places})
    if len(series) != 1 or count != len(places):
        raise ValueError(
            f"{folder}: holds {len(series)} series with {len(places)} slices in {count} places; expected one series "
            f"with one slice in each place"
        )
    return sorted(places)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    out = "where cohort.csv, subjects.csv and slices.csv go"
    options = importer_options(__file__, __doc__, "holds the subjects' folders and the labels", out).parse_args(args)
    return run_importer(lambda: import_covid_ct_md(options.folder, options.out))


if __name__ == "__main__":
    run_command(main)
