"""What every refusal of the gate owes a user, in one place."""

from collections.abc import Callable
from pathlib import Path

import pytest


def assert_refused(
    read: Callable[..., object], path: Path, pattern: str, *parts: str, named: Path | None = None, **options: object
) -> None:
    """Assert that reading a path ends in one sentence: a ValueError on one line that names the file and says why.

    Args:
        read: Does the reading.
        path: What it reads.
        pattern: Regular expression that the sentence contains.
        parts: Further text, word for word.
        named: What the sentence names, if not the path.
        options: For `read`.
    """
    with pytest.raises(ValueError, match=pattern) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert str(named or path) in sentence
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence
