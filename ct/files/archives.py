"""Packed files, recognised by their first bytes or their suffix."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ct.refusal import Sentence, word_of

TAR_MAGIC, TAR_AT = b"ustar", 257
MAGIC = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
SUFFIXES = {".zip": "zip", ".tar": "tar", ".tgz": "gzip", ".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
SUFFIXES |= {".7z": "7z", ".rar": "rar"}
KINDS = {*MAGIC.values(), *SUFFIXES.values()}


def archive_kind(path: Path) -> str:
    """Return the kind of a packed file.

    Args:
        path: The file; one that cannot be read is recognised by its suffix.

    Returns:
        zip, gzip, bzip2, xz, 7z, rar or tar; "" for any other file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(TAR_AT + len(TAR_MAGIC))
    except OSError:
        start = b""
    return kind_of_start(start) or SUFFIXES.get(path.suffix.lower(), "")


def kind_of_start(start: bytes) -> str:
    """Return the kind of a packed file by its first bytes, of which a tar needs 262; "" where they show none."""
    if start[TAR_AT:].startswith(TAR_MAGIC):
        return "tar"
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")


def describe_archive(path: Path) -> Sentence:
    """Describe a packed file and what to do with it; an empty sentence for any other file."""
    kind = archive_kind(path)
    if kind == "zip" and not zipfile.is_zipfile(path):
        return Sentence("a zip that is cut off or damaged; get it again and unpack it")
    text = "packed ({kind}); unpack it and give the folder or file inside"
    return Sentence(text, kind=word_of(kind, KINDS)) if kind else Sentence("")
