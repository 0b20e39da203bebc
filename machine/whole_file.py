"""Files that are whole or not there, whoever else writes the same one and whenever a process is killed."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(path: Path, private: bool = False) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` when the block ends, unless by an error.

    The name is no other process's, on this or another machine, and ends as `path` does, since some writers go by that.

    Args:
        path: The file to write, in a folder that exists.
        private: Let nobody but the owner read it.

    Raises:
        OSError: It cannot be written; what was at `path` is still there.
    """
    passing = path.with_name(f".{secrets.token_hex(6)}-{path.name}")
    try:
        os.close(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        yield passing
        passing.replace(path)
    finally:
        passing.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole_file(path) as passing:
        passing.write_text(text, encoding="utf-8")


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write JSON, whole or not at all.

    Raises:
        ValueError: A value is NaN or infinite, which JSON has not.
    """
    write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", path)
