"""Sentences with a second wording that cannot name anybody: numbers and our own words stand, other texts do not."""

import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
# What stands in the public wording for a path or a text, by the name of its field in the template.
NEUTRAL = {"scan": "the scan", "file": "a file", "folder": "a folder", "mask": "the mask", "cohort": "the cohort"}
HIDDEN = "[not shown]"


class Word(str):
    """A text that may be public: a literal, a DICOM keyword, the name of an option."""


class Sentence(str):
    """A sentence, and its wording for files that are shared.

    Args:
        template: A literal with a field for every part, as for `str.format`; fields are plain names.
        parts: The values of the fields. In the public wording numbers, `Word`s and other sentences stand; every other
            text or path, which may be named after a patient, gives way to a neutral word.

    Attributes:
        public: The wording that cannot hold a name, since nothing that a user, a file or a header said is in it.
    """

    public: str

    def __new__(cls, template: str, **parts: object) -> Self:
        return cls.of(template.format(**parts), _public(template, parts))

    @classmethod
    def of(cls, text: str, public: str) -> Self:
        """A sentence whose two wordings are there already."""
        sentence = super().__new__(cls, text)
        sentence.public = public
        return sentence

    def __reduce__(self) -> tuple[Any, ...]:
        return Sentence.of, (str(self), self.public)


class _Hidden:
    """Stands for a part whatever its place in the template asks for: `{}`, `{!r}` or `{:>8}`."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __str__(self) -> str:
        return self.word

    __repr__ = __str__

    def __format__(self, specification: str) -> str:
        return self.word


def _public(template: str, parts: Mapping[str, object]) -> str:
    return template.format(**{name: _shown(name, part) for name, part in parts.items()})


def _shown(name: str, part: object) -> object:
    if isinstance(part, Refusal):
        return part.sentence.public
    if isinstance(part, Sentence):
        return part.public
    if isinstance(part, Word) or _is_number(part):
        return part
    return _Hidden(NEUTRAL.get(name, HIDDEN))


def _is_number(part: object) -> bool:
    """Whether a part is numbers through and through."""
    if isinstance(part, np.ndarray):
        return part.dtype.kind in "biuf"
    if isinstance(part, tuple | list):
        return all(map(_is_number, part))
    return part is None or isinstance(part, int | float | np.number | np.bool_ | np.dtype)


class Refusal(ValueError):  # noqa: N818, it is what the sentence says, and a ValueError by its kind
    """What a user is told: what was got, where, what was expected, what to do.

    Args:
        template: As of `Sentence`; or a `Sentence` as it is.
        parts: The values of its fields.
    """

    def __init__(self, template: str, **parts: object) -> None:
        super().__init__(template if isinstance(template, Sentence) else Sentence(template, **parts))

    @property
    def sentence(self) -> Sentence:
        """The sentence with both wordings."""
        sentence: Sentence = self.args[0]
        return sentence


def sentence_of(error: BaseException) -> Sentence:
    """Return an error as a sentence; one not built from parts says in public only its kind and where it arose."""
    if isinstance(error, Refusal):
        return error.sentence
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno:
        return Sentence.of(text, f"a file cannot be used ({os.strerror(error.errno)}){_origin(error)}")
    return Sentence.of(text, f"{type(error).__name__}{_origin(error)}; what it says is not shown here")


def _origin(error: BaseException) -> str:
    """The last line of this project that an error came through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(PROJECT) and "site-packages" not in path.parts:
            return f" in {path.relative_to(PROJECT).as_posix()}, line {frame.lineno}"
    return ""
