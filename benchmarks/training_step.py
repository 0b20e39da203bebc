"""Samples per second of `trainer.fit` in steady state, beside a bare loop of the same network, as one JSON line.

The claim: reading, augmenting, logging and Lightning cost at most 5 % of a training. Ours is stage 1 as `make train`
trains it, from memory-mapped scans on disk to the optimiser's step, with its callbacks, logger and progress bar; the
other is forward, loss, backward and step on batches that lie in memory, in the same precision and memory layout, with
nothing read, augmented or logged. Two networks: the paper's (256 x 256, 32 channels, the headline) and the phantom
experiment's (64 x 64, 16 channels), where the same work per batch meets a network that is 50 times smaller.

    python -m benchmarks.training_step
"""

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from benchmarks.prepared_example import write_prepared
from benchmarks.timing import interleaved, line, median
from callbacks.stop_on_divergence import StopOnDivergence
from callbacks.waiting import WaitingShare
from datamodules.infection_data import InfectionData
from lightning_modules.augment import Augmentation
from lightning_modules.infection import InfectionModule
from losses.dice import dice_loss
from machine.host_memory import keep_freed_memory
from networks.unet import UNet
from training.precision import fastest_precision

BATCH_SIZE = 16
WARM_UP = 2  # steps of a fit before its clock starts
PHANTOM = Augmentation(rotation_deg=20, offset_hu=20, noise_hu=60, blur_px=0.6)  # experiments/unet_infection.yaml


class Example(InfectionData):
    """Training data that are prepared already."""

    def __init__(self, prepared: Path, size: int, num_workers: int) -> None:
        super().__init__("cohort.csv", size=size, batch_size=BATCH_SIZE, num_workers=num_workers)
        self.prepared = prepared

    def prepare_data(self) -> None:
        """Do nothing: the data are prepared."""

    def setup(self, stage: str) -> None:
        """Do nothing: there is only a training split."""


class Clock(Callback):
    """Seconds of `steps` steps with everything between them, from one step's start to another's."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.times: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if torch.cuda.is_available() and trainer.global_step in (WARM_UP, WARM_UP + self.steps):
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Seconds of the counted steps."""
        return float(self.times[WARM_UP + self.steps] - self.times[WARM_UP])


def fit(
    folder: Path, size: int, channels: int, augmentation: Augmentation, steps: int, num_workers: int, **options: Any
) -> float:
    """Train stage 1 as train.py does; return the seconds of `steps` steps.

    Args:
        folder: The prepared scans.
        size: Pixels of a side.
        channels: Of the network's first convolution.
        augmentation: Of the batches.
        steps: Counted steps.
        num_workers: Loader processes.
        options: Further options of the trainer.
    """
    clock = Clock(steps)
    trainer = Trainer(
        max_steps=WARM_UP + steps + 1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        precision=fastest_precision(),
        logger=CSVLogger(folder / "log"),
        callbacks=[
            LearningRateMonitor(),
            StopOnDivergence(folder),
            WaitingShare(),
            TQDMProgressBar(refresh_rate=10),
            clock,
        ],
        **options,
    )
    module = InfectionModule(partial(UNet, channels=channels), augmentation=augmentation)
    module.configure_optimizers = lambda: torch.optim.Adam(module.parameters(), 1e-3)  # type: ignore[method-assign]
    trainer.fit(module, Example(folder, size, num_workers))
    return clock.seconds


class BareLoop:
    """The same network, loss and optimiser on batches in memory."""

    def __init__(self, folder: Path, size: int, channels: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        module = InfectionModule(partial(UNet, channels=channels)).to(self.device)
        self.network = module.network
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3)
        loader = Example(folder, size, 0).train_dataloader()
        self.batches = []
        for _, batch in zip(range(3), loader, strict=False):
            x = module.network_input(batch["image"], batch["lung"])
            self.batches.append((x.to(self.device), batch["target"][:, :1].to(self.device)))

    def run(self, steps: int) -> None:
        """Train for `steps` steps."""
        bf16 = fastest_precision() == "bf16-mixed"
        for step in range(steps):
            x, target = self.batches[step % len(self.batches)]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss = dice_loss(self.network(x), target, valid=target >= 0)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def scans_of(steps: int) -> int:
    """Return how many scans give slices for `steps` steps and those that are not counted, within an epoch."""
    return -(-(WARM_UP + steps + 2) * BATCH_SIZE // 16)


def compare(
    size: int, channels: int, augmentation: Augmentation, steps: int, repeats: int, num_workers: int
) -> dict[str, float]:
    """Measure samples per second of the fit and of the bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = write_prepared(Path(folder) / "prepared", scans=scans_of(steps), size=size)
        bare = BareLoop(prepared, size, channels)
        fits: list[float] = []
        seconds = interleaved(
            {
                # A fit's start-up is not its steady state, so it reads its own clock.
                "fit": lambda: fits.append(fit(prepared, size, channels, augmentation, steps, num_workers)),
                "bare": lambda: bare.run(steps),
            },
            repeats,
        )
    samples = steps * BATCH_SIZE
    return {"fit": samples / median(fits[1:]), "bare": samples / median(seconds["bare"])}


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps of the large network per repeat")
    parser.add_argument("--num-workers", type=int, default=0)
    options = parser.parse_args()
    os.environ["PL_GLOBAL_SEED"] = "0"
    keep_freed_memory()  # as every fit does, so the bare loop has it too
    small = compare(64, 16, PHANTOM, 40, options.repeats, options.num_workers)
    paper = compare(256, 32, Augmentation(), options.steps, options.repeats, options.num_workers)
    phantom = {**small, "ratio": small["fit"] / small["bare"]}
    settings = {
        "precision": fastest_precision(),
        "num_workers": options.num_workers,
        "threads": torch.get_num_threads(),
    }
    line("training_step", paper["fit"], paper["bare"], "samples/s", options.repeats, **settings, phantom_sizes=phantom)


if __name__ == "__main__":
    main()
