"""Command line of the viewer, read by the server and by its pages."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """Options of the command line.

    Attributes:
        runs: Folder of all runs.
        cohorts: Folder of all cohorts.
        port: On 127.0.0.1.
        modules: Modules of the user's own from which a checkpoint's network or prior may come.
    """

    runs: Path
    cohorts: Path
    port: int
    modules: Sequence[str]


def read_options(args: Sequence[str] | None = None) -> Options:
    """Read the command line; by default this process's own."""
    parser = argparse.ArgumentParser(prog="ground-glass view", description="Look at scans and runs in a browser.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"), help="folder of cohorts (default: cohorts)")
    parser.add_argument("--port", type=int, default=8501, help="port on 127.0.0.1 (default: 8501)")
    own = "modules of your own that a checkpoint's network or prior may come from; they are imported, and so run"
    parser.add_argument("--modules", nargs="+", default=(), help=own)
    return Options(**vars(parser.parse_args(args)))
