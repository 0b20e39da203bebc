"""Assertion that a file is refused in one sentence for users."""

from collections.abc import Callable
from pathlib import Path

import pytest


def assert_refused(
    read: Callable[..., object], path: Path, pattern: str, *parts: str, named: Path | None = None, **options: object
) -> None:
    """Assert that reading a path ends in one sentence: a ValueError on one line that names the file and says why.

    Args:
        read: Function that reads the path.
        path: The path.
        pattern: Regular expression that the sentence contains.
        parts: Further literal parts of the sentence.
        named: Path that the sentence names, if it is another one.
        options: Keyword arguments of `read`.
    """
    with pytest.raises(ValueError, match=pattern) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert str(named or path) in sentence
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence
