"""The command `ground-glass view`, which needs the extra `viewer`."""

import importlib.util
import sys
from collections.abc import Sequence

from ct.refusal import Refusal
from viewer.options import read_options


def main(args: Sequence[str] | None = None) -> None:
    """Serve the pages on 127.0.0.1 until stopped.

    Raises:
        Refusal: Streamlit is not installed.
    """
    options = read_options(args)
    if importlib.util.find_spec("streamlit") is None:
        raise Refusal('the viewer needs Streamlit, which is not installed: pip install "ground-glass[viewer]"')
    if args is not None:
        sys.argv[1:] = args  # each page reads them anew
    from viewer.serve import serve

    serve(options)
