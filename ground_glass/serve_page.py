"""The command `ground-glass serve-page`: the page that segments a scan in the browser, as a folder of static files."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ct.refusal import Refusal
from machine.package import PROJECT
from machine.whole_file import whole_folder

BUILT = PROJECT / "browser" / "built"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ground-glass serve-page",
        description="Write the page that segments a scan in the browser: open its index.html, or serve the folder.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write, not there yet")
    options = parser.parse_args(args)
    try:
        write_page(options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    place = options.out / "index.html"
    print(f"open {place} in a browser, or put the folder on any web server; scans stay in the browser")
    return 0


def write_page(out: Path) -> None:
    """Copy the page that was built.

    Raises:
        ValueError: The folder is there, or the page was not built with this installation.
    """
    if not (BUILT / "index.html").is_file():
        raise Refusal("this installation has no page: it was built without Node.js; in a checkout, make page builds it")
    if out.exists():
        raise Refusal("{folder} exists already; name a new folder with -o", folder=out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as folder:
        shutil.copytree(BUILT, folder, dirs_exist_ok=True)
