"""Places of prepared scans in their folder: beside each other, or, where there are many, on shelves of a few each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from cohort.table import CohortRow
from ct.refusal import Refusal

# With more scans than this, no folder holds them all: directories of a million entries are slow on every file system.
MANY = 10_000
SHELVES, SHELF_COUNT = "scans", 1024
# Folders that are being filled; what a killed process leaves lies here alone, so that nobody has to look for it.
MAKING = ".making"
STAMPS = ".stamps"
INDEX, VERDICTS, BUGS = "index.csv", "verdicts.csv", "bugs.log"


def scan_folder(out_dir: Path, scan_id: str) -> Path:
    """Return the folder of a prepared scan; index.csv names it, relative to its own."""
    return _shelf(out_dir, scan_id) / scan_id


def stamp_file(out_dir: Path, scan_id: str) -> Path:
    """Return the file that tells cheaply whether a scan's sources have changed."""
    shelf = _shelf(out_dir, scan_id)
    return out_dir / STAMPS / (shelf.name if shelf != out_dir else "") / scan_id


def prepared_folder_of(scan: Path) -> Path:
    """Return the prepared folder in which the folder of a scan lies."""
    return scan.parents[2] if scan.parents[1].name == SHELVES else scan.parent


def check_names(rows: Sequence[CohortRow], cohort_csv: Path) -> None:
    """Raise ValueError where a scan_id is the name of a file or folder that is written."""
    for row in rows:
        if row.scan_id.lower() in (INDEX, VERDICTS, BUGS, SHELVES):
            raise Refusal(
                "{cohort}: scan_id '{scan_id}' is the name of a file that is written; rename it",
                cohort=cohort_csv,
                scan_id=row.scan_id,
            )


def set_up(out_dir: Path, rows: Sequence[CohortRow]) -> None:
    """Make a prepared folder ready, with shelves if its scans are many; those that lie beside each other move there.

    Nobody may prepare scans there meanwhile.
    """
    (out_dir / MAKING).mkdir(exist_ok=True)
    if len(rows) > MANY:
        (out_dir / SHELVES).mkdir(exist_ok=True)
    if not (out_dir / SHELVES).is_dir():
        return
    for row in rows:
        flat = out_dir / row.scan_id
        if flat.is_dir():
            place = scan_folder(out_dir, row.scan_id)
            place.parent.mkdir(exist_ok=True)
            flat.replace(place)
            (out_dir / STAMPS / row.scan_id).unlink(missing_ok=True)


def _shelf(out_dir: Path, scan_id: str) -> Path:
    shelves = out_dir / SHELVES
    return shelves / f"{zlib.crc32(scan_id.encode()) % SHELF_COUNT:03x}" if shelves.is_dir() else out_dir
