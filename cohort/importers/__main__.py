"""The command `ground-glass import <data set> --folder <...> --out <folder>`: a cohort.csv of a public data set."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from machine.command_line import run_command
from machine.package import here


def heads() -> dict[str, str]:
    """Return what can be imported, by the name of its module, with the first line of its docstring."""
    paths = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].strip('"') for path in paths}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    name, *options = list(sys.argv[1:] if args is None else args) or [""]
    importers = heads()
    if name not in importers:
        wants_help = name in ("-h", "--help")
        stream = sys.stdout if wants_help else sys.stderr
        start = "usage: " if wants_help else "error: name a data set: "
        print(f"{start}ground-glass import <one of these> --folder <as downloaded> --out <folder>", file=stream)
        print(*(f"  {name:<16} {head}" for name, head in importers.items()), sep="\n", file=stream)
        return 0 if wants_help else 2
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--folder", default="?")
    if not parser.parse_known_args(options)[0].folder:
        ways = "--folder <folder>, FOLDER=<folder> of make"
        print(f"error: name the folder of {name} as downloaded: {ways}", file=sys.stderr)
        return 2
    code: int = importlib.import_module(here(f"cohort.importers.{name}")).main(options)
    return code


if __name__ == "__main__":
    run_command(main)
