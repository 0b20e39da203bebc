"""Sentences for users, with a public wording without names: it keeps numbers and the project's own words only."""

from __future__ import annotations

import os
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path, PurePath
from typing import Any, Self

import numpy as np

from machine.package import PROJECT, is_ours

# Replacement of a path or a text in the public wording, by the name of its field in the template.
NEUTRAL = {
    "where": "the scan",
    "source": "the scan",
    "path": "a file",
    "file": "a file",
    "example": "a file",
    "folder": "a folder",
    "mask": "the mask",
    "cohort": "the cohort",
}
HIDDEN = "[not shown]"


class Word(str):
    """A text that may be public: a literal of this code, or an entry of one of its vocabularies."""


def word_of(text: str, vocabulary: Collection[str]) -> str:
    """Return a text as a `Word` where a vocabulary has it, else as it is."""
    return Word(text) if text in vocabulary else text


def kind_of(error: BaseException) -> Word:
    """Return the kind of an error: the system's message where it has one, else its class."""
    return Word(os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__)


def cause_of(error: BaseException) -> Sentence:
    """Return the error of a library or the system as a part of a sentence: its kind, then its text, on one line."""
    if isinstance(error, OSError) and error.errno:
        return Sentence("{kind}", kind=kind_of(error))
    return Sentence("{kind} {text}", kind=kind_of(error), text=" ".join(str(error).split())[:200])


class Sentence(str):
    """A sentence, and its public wording, for files that are shared.

    Attributes:
        public: Wording without any text of a user, a file or a header, so that it cannot hold a name.
    """

    public: str

    def __new__(cls, template: str, **parts: object) -> Self:
        """Fill in a template.

        Args:
            template: A literal with a field for every part, as for `str.format`; fields are plain names.
            **parts: The values of the fields. In the public wording numbers, `Word`s and other sentences stand; every
                other text or path, which may be named after a patient, gives way to a neutral word.
        """
        text = template.format(**{name: _full(part) for name, part in parts.items()})
        return cls.in_wordings(text, template.format(**{name: _shown(name, part) for name, part in parts.items()}))

    @classmethod
    def in_wordings(cls, text: str, public: str) -> Self:
        """Make a sentence from two wordings that were built elsewhere."""
        sentence = super().__new__(cls, text)
        sentence.public = public
        return sentence

    @classmethod
    def joined(cls, separator: str, sentences: Iterable[Sentence]) -> Self:
        """Join several sentences into one, with a separator between them."""
        parts = list(sentences)
        return cls.in_wordings(separator.join(parts), separator.join(part.public for part in parts))

    @property
    def record(self) -> list[str]:
        """Both wordings, to be written down where the user alone reads them."""
        return [str(self), self.public]

    @classmethod
    def of_record(cls, record: list[str]) -> Self:
        """Return the sentence that was written down as a `record`."""
        text, public = record
        return cls.in_wordings(text, public)

    def in_private(self, text: str) -> Sentence:
        """Return a sentence with the same public wording and another private one."""
        return Sentence.in_wordings(text, self.public)

    def __reduce__(self) -> tuple[Any, ...]:
        return Sentence.in_wordings, (str(self), self.public)


class Refusal(ValueError):  # noqa: N818  # no failure of the program
    """Error for users in one sentence: what was got, where, what was expected, what to do.

    Args:
        template: As of `Sentence`.
        **parts: The values of its fields.
    """

    def __init__(self, template: str, **parts: object) -> None:
        super().__init__(template if isinstance(template, Sentence) else Sentence(template, **parts))

    @classmethod
    def of(cls, sentence: Sentence) -> Refusal:
        """Make a refusal of a sentence."""
        return cls(sentence)

    @property
    def sentence(self) -> Sentence:
        """Return the sentence with both wordings."""
        sentence: Sentence = self.args[0]
        return sentence


def sentence_of(error: BaseException) -> Sentence:
    """Return an error as a sentence; if it is no `Refusal`, its public wording is its kind and where it arose."""
    if isinstance(error, Refusal):
        return error.sentence
    public = Sentence("{kind}{origin}; what it says is not shown here", kind=kind_of(error), origin=origin_of(error))
    return public.in_private(str(error) or type(error).__name__)


def origin_of(error: BaseException) -> Sentence:
    """Return the last line of this project that an error passed through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if is_ours(path):
            module = Word(path.relative_to(PROJECT).as_posix())
            return Sentence(" in {module}, line {line}", module=module, line=frame.lineno)
    return Sentence("")


class _Hidden:
    """Replacement of a part for any format of its field: `{}`, `{!r}` or `{:>8}`."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __str__(self) -> str:
        return self.word

    __repr__ = __str__

    def __format__(self, specification: str) -> str:
        return self.word


def _full(part: object) -> object:
    """Return a part for the user: on one line, and without the control characters that damaged headers hold."""
    if isinstance(part, Sentence | Word) or not isinstance(part, str | PurePath | BaseException):
        return part
    text = " ".join(str(part).splitlines())
    return "".join(character if character.isprintable() else "?" for character in text)


def _shown(name: str, part: object) -> object:
    if isinstance(part, Refusal):
        return part.sentence.public
    if isinstance(part, Sentence):
        return part.public
    if isinstance(part, Word) or _is_number(part):
        return part
    return _Hidden(NEUTRAL.get(name, HIDDEN))


def _is_number(part: object) -> bool:
    """Return whether a part consists of numbers only."""
    if isinstance(part, np.ndarray):
        return part.dtype.kind in "biuf"
    if isinstance(part, tuple | list):
        return all(map(_is_number, part))
    return part is None or isinstance(part, int | float | np.number | np.bool_ | np.dtype)
