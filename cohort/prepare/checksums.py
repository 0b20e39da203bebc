"""Checksums of prepared scans: whether their files still hold what was written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

RECORD = "scan.json"
OTHER_VERSION = "another version"
_CHUNK = 1 << 20
# A check that takes no longer than this needs no bar.
_PATIENCE_SECONDS = 3


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write the scan.json of a prepared folder, with the sizes and checksums of its arrays and a checksum of its own.

    Args:
        record: The content of scan.json but for the checksums.
        folder: Holds the arrays.
    """
    arrays = sorted(folder.glob("*.npy"))
    described = {
        **record,
        "array_bytes": {file.stem: file.stat().st_size for file in arrays},
        "array_crc32": {file.stem: _crc32_of_file(file) for file in arrays},
    }
    text = json.dumps({**described, "record_crc32": _crc32_of_record(described)}, indent=1)
    (folder / RECORD).write_text(f"{text}\n", encoding="utf-8")


def find_damage(folders: Iterable[Path], version: int, jobs: int) -> dict[Path, str]:
    """Read all files of prepared folders and find those that do not hold what was written.

    Checksums are computed in threads: zlib lets go of the interpreter's lock.

    Args:
        folders: Prepared folders.
        version: Of the format; folders of another one may lack checksums.
        jobs: Threads.

    Returns:
        For each folder that cannot be used the name of the first damaged file, or OTHER_VERSION.
    """
    listed = list(folders)
    with ThreadPoolExecutor(jobs) as pool:
        checked = pool.map(partial(_problem, version=version), listed)
        bar = tqdm(checked, "verify", len(listed), unit="scan", leave=False, delay=_PATIENCE_SECONDS)
        return {folder: problem for folder, problem in zip(listed, bar, strict=True) if problem}


def _problem(folder: Path, version: int) -> str:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["format_version"] != version:
            return OTHER_VERSION
        if record.pop("record_crc32") != _crc32_of_record(record):
            return RECORD
        sums = record["array_crc32"].items()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return RECORD
    return next((f"{name}.npy" for name, crc32 in sums if not _holds(folder / f"{name}.npy", crc32)), "")


def _holds(file: Path, crc32: int) -> bool:
    try:
        return _crc32_of_file(file) == crc32
    except OSError:  # a bad sector
        return False


def _crc32_of_file(file: Path) -> int:
    crc32, buffer = 0, bytearray(_CHUNK)
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            crc32 = zlib.crc32(memoryview(buffer)[:count], crc32)
    return crc32


def _crc32_of_record(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
