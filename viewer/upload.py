"""Uploaded files -> a scan in a folder, safely: zips are unpacked within limits and nothing leaves the folder."""

from __future__ import annotations

import io
import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from ct.read import NIFTI_SUFFIXES, NRRD_SUFFIXES
from ct.read_nrrd import detached_data

ENCRYPTED = 0x1
BLOCK_BYTES = 1 << 20
MIB = 1 << 20
# macOS puts these beside every file of a zip.
RESOURCE_FORKS = "__MACOSX"
# What Python's zipfile and file system raise on damaged zips and impossible names.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Limits:
    """What an upload may hold; a scan of 2000 slices of 512 x 512 is 1 GiB in 2000 files.

    Attributes:
        upload_bytes: Of all uploaded files together.
        unpacked_bytes: Of all files of a zip together.
        files: Files, uploaded or in a zip.
        ratio: Unpacked per packed byte of a zip. CT without noise packs 30 to 1, CT of a scanner 3 to 1.
        harmless_bytes: Zips that unpack to no more may have any ratio.
    """

    upload_bytes: int = 2048 * MIB
    unpacked_bytes: int = 4096 * MIB
    files: int = 10_000
    ratio: int = 100
    harmless_bytes: int = 64 * MIB


LIMITS = Limits()


def receive(files: Sequence[tuple[str, bytes]], folder: Path, limits: Limits = LIMITS) -> Path:
    """Lay uploaded files into a folder and find the scan among them.

    Args:
        files: Name, as the browser says it, and bytes of each: one zip, one NIfTI or NRRD volume (with the file that
            its header names), or the files of a DICOM series. A zip holds one of the latter two.
        folder: Where to; must not exist. It is gone again when the upload is refused.
        limits: What an upload may hold.

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
            _unpack(name, content, folder, limits)
        else:
            _lay(files, folder)
        return _find_scan(name if len(files) == 1 else f"{len(files)} files", folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_upload(files: Sequence[tuple[str, bytes]], limits: Limits) -> None:
    total = sum(len(content) for _, content in files)
    if not total:
        raise ValueError("the upload is empty; expected a zip of a DICOM series, or a NIfTI, NRRD or DICOM file")
    if total > limits.upload_bytes:
        raise ValueError(
            f"the upload has {total / MIB:.0f} MiB; expected at most {limits.upload_bytes / MIB:.0f} MiB; upload one "
            f"series only"
        )
    _check_count("the upload", len(files), limits)


def _check_count(what: str, count: int, limits: Limits) -> None:
    if count > limits.files:
        raise ValueError(f"{what} holds {count} files; expected at most {limits.files}; upload one series only")


def _is_zip(name: str, content: bytes) -> bool:
    # NIfTI and DICOM files may end with what looks like a zip, so the start decides.
    return name.lower().endswith(".zip") or content[:4] in (b"PK\3\4", b"PK\5\6")


def _lay(files: Sequence[tuple[str, bytes]], folder: Path) -> None:
    """Write files under their own last names, those of equal names into folders of their own."""
    for number, (name, content) in enumerate(files):
        last = PureWindowsPath(name).name.replace("\0", "")
        last = "unnamed" if last in ("", "..") else last
        place = folder / last
        if place.exists():
            place = folder / f"{number:05d}" / last
            place.parent.mkdir()
        with _one_sentence(name, "cannot be stored"):
            place.write_bytes(content)


def _unpack(name: str, content: bytes, folder: Path, limits: Limits) -> None:
    with _one_sentence(name, "not a readable zip; it is cut off or damaged"):
        archive = zipfile.ZipFile(io.BytesIO(content))
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        _check_entries(name, entries, len(content), limits)
        room = limits.unpacked_bytes
        for entry in entries:
            path = _inside(name, entry)
            if any(part.startswith(".") or part == RESOURCE_FORKS for part in path.parts):
                continue
            with _one_sentence(name, f"its file {entry.filename!r} cannot be unpacked"):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, target.open("xb") as file:
                    # What a zip says of its sizes is not to be trusted, so what comes out is counted, too.
                    room -= _copy(packed, file, room)
            if room < 0:
                raise ValueError(_too_large(name, limits))


def _check_entries(name: str, entries: Sequence[zipfile.ZipInfo], packed_bytes: int, limits: Limits) -> None:
    _check_count(name, len(entries), limits)
    for entry in entries:
        _inside(name, entry)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ValueError(
                f"{name}: {entry.filename!r} is a link or a device, no file; expected plain files; zip the files "
                f"themselves"
            )
        if entry.flag_bits & ENCRYPTED:
            raise ValueError(f"{name}: {entry.filename!r} is encrypted; expected a zip without a password")
    total = sum(entry.file_size for entry in entries)
    if total > limits.unpacked_bytes:
        raise ValueError(_too_large(name, limits))
    if total > limits.harmless_bytes and total > limits.ratio * packed_bytes:
        raise ValueError(
            f"{name}: unpacks to {total / packed_bytes:.0f} times its size; expected at most {limits.ratio} times, as "
            f"of images; it is no zip of a scan"
        )


def _inside(name: str, entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return the place of an entry, which must lie inside the folder on any system."""
    # Zips made on Windows may separate folders by backslashes.
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    drive = PureWindowsPath(entry.filename).drive
    if path.is_absolute() or drive or ".." in path.parts or not path.parts:
        raise ValueError(
            f"{name}: {entry.filename!r} points out of the folder it is unpacked to; expected plain names; zip the "
            f"folder of the series itself"
        )
    return path


def _too_large(name: str, limits: Limits) -> str:
    return f"{name}: unpacks to more than {limits.unpacked_bytes / MIB:.0f} MiB; expected one series; zip that only"


def _copy(packed: IO[bytes], file: IO[bytes], room: int) -> int:
    """Copy until the end, or until there is no more room; return how many bytes came."""
    count = 0
    while count <= room and (block := packed.read(BLOCK_BYTES)):
        file.write(block)
        count += len(block)
    return count


def _find_scan(name: str, folder: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    volumes = [path for path in files if path.name.lower().endswith(NIFTI_SUFFIXES + NRRD_SUFFIXES)]
    if not volumes:
        if not files:
            raise ValueError(f"{name}: holds no file; expected a DICOM series, or a NIfTI or NRRD file")
        return files[0] if len(files) == 1 else folder
    data = _data_of(volumes[0], folder) if len(volumes) == 1 else None
    rest = [path for path in files if path not in (volumes[0], data)]
    if rest:
        raise ValueError(
            f"{name}: holds {volumes[0].name!r} and {len(rest)} other files, for example {rest[0].name!r}; expected "
            f"one volume, or the files of one DICOM series"
        )
    return volumes[0]


def _data_of(volume: Path, folder: Path) -> Path | None:
    """Find the file that an NRRD header names; a path out of the folder would show a visitor this machine's files."""
    if not volume.name.lower().endswith(NRRD_SUFFIXES):
        return None
    data = detached_data(volume)
    if data is not None and not data.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{volume.name}: the NRRD header names a data file in another folder; expected it beside the header; "
            f"upload both, or one .nrrd file with its data inside"
        )
    return data


@contextmanager
def _one_sentence(name: str, problem: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        # An OSError's text names the temporary folder, which is no visitor's concern.
        text = (error.strerror or "") if isinstance(error, OSError) else str(error)
        reason = " ".join(f"{type(error).__name__} {text}".split())[:200]
        raise ValueError(f"{name}: {problem} ({reason}); zip it again") from error
