"""Plain values of DICOM tags; whatever the library raises on damaged bytes becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Tags:
    """The tags of a file, or of an item in one of its sequences.

    Every method takes the keyword of a tag and raises a ValueError if the stored bytes are no value of that tag.

    Attributes:
        file: Named in errors.
        dataset: The header or the item.
    """

    file: Path
    dataset: pydicom.Dataset

    def __contains__(self, tag: str) -> bool:
        return tag in self.dataset

    def value(self, tag: str) -> Any:
        """Return a value as the library converts it, None where it is missing or empty."""
        with one_sentence(self.file, "{tag} cannot be read", tag=keyword(tag)):
            value = self.dataset.get(tag)
            return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value

    def items(self, tag: str) -> list[Tags]:
        """Return the items of a sequence, none where it is missing."""
        value = self.value(tag)
        with one_sentence(self.file, "{tag} cannot be read", tag=keyword(tag)):
            return [] if value is None else [Tags(self.file, item) for item in value]

    def words(self, tag: str) -> tuple[str, ...]:
        """Return text values in capitals, none where the tag is missing."""
        value = self.value(tag)
        parts = [] if value is None else [value] if isinstance(value, str | bytes | int | float) else list(value)
        return tuple(str(part).strip().upper() for part in parts)

    def text(self, tag: str) -> str:
        """Return a text on one line, "" where the tag is missing."""
        value = self.value(tag)
        return "" if value is None else " ".join(str(value).split())

    def numbers(self, tag: str, count: int) -> npt.NDArray[np.float64]:
        """Return the numbers of a tag, float64 (count,); refuse a missing tag, another count and what is not finite."""
        value = self.value(tag)
        if value is None:
            raise Refusal(
                "{file}: {tag} is missing; without it the voxels have no place or no unit; export it again",
                file=self.file,
                tag=keyword(tag),
            )
        shown, name = str(value)[:60], keyword(tag)
        with one_sentence(
            self.file, "{tag} is {value!r}; expected {count} numbers", tag=name, value=shown, count=count
        ):
            array = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if array.shape != (count,) or not np.isfinite(array).all():
            raise Refusal(
                "{file}: {tag} is {value}; expected {count} finite number{s}; export it again",
                file=self.file,
                tag=name,
                value=shown,
                count=count,
                s=Word("s" if count > 1 else ""),
            )
        return array

    def whole_number(self, tag: str) -> int:
        """Return the single whole number of a tag."""
        return int(self.numbers(tag, 1)[0])
