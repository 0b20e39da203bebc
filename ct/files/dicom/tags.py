"""Tags of a DICOM file -> plain values, or one sentence; whatever the library raises on damaged bytes ends here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.datadict import keyword_dict
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ct.refusal import Refusal, Sentence, Word, cause_of, word_of

# Keyed by (implicit VR, little endian), for files without the header that names their transfer syntax.
PLAIN_SYNTAXES: dict[tuple[bool | None, bool | None], UID] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


def keyword(tag: str) -> str:
    """Return the keyword of a tag as a word that may be public; what DICOM's dictionary does not have stays a text."""
    return word_of(tag, keyword_dict)


@contextmanager
def one_sentence(file: Path, problem: str, **parts: object) -> Iterator[None]:
    """Turn whatever is raised inside into a ValueError of one sentence.

    Args:
        file: Named in the sentence.
        problem: What it means that the block failed; the template of a `Sentence`.
        parts: The values of its fields.

    Raises:
        ValueError: The block raised anything.
    """
    try:
        yield
    except Exception as error:  # Damaged bytes make pydicom and gdcm raise nearly every class there is.
        raise Refusal(
            "{file}: {problem} ({cause}); export it again",
            file=file,
            problem=Sentence(problem, **parts),
            cause=cause_of(error),
        ) from error


def read_dataset(file: Path, pixels: bool = False) -> pydicom.FileDataset:
    """Read a DICOM file, with or without the Part 10 header.

    Args:
        file: The file.
        pixels: Whether to read the pixels too.

    Returns:
        The dataset; its file_meta always names a transfer syntax.

    Raises:
        ValueError: Not readable as DICOM.
    """
    with one_sentence(file, "not a readable DICOM file"):
        dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = PLAIN_SYNTAXES[dataset.original_encoding]
    return dataset


def value(file: Path, dataset: pydicom.Dataset, tag: str) -> Any:
    """Return a tag's value as the library converts it, None where it is missing or empty.

    Args:
        file: Named in the error.
        dataset: The dataset or item that holds the tag.
        tag: Its keyword.

    Raises:
        ValueError: The stored bytes are no value of this tag.
    """
    with one_sentence(file, "{tag} cannot be read", tag=keyword(tag)):
        found = dataset.get(tag)
        return None if found is None or (hasattr(found, "__len__") and len(found) == 0) else found


def words(file: Path, dataset: pydicom.Dataset, tag: str) -> tuple[str, ...]:
    """Return a tag's text values in capitals, empty where it is missing.

    Args:
        file: Named in the error.
        dataset: The dataset or item that holds the tag.
        tag: Its keyword.

    Raises:
        ValueError: The stored bytes are no value of this tag.
    """
    found = value(file, dataset, tag)
    parts = [] if found is None else [found] if isinstance(found, str | bytes | int | float) else list(found)
    return tuple(str(part).strip().upper() for part in parts)


def text(file: Path, dataset: pydicom.Dataset, tag: str) -> str:
    """Return a tag's text on one line, "" where it is missing.

    Args:
        file: Named in the error.
        dataset: The dataset or item that holds the tag.
        tag: Its keyword.

    Raises:
        ValueError: The stored bytes are no value of this tag.
    """
    found = value(file, dataset, tag)
    return "" if found is None else " ".join(str(found).split())


def numbers(file: Path, dataset: pydicom.Dataset, tag: str, count: int) -> npt.NDArray[np.float64]:
    """Return a tag's numbers.

    Args:
        file: Named in the error.
        dataset: The dataset or item that holds the tag.
        tag: Its keyword.
        count: How many there must be.

    Returns:
        float64 (count,), finite.

    Raises:
        ValueError: Missing, not numbers, another count, or not finite.
    """
    found = value(file, dataset, tag)
    if found is None:
        raise Refusal(
            "{file}: {tag} is missing; without it the voxels have no place or no unit; export it again",
            file=file,
            tag=keyword(tag),
        )
    shown = str(found)[:60]
    with one_sentence(file, "{tag} is {found!r}; expected {count} numbers", tag=keyword(tag), found=shown, count=count):
        array = np.atleast_1d(np.asarray(found, dtype=np.float64))
    if array.shape != (count,) or not np.isfinite(array).all():
        raise Refusal(
            "{file}: {tag} is {found}; expected {count} finite number{s}; export it again",
            file=file,
            tag=keyword(tag),
            found=shown,
            count=count,
            s=Word("s" if count > 1 else ""),
        )
    return array


def whole_number(file: Path, dataset: pydicom.Dataset, tag: str) -> int:
    """Return a tag's single whole number.

    Args:
        file: Named in the error.
        dataset: The dataset or item that holds the tag.
        tag: Its keyword.

    Raises:
        ValueError: Missing or not one whole number.
    """
    return int(numbers(file, dataset, tag, 1)[0])
