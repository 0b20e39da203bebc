"""All benchmarks that make their own data, a JSON line each, and those of a model if one is given.

python -m benchmarks --ckpt runs/unet_em/latest/best.ckpt
"""

import argparse
import subprocess
import sys
from pathlib import Path

from machine.command_line import run_command
from machine.latest import through_latest

OF_A_MODEL = "phantom_hardness"
# They need data, a card, hours or a page that only the user has.
OF_THE_USER = (
    "faint_lesions", "gpu_rows", "grey_windows", "page", "portable", "real_slices", "report_labels", "time_to_dice",
    "zero_shot",
)  # fmt: skip


def benchmarks() -> list[str]:
    """Return the names of the modules that measure something."""
    paths = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [path.stem for path in paths if "\ndef main(" in path.read_text(encoding="utf-8")]


def measure(name: str, *options: str) -> None:
    """Run a benchmark and print its line, the last that it writes.

    Raises:
        subprocess.CalledProcessError: It failed; its reason is on stderr.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *options]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(*text.splitlines()[-1:], flush=True)


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--ckpt", type=Path, help="best.ckpt of stage 2 of paper EM; without it, no model is measured")
    options = parser.parse_args()
    try:
        for name in benchmarks():
            if name not in (OF_A_MODEL, *OF_THE_USER):
                measure(name)
        if options.ckpt and through_latest(options.ckpt).is_file():
            measure(OF_A_MODEL, "--ckpt", str(options.ckpt))
    except subprocess.CalledProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
