"""Rows of docs/performance.md on a CUDA card: training step, E-step, predict and two processes; then one JSON line.

The claims are those of `training_step`, `e_step` and `new_scan`, whose functions measure them. Two processes train with
half of the slices each, on a card each, over nccl, or on the only card, over gloo: there they show what the exchange
costs, not what a second card gains.

    python -m benchmarks.gpu_rows
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy

from benchmarks import e_step, new_scan, training_step
from benchmarks.prepared_example import write_prepared
from benchmarks.timing import interleaved, median
from ct.refusal import Refusal
from evaluation.tables import markdown
from lightning_modules.augment import Augmentation
from machine.command_line import run_command
from machine.host_memory import keep_freed_memory
from training.precision import fastest_precision

LONGEST_S = 600  # that a training in several processes may take
HEADER = ["claim", "against", "aim", "measured", "script in `benchmarks/`"]


@dataclass(frozen=True)
class Size:
    """Sizes of what is measured; the defaults are the paper's network and a card's work.

    Attributes:
        pixels: Of a side of a slice.
        channels: Of the network's first convolution.
        steps: Counted steps of a training.
        scans: Of the E-step.
        repeats: Counted repeats.
        num_workers: Loader processes.
    """

    pixels: int = 256
    channels: int = 32
    steps: int = 50
    scans: int = 100
    repeats: int = 3
    num_workers: int = 8


@dataclass(frozen=True)
class Row:
    """A row of the table of docs/performance.md."""

    claim: str
    against: str
    aim: str
    measured: str
    script: str

    @property
    def cells(self) -> list[str]:
        """Its cells in the order of HEADER."""
        return [self.claim, self.against, self.aim, self.measured, f"`{self.script}`"]


def training_row(size: Size) -> Row:
    """Measure `trainer.fit` beside a bare loop."""
    speeds = training_step.compare(
        size.pixels, size.channels, Augmentation(), size.steps, size.repeats, size.num_workers
    )
    return Row(
        f"`trainer.fit` in steady state, {size.pixels} x {size.pixels}, {size.channels} channels",
        "a bare loop, batches in memory",
        "0.95",
        f"{speeds['fit'] / speeds['bare']:.2f} ({speeds['fit']:.0f} of {speeds['bare']:.0f} samples/s)",
        "training_step",
    )


def e_step_row(size: Size) -> Row:
    """Measure an epoch's E-step beside a forward pass."""
    costs = e_step.compare(size.pixels, size.channels, size.scans, size.repeats)
    return Row(
        f"E-step of an epoch, {costs['slices']} slices of {size.pixels} x {size.pixels}",
        "one forward pass over its slices",
        "1.10x",
        f"{costs['ratio']:.2f}x ({costs['e_step']:.2f} s of {costs['best']:.2f} s)",
        "e_step",
    )


def predict_row(size: Size) -> Row:
    """Measure a new scan from its file to masks and volumes, beside a loop over slices."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint, scan = new_scan.write_both(folder)
        ways: dict[str, Callable[[], Any]] = {
            "ours": lambda: new_scan.ours(checkpoint, scan, folder),
            "loop": lambda: new_scan.slice_by_slice(checkpoint, scan, folder),
        }
        seconds = {name: median(values) for name, values in interleaved(ways, size.repeats).items()}
    side = new_scan.SIDE
    return Row(
        f"scan of {new_scan.SLICES} x {side} x {side}, file to masks and volumes",
        "slice by slice",
        "2x",
        f"{seconds['loop'] / seconds['ours']:.1f}x ({seconds['ours']:.1f} s of {seconds['loop']:.1f} s)",
        "new_scan",
    )


def together(processes: int, prepared: Path, size: Size) -> float:
    """Train in several processes at once and return their samples per second, together.

    Args:
        processes: How many, each as a machine of its own to Lightning, so that they may share a card.
        prepared: The prepared scans.
        size: Sizes.

    Raises:
        subprocess.CalledProcessError: One of them failed; its reason is on stderr.
        subprocess.TimeoutExpired: One waits for another that has failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cards = _cards()
    backend = "nccl" if len(cards) >= processes else "gloo"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_rows", "--rank", str(prepared), backend]
    numbers = [processes, size.pixels, size.channels, size.steps, size.num_workers]
    command += [str(number) for number in numbers]
    running = []
    for rank in range(processes):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": "0", "NODE_RANK": str(rank)}
        if len(cards) >= processes:
            place["CUDA_VISIBLE_DEVICES"] = cards[rank]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | place))
    try:
        texts = [process.communicate(timeout=LONGEST_S)[0] for process in running]
    finally:  # one that has failed leaves the others waiting for it
        for process in running:
            process.kill()
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    slowest = max(float(text.split()[-1]) for text in texts)
    return processes * size.steps * training_step.BATCH_SIZE / slowest


