"""The end of every command line: one line for what a user or the machine did wrong, a traceback for what we did."""

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from machine.package import is_ours

WRITABLE = "expected a place that you may write to: name another, or have its rights changed"
ROOM = "make room, or name another place"
# What a file system may refuse, and what a user can do about it.
ADVICE = {
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    errno.EROFS: WRITABLE,
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.ENOTDIR: "expected a folder: name another place",
    errno.EISDIR: "expected a file: move the folder away",
    errno.EEXIST: "expected a folder: move the file away, or name another place",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EIO: "have the disk checked, or name another place",
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a ValueError raised by this project's own code, and what a file system refuses, into one line and exit 2.

    The house's rule is that ValueError is for users. One that a library raises on its own is a bug of ours until
    shown otherwise, so it keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        cause = cause_for_users(error)
        if cause is None:
            raise
        print(f"error: {_sentence(cause)}", file=sys.stderr)
        raise SystemExit(2) from error


def cause_for_users(error: BaseException | None) -> ValueError | OSError | None:
    """Return the first error for users among an error and its causes: jsonargparse wraps those it meets."""
    while error is not None:
        if isinstance(error, OSError) and error.filename is not None and error.errno in ADVICE:
            return error
        if isinstance(error, ValueError) and _raised_by_us(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError):
        assert error.errno is not None
        return f"{error.filename}: {error.strerror}; {ADVICE[error.errno]}"
    return str(error)


def _raised_by_us(error: ValueError) -> bool:
    file = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    return is_ours(file)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run the main function of a command line and end this process with its exit code.

    A reader of its output who leaves (`| head`) does not end it: its work is in files, and it is done to the end.
    """
    sys.stdout, sys.stderr = _outliving(sys.stdout), _outliving(sys.stderr)
    with one_line_errors():
        code = main()
        sys.stdout.flush()  # at the interpreter's own end, what cannot be written would be a traceback
        sys.exit(code)


class _Descriptor(io.FileIO):
    """An open descriptor that swallows what nobody reads any more."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, self.fileno())  # whatever is still to come
            os.close(sink)
            if not isinstance(error, BrokenPipeError):  # without a name, it would be taken for that of a result
                raise OSError(error.errno, error.strerror, f"/dev/fd/{self.fileno()}") from None
            return len(data)


def _outliving(stream: TextIO) -> TextIO:
    """Wrap a stream so that writing goes on when its reader leaves."""
    assert isinstance(stream, io.TextIOWrapper)
    written = io.BufferedWriter(_Descriptor(stream.fileno(), "w", closefd=False))
    at_once = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(written, stream.encoding, stream.errors, line_buffering=at_once)
