"""Files and folders that are whole or not there, whoever else writes the same and whenever a process is killed."""

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(path: Path, private: bool = False, alone: bool = False) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` when the block ends, unless by an error.

    Its name ends as that of `path` does, since some writers go by that, and, unless `alone`, no other process has the
    same, on this or another machine.

    Args:
        path: The file to write, in a folder that exists.
        private: Let nobody but the owner read it.
        alone: No other process writes it: what a killed one left behind is overwritten, so that leftovers do not grow.

    Raises:
        OSError: It cannot be written; what was at `path` is still there.
    """
    temporary = path.with_name(f".{'new' if alone else secrets.token_hex(6)}-{path.name}")
    try:
        mode = os.O_TRUNC if alone else os.O_EXCL
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | mode, 0o600 if private else 0o666))
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path, replace: bool = False, making: Path | None = None) -> Iterator[Path]:
    """Give a new folder to fill; it becomes `path` when the block ends, unless by an error.

    A process that is killed leaves it where it was, as a part that `remove_parts` takes away.

    Args:
        path: The folder to make, in one that exists.
        replace: Take the place of a folder that is there; without it, of an empty one at most. Of several processes
            that make the same folder at once, one wins.
        making: Where it lies until then, a folder of the same file system; beside `path` by default.

    Raises:
        OSError: It cannot be made; what was at `path` is still there.
    """
    place = making or path.parent
    temporary, former = (place / f".{path.name}.{secrets.token_hex(6)}.part" for _ in range(2))
    try:
        temporary.mkdir()
    except OSError as error:  # of the folder around it, not of a name that nobody has seen
        raise OSError(error.errno, error.strerror, str(place)) from None
    try:
        yield temporary
        if replace:
            _take_place(temporary, path, former)
        else:
            temporary.replace(path)
    finally:
        for leftover in (temporary, former):
            shutil.rmtree(leftover, ignore_errors=True)


def _take_place(temporary: Path, path: Path, former: Path) -> None:
    while True:
        with contextlib.suppress(FileNotFoundError):
            path.replace(former)
        try:
            temporary.replace(path)
            return
        except OSError as error:  # another process put the same folder there in between
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(former, ignore_errors=True)


def remove_parts(folder: Path, names: Collection[str] | None = None) -> None:
    """Take away what killed processes left of folders that they were filling.

    Args:
        folder: The folder around them, in which no other process makes any of these now.
        names: The names that they would have had; all of them by default.
    """
    for part in folder.glob(".*.part"):
        if names is None or part.name[1:].rsplit(".", 2)[0] in names:
            shutil.rmtree(part, ignore_errors=True)


def write_text(text: str, path: Path, alone: bool = False) -> None:
    """Write UTF-8 text, whole or not at all; `alone` as for `whole_file`."""
    with whole_file(path, alone=alone) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(values: Mapping[str, Any], path: Path, alone: bool = False) -> None:
    """Write JSON, whole or not at all; `alone` as for `whole_file`.

    Raises:
        ValueError: A value is NaN or infinite, which JSON has not.
    """
    write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", path, alone)
