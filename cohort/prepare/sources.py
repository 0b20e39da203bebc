"""The source files of a prepared scan: a key of their content, and a cheap way to see that none changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from cohort.prepare.places import scan_folder, stamp_file
from cohort.table import CohortRow
from ct.classes import L3, ClassSet
from ct.files.formats import files_of_volume
from ct.grey_values import ESTIMATE_VERSION
from ct.grey_window import AUTO
from ct.lungs.classical import LUNGS_VERSION
from machine.whole_file import write_text

FORMAT_VERSION = 6
# A file that changed so shortly before it was hashed could change again and keep its time; it is hashed next time too.
SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Content:
    """Hashes of what a scan is prepared from.

    Attributes:
        key: Of the bytes of all its files, the parameters and the format's version.
        image_sha256: Of the image alone, whatever its files are called: for a single file its own sha256.
    """

    key: str
    image_sha256: str


def files_of(path: Path) -> list[tuple[str, Path]]:
    """List a file, or the files of a folder and its sub-folders, with their names relative to it, in a fixed order.

    A volume of two files, a header and its voxels, counts with both, whichever is given.
    """
    if not path.is_dir():
        return [(file.name, file) for file in files_of_volume(path)]
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted((file.relative_to(path).as_posix(), file) for file in files if file.is_file())


def hash_content(row: CohortRow, size: int, classes: ClassSet = L3) -> Content:
    """Read everything that a row is prepared from and hash it.

    Args:
        row: The cohort's row.
        size: Pixels along each side in plane, a parameter of what is prepared.
        classes: Whose codes its pattern masks hold, another one.

    Returns:
        The hashes.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256(_parameters(row, size, classes))
    image: list[bytes] = []
    for role, name, file in _roles(row):
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").digest()
        # Names matter too: a folder of slice images pairs with its masks by name.
        digest.update(f"\0{role}\0{name}\0".encode() + sha256)
        if role == 0:
            image.append(sha256)
    of_image = image[0] if len(image) == 1 else hashlib.sha256(b"".join(sorted(image))).digest()
    return Content(digest.hexdigest(), of_image.hex())


def is_current(row: CohortRow, out_dir: Path, size: int, classes: ClassSet = L3) -> bool:
    """Tell without reading the sources that a scan is prepared from them as they are now; False is "perhaps not"."""
    try:
        stamp, key = stamp_file(out_dir, row.scan_id).read_text(encoding="utf-8").split()
        return key == prepared_key(scan_folder(out_dir, row.scan_id)) and stamp == stamp_of(row, size, classes)[0]
    except (OSError, ValueError):
        return False


def stamp_of(row: CohortRow, size: int, classes: ClassSet = L3) -> tuple[str, int]:
    """Hash size, times and inode of every source file, and return the time in ns of the last change among them."""
    digest = hashlib.sha256(_parameters(row, size, classes))
    newest = 0
    for role, name, file in _roles(row):
        stat = file.stat()
        # The change time cannot be set back, as the modification time is by copying tools.
        state = (role, name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        digest.update(json.dumps(state).encode())
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
    return digest.hexdigest(), newest


def remember(row: CohortRow, out_dir: Path, stamp: tuple[str, int], key: str) -> None:
    """Note that files with this stamp (taken before they were read) have this key, for `is_current`."""
    path = stamp_file(out_dir, row.scan_id)
    if stamp[1] > time.time_ns() - SETTLED_NS:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(f"{stamp[0]} {key}\n", path)


def prepared_key(folder: Path) -> str | None:
    """Return the key of what lies in a prepared folder, or None where it is not whole."""
    try:
        record = json.loads((folder / "scan.json").read_text(encoding="utf-8"))
        sizes = {file.stem: file.stat().st_size for file in folder.glob("*.npy")}
        # A power cut can leave a folder in place with arrays cut off.
        return str(record["key"]) if sizes == record["array_bytes"] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _roles(row: CohortRow) -> list[tuple[int, str, Path]]:
    sources = (row.image, row.lung_mask, row.infection_mask, row.pattern_mask, *row.readers)
    return [(role, name, file) for role, path in enumerate(sources) if path for name, file in files_of(path)]


def _parameters(row: CohortRow, size: int, classes: ClassSet) -> bytes:
    # Only what a row needs: the keys of the others stay.
    versions = {"greys": ESTIMATE_VERSION} if row.grey_hu == AUTO else {}
    versions |= {} if row.lung_mask else {"lungs": LUNGS_VERSION}
    parameters = [FORMAT_VERSION, size, row.scan_id, row.grey_low_hu, row.grey_high_hu]
    parameters += [versions] if versions else []
    parameters += [row.labels] if row.labels else []
    # What was prepared before there were class sets was read as those of both papers are.
    return json.dumps(parameters if classes.reading == L3.reading else [*parameters, classes.reading]).encode()
