"""What the viewer is started with."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """Folders of all runs and of all cohorts, and the port on 127.0.0.1."""

    runs: Path
    cohorts: Path
    port: int


def read_options(args: Sequence[str] | None = None) -> Options:
    """Read the command line; by default this process's own."""
    parser = argparse.ArgumentParser(prog="python -m viewer", description="Look at scans and runs in a browser.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"), help="folder of cohorts (default: cohorts)")
    parser.add_argument("--port", type=int, default=8501, help="port on 127.0.0.1 (default: 8501)")
    return Options(**vars(parser.parse_args(args)))
