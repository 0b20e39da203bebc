"""Claim: a training process grows by less than 100 MB when the cohort grows tenfold.

Two processes read and augment the same number of shuffled batches, one from 20 scans and one from 200, each scan in
files of its own; their largest resident sizes are compared. Nothing but the input is run: the network does not know
how many scans there are.

    python -m benchmarks.memory
"""

import argparse
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from benchmarks.timing import line, peak_mb

FEW, MANY, SLICES, SIZE, BATCHES = 20, 200, 40, 128, 300


def read(prepared: Path) -> None:
    """Take batches, then print the largest resident size in MB."""
    from benchmarks.input_pipeline import our_data, ours

    for _ in islice(ours(our_data(prepared)), BATCHES):
        pass
    print(peak_mb())


def resident_mb(prepared: Path) -> float:
    """Return the largest resident size of a fresh process that reads a cohort."""
    command = [sys.executable, "-m", "benchmarks.memory", "--read", str(prepared)]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(process.stdout.splitlines()[-1])


def main() -> None:
    """Print MB of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", type=Path, help="only read this prepared cohort")
    prepared = parser.parse_args().read
    if prepared:
        return read(prepared)
    from benchmarks.prepared_example import write_prepared

    with tempfile.TemporaryDirectory() as folder:
        sizes = [resident_mb(write_prepared(Path(folder, str(scans)), scans, SLICES, SIZE)) for scans in (FEW, MANY)]
    line("memory", sizes[1], sizes[0], "MB", 1, more_mb=sizes[1] - sizes[0], scans=[FEW, MANY], batches=BATCHES)


if __name__ == "__main__":
    main()
