"""Which scans are meant by a path: one, those of a folder, or those of a cohort; and what outputs call them."""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cohort.table import read_cohort
from ct.refusal import Refusal
from inference.folder_scans import holds_scans, scans_in
from machine.whole_file import whole_file

PRIVATE = "private_sources.csv"
NUMBERED = re.compile(r"scan-(\d+)")


@dataclass(frozen=True)
class Source:
    """A scan to segment.

    Attributes:
        name: What outputs call it; a folder of its own in a batch.
        path: Where it is read from; private.
        patient: The cohort's patient_id; empty where only DICOM headers know. Private.
        lung_mask: Its lung mask, if one is given.
        grey_hu: The declared HU of grey 0 and 255, if it is made of grey values.
    """

    name: str
    path: Path
    patient: str = ""
    lung_mask: Path | None = None
    grey_hu: tuple[float, float] | None = None


def is_batch(path: Path) -> bool:
    """Whether a path means several scans: a cohort.csv, or a folder that `holds_scans`."""
    return path.suffix.lower() in (".csv", ".tsv") if path.is_file() else path.is_dir() and holds_scans(path)


def scans_of(path: Path) -> tuple[list[Source], dict[Path, str]]:
    """The scans of a batch, in order, and why other files of its folder were left out (see `scans_in`).

    A cohort's scans keep their scan_id. Those of a folder are numbered: names of files and folders may be a patient's.

    Raises:
        ValueError: The cohort cannot be used.
    """
    if path.is_file():
        return [
            Source(row.scan_id, row.image, row.patient_id, row.lung_mask, _greys(row.grey_low_hu, row.grey_high_hu))
            for row in read_cohort(path).rows
        ], {}
    scans, left_out = scans_in(path)
    return [Source("", each) for each in scans], left_out


def _greys(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def named(sources: Sequence[Source], out: Path) -> list[Source]:
    """Number the sources that have no name, as they were numbered before where the batch is gone on with.

    The list of names and paths is kept in the batch's folder, for the user alone.

    Raises:
        ValueError: The folder holds results of other scans under the same names.
    """
    before = _names_before(out / PRIVATE)
    # A cohort's own names may begin as ours do.
    used = [int(match[1]) for match in map(NUMBERED.fullmatch, before.values()) if match]
    number, found = max(used, default=0), []
    for source in sources:
        where = os.path.abspath(source.path)
        name = source.name or before.get(where, "")
        if not name:
            number += 1
            name = f"scan-{number:04d}"
        other = {at for at, taken in before.items() if taken == name} - {where}
        if other:
            raise Refusal(
                "{folder} holds results of another scan named {name}; give OUT a new folder", folder=out, name=name
            )
        found.append(replace(source, name=name))
    write_private(found, out, {}, {})
    return found


def write_private(
    sources: Sequence[Source], out: Path, reasons: Mapping[str, str], left_out: Mapping[Path, str]
) -> None:
    """Write which name stands for which path, why a scan failed in full, and what was left out; the user's alone."""
    with whole_file(out / PRIVATE, private=True) as passing, passing.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["name", "path", "failed_because", "left_out_because"])
        table.writerows([each.name, os.path.abspath(each.path), reasons.get(each.name, ""), ""] for each in sources)
        table.writerows(["", os.path.abspath(path), "", reason] for path, reason in left_out.items())


def _names_before(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["name"] for row in csv.DictReader(file)}