def _cards() -> list[str]:
    """Return the cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return numbers if visible is None else visible.split(",")[: len(numbers)]


def train_as_rank(prepared: Path, backend: str, processes: int, size: Size) -> float:
    """Train as one of several processes, as the environment says which; return the seconds of the counted steps."""
    os.environ["PL_GLOBAL_SEED"] = "0"
    keep_freed_memory()
    options: dict[str, Any] = {"devices": 1}
    if processes > 1:
        options |= {"num_nodes": processes, "strategy": DDPStrategy(process_group_backend=backend)}
    workers = size.num_workers
    return training_step.fit(prepared, size.pixels, size.channels, Augmentation(), size.steps, workers, **options)


def two_processes_row(size: Size) -> Row:
    """Measure two processes that train together beside one."""
    with tempfile.TemporaryDirectory() as temporary:
        scans = 2 * training_step.scans_of(size.steps)
        prepared = write_prepared(Path(temporary) / "prepared", scans=scans, size=size.pixels)
        one, two = (together(processes, prepared, size) for processes in (1, 2))
    where = "a card each" if torch.cuda.device_count() > 1 else "sharing the device"
    return Row(
        f"two processes, {where}, {size.pixels} x {size.pixels}, samples/s",
        "one process",
        "documented",
        f"{two / one:.2f}x ({two:.0f} of {one:.0f} samples/s)",
        "gpu_rows",
    )


def card() -> dict[str, str]:
    """Return the name of the card and what drives it.

    Raises:
        Refusal: There is none.
    """
    if not torch.cuda.is_available():
        raise Refusal(
            "torch {version} finds no CUDA card on this machine; run this where torch.cuda.is_available() is true",
            version=torch.__version__,
        )
    return {
        "card": torch.cuda.get_device_name(0),
        "cards": str(torch.cuda.device_count()),
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
        "precision": fastest_precision(),
    }


def main(args: list[str] | None = None) -> int:
    """Print the rows as they are measured, the table and the line; return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=Size.repeats)
    parser.add_argument("--num-workers", type=int, default=Size.num_workers)
    parser.add_argument("--rank", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.rank:
        prepared, backend = options.rank[:2]
        processes, pixels, channels, steps, workers = map(int, options.rank[2:])
        size = Size(pixels=pixels, channels=channels, steps=steps, num_workers=workers)
        print(train_as_rank(Path(prepared), backend, processes, size))
        return 0
    machine = card()
    os.environ["PL_GLOBAL_SEED"] = "0"
    keep_freed_memory()
    size = Size(repeats=options.repeats, num_workers=options.num_workers)
    rows = []
    for measure in (training_row, e_step_row, predict_row, two_processes_row):
        rows.append(measure(size))
        print(" | ".join(rows[-1].cells), file=sys.stderr, flush=True)
    print(
        f"Measured on {machine['card']} (CUDA {machine['cuda']}, torch {machine['torch']}, {machine['precision']}):\n"
    )
    print(markdown(HEADER, [row.cells for row in rows]))
    print(json.dumps({"name": "gpu_rows", **machine, "rows": [row.cells for row in rows], "n": size.repeats}))
    return 0


if __name__ == "__main__":
    run_command(main)
