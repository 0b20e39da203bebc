"""Uploaded files as a scan in a folder: zips are unpacked within limits, and nothing is written elsewhere."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ct.files.archives import kind_of_start
from ct.files.formats import VOLUME
from ct.files.unzip import MIB, ZipLimits, as_one_sentence, check_count, find_scan, unzip


@dataclass(frozen=True)
class Limits(ZipLimits):
    """Limits of an upload; those of a zip hold for loose files too.

    Attributes:
        upload_bytes: Bytes of all uploaded files together.
    """

    upload_bytes: int = 2048 * MIB


LIMITS = Limits()


def receive(files: Sequence[tuple[str, bytes]], folder: Path, limits: Limits = LIMITS) -> Path:
    """Write uploaded files into a folder and find the scan among them.

    Args:
        files: Name, as the browser gives it, and bytes of each: one zip, one volume file (with the file that its
            header names), or the files of a DICOM series. A zip holds one of the latter two.
        folder: A new folder, removed again when the upload is refused.
        limits: Limits of the upload.

    Returns:
        The scan to read: a volume's file, or the folder of DICOM files.

    Raises:
        ValueError: The upload is empty, too large, a zip that is damaged, encrypted, a bomb or points out of its
            folder, or it holds several scans; one sentence.
    """
    _check_upload(files, limits)
    folder.mkdir(parents=True)
    try:
        name, content = files[0]
        if len(files) == 1 and _is_zip(name, content):
            unzip(name, io.BytesIO(content), folder, limits)
        else:
            _write_files(files, folder)
        return find_scan(name if len(files) == 1 else f"{len(files)} files", folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_upload(files: Sequence[tuple[str, bytes]], limits: Limits) -> None:
    total = sum(len(content) for _, content in files)
    if not total:
        raise ValueError(f"the upload is empty; expected a zip of a DICOM series, or a {VOLUME} or DICOM file")
    if total > limits.upload_bytes:
        raise ValueError(
            f"the upload has {total / MIB:.0f} MiB; expected at most {limits.upload_bytes / MIB:.0f} MiB; upload one "
            f"series only"
        )
    check_count("the upload", len(files), limits)


def _is_zip(name: str, content: bytes) -> bool:
    # NIfTI and DICOM files may end with what looks like a zip, so the start decides.
    return name.lower().endswith(".zip") or kind_of_start(content[:4]) == "zip"


def _write_files(files: Sequence[tuple[str, bytes]], folder: Path) -> None:
    """Write files under their base names, those of equal names into folders of their own."""
    for number, (name, content) in enumerate(files):
        last = PureWindowsPath(name).name.replace("\0", "")
        last = "unnamed" if last in ("", "..") else last
        place = folder / last
        if place.exists():
            place = folder / f"{number:05d}" / last
            place.parent.mkdir()
        with as_one_sentence(name, "cannot be stored"):
            place.write_bytes(content)
