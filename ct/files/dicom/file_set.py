"""DICOM files of a source, which is a file or a folder, and a note of the files left out."""

from __future__ import annotations

import os
from pathlib import Path

from ct.files.archives import describe_archive
from ct.files.dicom.tags import one_sentence
from ct.files.formats import VOLUME, is_volume_file
from ct.refusal import Refusal, Sentence, Word, kind_of

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Voxels that are no volume without the header beside them.
VOXEL_SUFFIXES = (".raw", ".zraw", ".img", ".img.gz")


def find_dicom_files(path: Path) -> tuple[list[Path], tuple[Sentence, ...]]:
    """Find the DICOM files of a source.

    Args:
        path: A file, or a folder that is searched with all its sub-folders.

    Returns:
        The files, sorted, and a sentence if others were left out (DICOMDIR, hidden files, files that are not DICOM,
        linked folders).

    Raises:
        ValueError: There is none, or a file with the suffix of DICOM is not DICOM.
    """
    if path.is_file():
        if not is_dicom_file(path):
            raise Refusal("{path}: {kind}", path=path, kind=_other_kind(path))
        return [path], ()
    files, left_out = [], []
    for file in _walk(path):
        if any(part.startswith(".") for part in file.relative_to(path).parts) or file.name.upper() == "DICOMDIR":
            left_out.append(file)
        elif file.is_file() and is_dicom_file(file):
            files.append(file)
        elif file.suffix.lower() in DICOM_SUFFIXES:
            raise Refusal(
                "{file}: not a readable DICOM file, although its name says so; a slice may be lost; export it "
                "again or take the file away",
                file=file,
            )
        else:
            left_out.append(file)
    if not files:
        raise Refusal(
            "{path}: no DICOM file in this folder; expected a folder that holds one CT series{hint}",
            path=path,
            hint=_hint(left_out),
        )
    if not left_out:
        return files, ()
    count, s = len(left_out), Word("s" if len(left_out) > 1 else "")
    text = "left out what is no DICOM image: {count} file{s}, for example {example}"
    return files, (Sentence(text, count=count, s=s, example=left_out[0].relative_to(path)),)


def _walk(folder: Path) -> list[Path]:
    def failed(error: OSError) -> None:
        raise Refusal(
            "{folder}: the folder cannot be read ({why}); expected a readable folder",
            folder=error.filename,
            why=kind_of(error),
        )

    paths = []
    for parent, folders, names in os.walk(folder, onerror=failed):
        # A linked folder is not entered, since links may go in circles, but it is listed among the files left out.
        paths += [Path(parent, name) for name in names + [name for name in folders if Path(parent, name).is_symlink()]]
    return sorted(paths)


def _other_kind(path: Path) -> Sentence:
    """Describe a file that is no scan, and say what to do."""
    if archive := describe_archive(path):
        return Sentence("not a CT scan but {archive}", archive=archive)
    if path.name.lower().endswith(VOXEL_SUFFIXES):
        return Sentence(
            "voxels without a header; expected a CT scan; give the header (.mhd, .nhdr, .hdr) with this file beside it"
        )
    text = "not a readable DICOM file (no DICOM header); expected a CT scan ({volume} or DICOM); export it again"
    return Sentence(text, volume=Word(VOLUME))


def _hint(files: list[Path]) -> Sentence:
    """Describe what a folder without DICOM files holds instead."""
    if any(map(is_volume_file, files)):
        return Sentence("; it holds {volume} files: give one of them", volume=Word(VOLUME))
    archive = next(filter(None, map(describe_archive, files)), None)
    return Sentence("; it holds what is {archive}", archive=archive) if archive else Sentence("")


def is_dicom_file(file: Path) -> bool:
    """Return whether a file is DICOM, judged by its first bytes.

    Raises:
        ValueError: It cannot be read.
    """
    with one_sentence(file, "the file cannot be read"), file.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        return True
    # Without the Part 10 header a file starts with an element of group 2 or 8, in either byte order.
    little = start[:1] in (b"\2", b"\x08") and start[1:2] == b"\0" and start[3:4] == b"\0"
    big = start[:1] == b"\0" and start[1:2] in (b"\2", b"\x08") and start[2:3] == b"\0"
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    implicit = little and int.from_bytes(start[4:8], "little") < 1024
    return len(start) == 132 and (((little or big) and explicit) or implicit)
