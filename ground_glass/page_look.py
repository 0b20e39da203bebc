"""Colours, mask strengths and window presets for the page in the browser: those of the viewer, as JSON for its build.

python -m ground_glass.page_look browser/model/look.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ct.classes import COLOUR_OF
from ct.colours import rgb_of
from ct.window_presets import WINDOW_PRESETS
from machine.command_line import run_command
from machine.whole_file import write_json

# The lungs are painted too, unlike in the viewer: no flag tells here that they may be wrong.
STRENGTHS = {"lungs": 0.15, "infection": 0.5}


def write_look(path: Path) -> None:
    """Write the overlays in the order in which they are painted, and the windows, of which the first is shown first."""
    overlays = [
        {"name": name, "rgb": rgb_of(COLOUR_OF[name]), "strength": strength} for name, strength in STRENGTHS.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json({"overlays": overlays, "windows": WINDOW_PRESETS}, path)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ground_glass.page_look", description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file to write")
    write_look(parser.parse_args(args).out)


if __name__ == "__main__":
    run_command(main)
