"""Scans of a path (one, those of a folder, or those of a cohort) and their names in outputs."""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cohort.table import CohortRow, read_cohort
from ct.grey_window import Greys
from ct.refusal import Refusal
from inference.folder_scans import holds_scans, scans_in
from machine.whole_file import whole_file

PRIVATE = "private_sources.csv"
NUMBERED = re.compile(r"scan-(\d+)")


@dataclass(frozen=True)
class Source:
    """A scan to segment.

    Attributes:
        name: Its name in outputs, and its folder in a batch.
        path: File or folder to read; private.
        patient: The cohort's patient_id, "" outside of cohorts; private.
        lung_mask: Its lung mask, if there is one.
        grey_hu: What grey 0 and 255 stand for, where a cohort says that it is made of grey values; or `AUTO`.
    """

    name: str
    path: Path
    patient: str = ""
    lung_mask: Path | None = None
    grey_hu: Greys | None = None


def is_batch(path: Path) -> bool:
    """Tell whether a path means several scans: a cohort.csv, or a folder that `holds_scans`."""
    return path.suffix.lower() in (".csv", ".tsv") if path.is_file() else path.is_dir() and holds_scans(path)


def scans_of(path: Path) -> tuple[list[Source], dict[Path, str]]:
    """Return the scans of a batch in order, and why other files of its folder were left out (see `scans_in`).

    A cohort's scans keep their scan_id. Those of a folder are numbered, since names of files may be a patient's.

    Raises:
        ValueError: The cohort cannot be used.
    """
    if path.is_file():
        return [source_of(row) for row in read_cohort(path).rows], {}
    scans, left_out = scans_in(path)
    return [Source("", scan) for scan in scans], left_out


def source_of(row: CohortRow) -> Source:
    """Return the source of a cohort's row."""
    return Source(row.scan_id, row.image, row.patient_id, row.lung_mask, row.grey_hu)


def name_sources(sources: Sequence[Source], out: Path) -> list[Source]:
    """Number the sources that have no name; a batch that is resumed keeps its numbers.

    The list of names and paths is kept in the batch's folder, for the user alone.

    Raises:
        ValueError: The folder holds results of other scans under the same names.
    """
    earlier = _earlier_names(out / PRIVATE)
    # A cohort's own names may look like our numbers.
    used = [int(match[1]) for match in map(NUMBERED.fullmatch, earlier.values()) if match]
    number, named = max(used, default=0), []
    for source in sources:
        path = os.path.abspath(source.path)
        name = source.name or earlier.get(path, "")
        if not name:
            number += 1
            name = f"scan-{number:04d}"
        if any(earlier_name == name and other != path for other, earlier_name in earlier.items()):
            raise Refusal(
                "{folder} holds results of another scan named {name}; give OUT a new folder", folder=out, name=name
            )
        named.append(replace(source, name=name))
    write_private(named, out, {}, {})
    return named


def write_private(
    sources: Sequence[Source], out: Path, reasons: Mapping[str, str], left_out: Mapping[Path, str]
) -> None:
    """Write the paths of all names, full reasons of failures, and files left out, readable by the user alone."""
    with whole_file(out / PRIVATE, private=True) as path, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["name", "path", "failed_because", "left_out_because"])
        table.writerows([each.name, os.path.abspath(each.path), reasons.get(each.name, ""), ""] for each in sources)
        table.writerows(["", os.path.abspath(path), "", reason] for path, reason in left_out.items())


def _earlier_names(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["name"] for row in csv.DictReader(file)}
