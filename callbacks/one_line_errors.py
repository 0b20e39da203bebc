"""What a user did wrong ends in one line; what we did wrong ends in a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct.refusal import Sentence, sentence_of

PROJECT = Path(__file__).resolve().parents[1]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a ValueError raised by this project's own code, and a wrong option, into `error: ...` and exit code 2.

    The house's rule is that ValueError is for users. One that a library raises on its own is a bug of ours until
    shown otherwise, so it keeps its traceback.
    """
    try:
        yield
    except ValueError as error:
        ours = _raised_by_us(error)
        if ours is None:
            raise
        print(f"error: {ours}", file=sys.stderr)
        raise SystemExit(2) from error
    except SystemExit as stop:
        if stop.code == 2:
            print("error: see above; what can be set stands in the experiment's file and base.yaml", file=sys.stderr)
        raise


def _raised_by_us(error: BaseException | None) -> ValueError | None:
    """The first ValueError of this project's code among an error and its causes: jsonargparse wraps those it meets."""
    while error is not None:
        file = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        if isinstance(error, ValueError) and PROJECT in file.parents and "site-packages" not in file.parts:
            return error
        error = error.__cause__ or error.__context__
    return None


def why_it_failed(error: BaseException) -> Sentence | None:
    """Return the reason that ends a training, in both wordings; None where somebody asked for its end."""
    ours = _raised_by_us(error)
    if ours is not None:
        return sentence_of(ours)
    if isinstance(error, SystemExit) and error.code == 2:
        return Sentence("an option or its value was refused; the log of the training says which")
    return None if isinstance(error, SystemExit | KeyboardInterrupt) else sentence_of(error)
