"""Steps per second of a training alone and beside five others, by the way its threads wait, as one JSON line.

The claim: processes that find the machine busy do together at least three times as many steps as with OpenMP's own
spinning, and one alone on an idle machine not fewer than 0.95 of them. Each process trains the phantom's UNet (64 x 64,
16 channels, batch of 16) with all cores; the figures of six are those of all together. `idle` and `busy` are the
project's two choices, `own` is libgomp's; the ratio is that of six processes, busy to own.

    python -m benchmarks.threads
"""

import argparse
import os
import subprocess
import sys
import time
from typing import Any

import machine.threads as waiting

# isort: split
import torch

from benchmarks.timing import line, median
from losses.dice import dice_loss
from networks.unet import UNet
from training.precision import fastest_precision

PROCESSES, SIZE, CHANNELS, BATCH_SIZE = 6, 64, 16, 16
# What libgomp does where nothing is set (env.c: 300,000), the project's choice on an idle machine, and on a busy one.
KINDS: dict[str, dict[str, str]] = {
    "own": {waiting.SPINS: "300000"},
    "idle": {waiting.SPINS: str(waiting.FEW_SPINS)},
    "busy": {waiting.POLICY: "passive"},
}


def train(seconds: float) -> float:
    """Train and return the steps per second of this process."""
    network = UNet(7, 1, CHANNELS).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    x = torch.randn(BATCH_SIZE, 7, SIZE, SIZE).to(memory_format=torch.channels_last)
    target = (torch.rand(BATCH_SIZE, 1, SIZE, SIZE) > 0.5).to(torch.int8)
    steps, started = -2, time.perf_counter()
    while steps < 1 or time.perf_counter() - started < seconds:
        if steps == 0:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=fastest_precision() == "bf16-mixed"):
            loss = dice_loss(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps / (time.perf_counter() - started)


def together(processes: int, kind: str, seconds: float) -> float:
    """Run several processes at once and return their steps per second, summed."""
    clean = {name: value for name, value in os.environ.items() if name not in (waiting.POLICY, waiting.SPINS)}
    command = [sys.executable, "-m", "benchmarks.threads", "--train", str(seconds)]
    running: list[Any] = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean | KINDS[kind]) for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in running)


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of every training")
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(train(options.train))
        return
    alone: dict[str, list[float]] = {kind: [] for kind in KINDS}
    six: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(options.repeats):
        for kind in KINDS:
            alone[kind].append(together(1, kind, options.seconds))
        for kind in KINDS:
            six[kind].append(together(PROCESSES, kind, options.seconds))
    figures = {
        f"{name}, {kind}": median(values)
        for name, speeds in (("alone", alone), (f"{PROCESSES} processes", six))
        for kind, values in speeds.items()
    }
    line("threads", median(six["busy"]), median(six["own"]), "steps/s", options.repeats, figures=figures)


if __name__ == "__main__":
    main()
