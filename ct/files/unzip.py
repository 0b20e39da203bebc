"""Safe unpacking of a zip of one scan: within limits, and nothing leaves the folder."""

from __future__ import annotations

import errno
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from ct.files.formats import VOLUME, files_of_volume, is_volume_file, voxels_apart
from ct.refusal import Refusal, Sentence, Word, cause_of

ENCRYPTED = 0x1
BLOCK_BYTES = 1 << 20
MIB = 1 << 20
# macOS puts these beside every file of a zip.
RESOURCE_FORKS = "__MACOSX"
# What Python's zipfile and file system raise on damaged zips and impossible names.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class ZipLimits:
    """Limits of a zip; a scan of 2000 slices of 512 x 512 is 1 GiB in 2000 files.

    Attributes:
        unpacked_bytes: Size of all files together.
        files: Number of files.
        ratio: Unpacked per packed byte. CT without noise packs 30 to 1, CT of a scanner 3 to 1.
        harmless_bytes: Zips that unpack to no more may have any ratio.
    """

    unpacked_bytes: int = 4096 * MIB
    files: int = 10_000
    ratio: int = 100
    harmless_bytes: int = 64 * MIB


LIMITS = ZipLimits()


def unzip(name: str, content: IO[bytes], folder: Path, limits: ZipLimits = LIMITS) -> None:
    """Unpack a zip into a folder.

    Args:
        name: Name of the zip in errors.
        content: The zip.
        folder: An existing folder to unpack into.
        limits: Limits of the zip.

    Raises:
        ValueError: It is damaged, encrypted, a bomb, or points out of the folder; files already unpacked stay there.
    """
    packed_bytes = content.seek(0, os.SEEK_END)
    with as_one_sentence(name, "not a readable zip; it is cut off or damaged"):
        archive = zipfile.ZipFile(content)
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        _check_entries(name, entries, packed_bytes, limits)
        bytes_left = limits.unpacked_bytes
        for entry in entries:
            path = _inside(name, entry)
            if any(part.startswith(".") or part == RESOURCE_FORKS for part in path.parts):
                continue
            with as_one_sentence(name, "its file {entry!r} cannot be unpacked", entry=entry.filename):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, target.open("xb") as file:
                    # The sizes that a zip states are not to be trusted, so the unpacked bytes are counted, too.
                    bytes_left -= _copy(packed, file, bytes_left)
            if bytes_left < 0:
                raise Refusal.of(_too_large(name, limits))


def find_scan(name: str, folder: Path) -> Path:
    """Find the one scan among the files of a folder.

    Args:
        name: Name of the source in errors.
        folder: Folder of the files; a header that names voxels elsewhere would show files of this machine.

    Returns:
        The file of a volume, the only file, or the folder.

    Raises:
        ValueError: No file, several volumes, or a volume beside other files.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    volumes = [path for path in files if is_volume_file(path) and files_of_volume(path)[0] == path]
    if not volumes:
        if not files:
            raise Refusal(
                "{name}: holds no file; expected a DICOM series, or a {volume} file", name=name, volume=Word(VOLUME)
            )
        return files[0] if len(files) == 1 else folder
    parts = _files_inside(volumes[0], folder) if len(volumes) == 1 else volumes[:1]
    rest = [path for path in files if path not in parts]
    if rest:
        raise Refusal(
            "{name}: holds {volume!r} and {count} other files, for example {example!r}; expected one volume, "
            "or the files of one DICOM series",
            name=name,
            volume=volumes[0].name,
            count=len(rest),
            example=rest[0].name,
        )
    return volumes[0]


def check_count(name: str, count: int, limits: ZipLimits) -> None:
    """Refuse more files than a scan has.

    Raises:
        ValueError: There are more than the limit.
    """
    if count > limits.files:
        raise Refusal(
            "{name} holds {count} files; expected at most {files}; give one series only",
            name=name,
            count=count,
            files=limits.files,
        )


@contextmanager
def as_one_sentence(name: str, problem: str, **parts: object) -> Iterator[None]:
    """Turn what is raised on damaged zips and impossible names into a ValueError of one sentence.

    Args:
        name: Name of the file in errors.
        problem: What it means that the block failed; the template of a `Sentence`.
        parts: The values of its fields.
    """
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise Refusal(
                "{name}: no disk space is left to unpack it; make room, or set TMPDIR elsewhere", name=name
            ) from error
        raise Refusal(
            "{name}: {problem} ({cause}); zip it again",
            name=name,
            problem=Sentence(problem, **parts),
            cause=cause_of(error),
        ) from error


def _files_inside(volume: Path, folder: Path) -> list[Path]:
    """List the files of a volume, which must all lie in the folder."""
    voxels = voxels_apart(volume)
    if voxels is not None and not voxels.resolve().is_relative_to(folder.resolve()):
        raise Refusal(
            "{name}: the header names a data file in another folder; expected it beside the header; give "
            "both together, or one file with its data inside",
            name=volume.name,
        )
    return [volume] if voxels is None else [volume, voxels]


def _check_entries(name: str, entries: Sequence[zipfile.ZipInfo], packed_bytes: int, limits: ZipLimits) -> None:
    check_count(name, len(entries), limits)
    for entry in entries:
        _inside(name, entry)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Refusal(
                "{name}: {filename!r} is a link or a device, no file; expected plain files; zip the files themselves",
                name=name,
                filename=entry.filename,
            )
        if entry.flag_bits & ENCRYPTED:
            raise Refusal(
                "{name}: {filename!r} is encrypted; expected a zip without a password",
                name=name,
                filename=entry.filename,
            )
    total = sum(entry.file_size for entry in entries)
    if total > limits.unpacked_bytes:
        raise Refusal.of(_too_large(name, limits))
    if total > limits.harmless_bytes and total > limits.ratio * packed_bytes:
        raise Refusal(
            "{name}: unpacks to {times:.0f} times its size; expected at most {ratio} times, as of images; it "
            "is no zip of a scan",
            name=name,
            times=total / packed_bytes,
            ratio=limits.ratio,
        )


def _inside(name: str, entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return the place of an entry, which must lie inside the folder on any system."""
    # Zips made on Windows may separate folders by backslashes.
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    drive = PureWindowsPath(entry.filename).drive
    if path.is_absolute() or drive or ".." in path.parts or not path.parts:
        raise Refusal(
            "{name}: {filename!r} points out of the folder it is unpacked to; expected plain names; zip the "
            "folder of the series itself",
            name=name,
            filename=entry.filename,
        )
    return path


def _too_large(name: str, limits: ZipLimits) -> Sentence:
    text = "{name}: unpacks to more than {most:.0f} MiB; expected one series; zip that only"
    return Sentence(text, name=name, most=limits.unpacked_bytes / MIB)


def _copy(packed: IO[bytes], file: IO[bytes], limit: int) -> int:
    """Copy until the end or beyond the limit; return the number of bytes copied."""
    count = 0
    while count <= limit and (block := packed.read(BLOCK_BYTES)):
        file.write(block)
        count += len(block)
    return count
