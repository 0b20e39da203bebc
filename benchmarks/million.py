"""Claim: nothing but disk stands between ten thousand scans and a million: tables, leakage guard and latent labels.

For 10^2 to 10^6 scans of 60 slices, on tables that are made up (each in a process of its own, whose peak of memory is
taken): `table` reads and checks cohort.csv, draws splits and counts the composition; `verdicts` writes verdicts.csv and
its summary; `leaks` compares all scans by signatures of chance; `leaks, alike` by signatures as alike as real volumes
(0.41 of their bits differ; up to 100,000 scans); `latent` makes the store of the training slices of 256 x 256, writes
the masks of 2,000 of them, reads them back in another order and opens the file again.

    python -m benchmarks.million [--most 1000000]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cohort.composition import composition
from cohort.leakage import LeakRecord, find_leaks
from cohort.prepare.verdicts import PASS, Verdict, summary, write_verdicts
from cohort.splits import assign_splits
from cohort.table import read_cohort
from evaluation.tables import markdown
from lightning_modules.latent import MaskStore

SLICES_A_SCAN, SIZE, LABELLED = 60, 256, 2000
# Bits that are set as often as this differ in 0.41 of pairs.
ALIKE = 0.29
MOST_ALIKE = 100_000


def table(scans: int, folder: Path) -> None:
    """Read, split and count a cohort of two scans a patient."""
    (folder / "image.nii.gz").write_bytes(b"never read")
    with (folder / "cohort.csv").open("w", encoding="utf-8") as file:
        file.write("scan_id,patient_id,site,image,has_consolidation,split\n")
        for scan in range(scans):
            file.write(f"scan{scan:07d},patient{scan // 2:07d},site{scan % 7},image.nii.gz,{scan % 2},\n")
    started()
    composition(assign_splits(read_cohort(folder / "cohort.csv").rows, 0))


def verdicts(scans: int, folder: Path) -> None:
    """Write the verdicts of scans, one of ten refused, one of three warned of."""
    started()
    rows = [
        Verdict(f"scan{n:07d}", f"site{n % 7}", "train", PASS, (), (f"a gap of {n} mm",) if n % 3 == 0 else (), "i.nii")
        for n in range(scans)
    ]
    write_verdicts(rows, folder / "verdicts.csv")
    summary(rows)


def leaks(scans: int, folder: Path, likely: float = 0.5) -> None:
    """Compare all scans of three splits, of which every thousandth shows what the one before shows."""
    generator = np.random.default_rng(0)
    bits = (generator.random((scans, 1280), np.float32) < likely) if likely != 0.5 else None
    words = np.packbits(bits, axis=1) if bits is not None else generator.integers(0, 256, (scans, 160), np.uint8)
    words[1::1000] = words[::1000][: len(words[1::1000])]
    split = np.array(["train", "val", "test"])[generator.choice(3, scans, p=[0.7, 0.15, 0.15])]
    records = [LeakRecord(f"s{n}", f"p{n}", split[n], f"f{n}", row.tobytes().hex()) for n, row in enumerate(words)]
    planted = sum(split[n] != split[n + 1] for n in range(0, scans - 1, 1000))
    started()
    assert len(find_leaks(records)) == planted


def alike(scans: int, folder: Path) -> None:
    """Do as `leaks`, with signatures as alike as those of real volumes."""
    leaks(scans, folder, ALIKE)


def latent(scans: int, folder: Path) -> None:
    """Write and read masks of training slices."""
    torch.set_num_threads(1)
    started()
    slices, device = int(0.8 * scans * SLICES_A_SCAN), torch.device("cpu")
    store = MaskStore(slices, (SIZE, SIZE), device, folder / "latent")
    rows = torch.randperm(slices)[:LABELLED]
    masks = torch.rand(16, 1, SIZE, SIZE) > 0.5
    for part in rows.split(16):
        store.set(part, masks[: len(part)])
    for part in rows.flip(0).split(16):
        store.get(part)
    again = MaskStore(slices, (SIZE, SIZE), device, folder / "latent")
    assert torch.equal(again.get(rows[:16]), masks)


WORK = {"table": table, "verdicts": verdicts, "leaks": leaks, "leaks, alike": alike, "latent": latent}
_began = 0.0


def started() -> None:
    """Begin to count seconds."""
    global _began
    _began = time.perf_counter()


def measured(name: str, scans: int) -> dict[str, float]:
    """Do a work in this process; return seconds, and GB of memory and of disk."""
    with tempfile.TemporaryDirectory() as folder:
        WORK[name](scans, Path(folder))
        seconds = time.perf_counter() - _began
        disk = sum(file.stat().st_blocks * 512 for file in Path(folder).rglob("*"))
    return {"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "disk_gb": disk / 1e9}


def main() -> None:
    """Print a table, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000, help="scans up to which it goes")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], int(options.one[1]))))
        return
    rows, figures = [], {}
    for scans in [10**power for power in range(2, 7) if 10**power <= options.most]:
        cells = [f"{scans:,}"]
        for name in WORK:
            if name == "leaks, alike" and scans > MOST_ALIKE:
                cells.append("")
                continue
            command = [sys.executable, "-m", "benchmarks.million", "--one", name, str(scans)]
            figure = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            figures[f"{name} {scans}"] = figure
            cells.append(f"{figure['seconds']:.1f} s, {figure['gb']:.2f} GB")
        rows.append(cells)
    print(markdown(["scans", *WORK], rows))
    print(json.dumps({"name": "million", **figures}))


if __name__ == "__main__":
    main()
