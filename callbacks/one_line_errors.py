"""What a user did wrong ends in one line; what we did wrong ends in a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a ValueError raised by this project's own code, and a wrong option, into `error: ...` and exit code 2.

    The house's rule is that ValueError is for users. One that a library raises is a bug of ours until shown
    otherwise, so it keeps its traceback.
    """
    try:
        yield
    except ValueError as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        if PROJECT not in raised_in.parents or "site-packages" in raised_in.parts:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except SystemExit as error:
        if error.code == 2:
            print("error: see the message above; an experiment's keys are listed in its file and in experiments/base.yaml", file=sys.stderr)
        raise
