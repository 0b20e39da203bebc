"""Seconds to count a batch into the confusion table, beside torchmetrics' own IOU and Dice, as one JSON line.

The aim: three times faster than torchmetrics, which one scatter for all devices misses on a CPU (docs/performance.md),
and at most 2 % of a training step. Ours is `ScanConfusion.update`: a table per slice, inside the lungs, with unknown
truth apart, from which every figure follows. The others only give one IOU and one Dice over all: BinaryJaccardIndex
with BinaryF1Score (which is Dice), without their checks of the values, on masks that are cut to the lungs first, or
with `ignore_index` outside of them; and MeanIoU with DiceScore of torchmetrics.segmentation. The best of them counts.
Two sizes; the headline is 16 x 256 x 256.

    python -m benchmarks.confusion_table
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex
from torchmetrics.segmentation import DiceScore, MeanIoU

from benchmarks.network_step import Step
from benchmarks.timing import interleaved, line, median
from machine.host_memory import keep_freed_memory
from metrics.scan_confusion import ScanConfusion
from training.precision import fastest_precision

BATCH_SIZE = 16


def images(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return prediction bool, truth int8 in {-1, 0, 1} and lungs bool, (16, size, size) each."""
    draws = torch.rand(3, BATCH_SIZE, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    return draws[0] > 0.8, (draws[1] > 0.8).to(torch.int8), draws[2] > 0.6


def functions(size: int, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Return the timed functions by name."""
    prediction, truth, lung = images(size, device)
    rows = torch.arange(BATCH_SIZE, device=device)
    ours = ScanConfusion(1000).to(device)
    pair = [BinaryJaccardIndex(validate_args=False), BinaryF1Score(validate_args=False)]
    cut = MetricCollection(pair).to(device)
    ignoring = [kind(ignore_index=-1, validate_args=False) for kind in (BinaryJaccardIndex, BinaryF1Score)]
    ignore = MetricCollection(ignoring).to(device)
    segmentation = MetricCollection([MeanIoU(2, input_format="index"), DiceScore(2, input_format="index")]).to(device)

    def synchronised(update: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            update()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return call

    updates = {
        "ours": lambda: ours.update(prediction, truth, lung, rows),
        "binary, cut to the lungs": lambda: cut.update(prediction & lung, (truth == 1) & lung),
        "binary, ignore_index": lambda: ignore.update(prediction, torch.where(lung, truth, -1)),
        "segmentation": lambda: segmentation.update((prediction & lung).long(), ((truth == 1) & lung).long()),
    }
    return {name: synchronised(update) for name, update in updates.items()}


def compare(size: int, channels: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Return the medians by name, the best other, and our share of a training step of the same batch."""
    seconds = {name: median(s) for name, s in interleaved(functions(size, device), repeats).items()}
    options = argparse.Namespace(size=size, channels=channels, batch_size=BATCH_SIZE)
    step = Step(options, True, fastest_precision() == "bf16-mixed")
    step_seconds = median(interleaved({"step": step}, 3)["step"])
    best = min(value for name, value in seconds.items() if name != "ours")
    ours = seconds["ours"]
    return {"others": seconds, "best": best, "times_faster": best / ours, "of_step": ours / step_seconds}


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    phantom = compare(64, 16, options.repeats, device)
    paper = compare(256, 32, options.repeats, device)
    ours = paper["others"]["ours"]
    line("confusion_table", ours, paper["best"], "s", options.repeats, paper_sizes=paper, phantom_sizes=phantom)


if __name__ == "__main__":
    main()
