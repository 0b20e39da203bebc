"""Seconds of a training step of the network by number format, memory layout and allocator, as one JSON line.

Forward, loss, backward and Adam of UNet-1 on one batch in memory. The other is plain PyTorch: float32,
default layout, glibc's defaults. Ours is what every training here does: channels_last, bf16 autocast where the hardware
has it, and freed memory kept (`machine/host_memory.py`). `others` has the steps between, each with one setting more,
and with `--compile` ours under torch.compile, whose first step takes a minute. Two processes, one with each allocator
setting, take turns.

    python -m benchmarks.network_step --compile
"""

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection

import torch

from benchmarks.timing import interleaved, line, median
from losses.dice import dice_loss
from machine.host_memory import keep_freed_memory
from networks.unet import UNet
from training.precision import fastest_precision

# name: (freed memory is kept, channels_last, bf16)
WAYS = {
    "float32": (False, False, False),
    "+ channels_last": (False, True, False),
    "+ bf16": (False, True, True),
    "+ freed memory kept": (True, True, True),
    "all but bf16": (True, True, False),
}


class Step:
    """A training step of UNet-1 on one batch in memory."""

    def __init__(self, options: argparse.Namespace, channels_last: bool, bf16: bool) -> None:
        torch.manual_seed(0)
        self.device, self.bf16 = torch.device("cuda" if torch.cuda.is_available() else "cpu"), bf16
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = UNet(7, 1, options.channels).to(self.device, memory_format=layout)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3)
        shape = options.batch_size, 7, options.size, options.size
        self.x = torch.randn(shape, device=self.device).to(memory_format=layout)
        self.target = (torch.rand(shape, device=self.device)[:, :1] > 0.9).to(torch.int8)

    def __call__(self) -> None:
        """Take one step and wait until it is done."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = dice_loss(self.network(self.x), self.target, valid=self.target >= 0)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def serve(pipe: Connection, options: argparse.Namespace, keep: bool) -> None:
    """Take steps on demand, by name."""
    torch.set_num_threads(options.threads)
    keep_freed_memory(keep)
    steps = {name: Step(options, layout, bf16) for name, (kept, layout, bf16) in WAYS.items() if kept == keep}
    if keep and options.compile:
        steps["+ torch.compile"] = Step(options, True, fastest_precision() == "bf16-mixed")
        steps["+ torch.compile"].network.compile(dynamic=False)
    while (name := pipe.recv()) is not None:
        steps[name]()
        pipe.send(name)


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="also torch.compile: a minute more")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for keep in (False, True):
        pipes[keep], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, options, keep), daemon=True))
        processes[-1].start()

    def step(name: str, keep: bool) -> None:
        pipes[keep].send(name)
        pipes[keep].recv()

    names = {name: keep for name, (keep, _, _) in WAYS.items()} | ({"+ torch.compile": True} if options.compile else {})
    started = time.perf_counter()
    seconds = interleaved({name: lambda n=name, k=keep: step(n, k) for name, keep in names.items()}, options.repeats)
    took = time.perf_counter() - started
    for pipe in pipes.values():
        pipe.send(None)
    medians = {name: median(values) for name, values in seconds.items()}
    ours = medians["+ freed memory kept" if fastest_precision() == "bf16-mixed" else "all but bf16"]
    shape = {"batch": [options.batch_size, 7, options.size, options.size], "channels": options.channels}
    line("network_step", ours, medians["float32"], "s", options.repeats, others=medians, whole_s=took, **shape)


if __name__ == "__main__":
    main()
