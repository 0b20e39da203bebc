"""Claim: `train.py --help` takes at most 1.3 times as long as importing the libraries that it needs anyway.

Compared with `import torch, pytorch_lightning, monai` alone, each in a fresh interpreter.

    python -m benchmarks.startup
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import interleaved, line, median

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5


def fresh(*arguments: str) -> Callable[[], None]:
    """Return a function that runs Python once with these arguments."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)

    return run


def main() -> None:
    """Print seconds of both."""
    seconds = interleaved(
        {"ours": fresh("train.py", "--help"), "other": fresh("-c", "import torch, pytorch_lightning, monai")}, REPEATS
    )
    line("start-up", median(seconds["ours"]), median(seconds["other"]), "s", REPEATS)


if __name__ == "__main__":
    main()
