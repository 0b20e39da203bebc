"""Seconds of an epoch's E-step, beside one forward pass over the slices that need it, as one JSON line.

The claim: relabelling costs at most 1.10 forward passes over exactly the slices of positive patients that UNet-1 calls
infected. Ours is the whole E-step of `callbacks/relabel.py` as an epoch runs it: which slices are trained on, reading
them from memory-mapped scans, the network's input, the network, the prior, the labels, packing and counting. The other
is the network alone, in the same precision, on inputs that lie in memory, in the better of two batch sizes. Half of the
patients are negative and cost nothing. The headline is the paper's network (256 x 256, 32 channels); the phantom
experiment's (64 x 64, 16 channels) stands beside it. `slices` need labels, `computed` are run, since the last batch is
filled up. The any-label task, whose masks tell infection alone and whose labels are soft, is measured beside it, over
all slices of positive patients (at most 1.15 passes).

    python -m benchmarks.e_step
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision, Precision

from benchmarks.prepared_example import write_prepared
from benchmarks.timing import interleaved, line, median
from callbacks.relabel import Relabel
from ct.classes import L3
from datamodules.any_label_data import AnyLabelData
from datamodules.infection_data import InfectionData
from datamodules.opacity_data import save_borders
from lightning_modules.any_label import AnyLabelModule, WeighedFinding
from lightning_modules.consolidation import ConsolidationModule
from losses.fitted_priors import Learned
from machine.host_memory import keep_freed_memory
from networks.unet import UNet
from training.precision import fastest_precision

BATCH_SIZE = Relabel().batch_size


def example(folder: Path, scans: int, size: int) -> InfectionData:
    """Write prepared training data, half of whose patients have consolidation."""
    prepared = write_prepared(folder, scans=scans, size=size)
    data = InfectionData("cohort.csv", size=size, weakly_labelled=True)
    data.prepared = prepared
    data.slice_table("train").scans.loc[::2, "weak_label"] = 0
    return data


def located(data: InfectionData, module: ConsolidationModule) -> torch.Tensor:
    """Enter the positive, infected slices as located, as after the first epoch, and return their rows."""
    assert module.located is not None, "prepare_latent makes it"
    rows = data.own_train_indices(0)
    rows = rows[data.slice_table("train").weak_label[rows] == 1]
    for batch in data.batches("train", rows, BATCH_SIZE):
        module.located.set(batch["slice_index"].to(module.device), (batch["target"][:, :1] > 0).to(module.device))
    index = torch.from_numpy(rows)
    return index[module.located.any(index.to(module.device)).cpu()]


def compare(size: int, channels: int, scans: int, repeats: int) -> dict[str, Any]:
    """Measure seconds of the E-step and of the forward pass."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = fastest_precision() == "bf16-mixed"
    precision = MixedPrecision("bf16-mixed", device.type) if bf16 else Precision()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        data = example(Path(folder) / "prepared", scans, size)
        module = ConsolidationModule(network=partial(UNet, channels=channels)).to(device).eval()
        module.prepare_latent(len(data.slice_table("train")), size)
        trainer: Any = SimpleNamespace(
            datamodule=data, current_epoch=0, global_rank=0, world_size=1, is_global_zero=False,
            progress_bar_callback=None, precision_plugin=precision,
        )  # fmt: skip
        data.trainer = trainer
        return seconds_of(module, data, trainer, located(data, module), repeats)


def compare_any_label(size: int, channels: int, scans: int, repeats: int) -> dict[str, Any]:
    """Measure the same of the any-label task."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = fastest_precision() == "bf16-mixed"
    precision = MixedPrecision("bf16-mixed", device.type) if bf16 else Precision()
    priors = [WeighedFinding("consolidation", Learned(), "infection")]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        prepared = write_prepared(Path(folder) / "prepared", scans=scans, size=size)
        data = AnyLabelData("cohort.csv", size=size, told_apart=["infection"])
        data.prepared, data.borders = prepared, Path(folder)
        table = data.slice_table("train")
        table.scans.loc[::2, "has_consolidation"] = 0
        for scan in table.scans.itertuples():
            save_borders(Path(str(scan.folder), "patterns.npy"), (1.0, 1.0), data.borders / f"{scan.scan_id}.npy", L3)
        module = AnyLabelModule(partial(UNet, channels=channels), priors=priors).to(device).eval()
        module.prepare_latent(len(table), size)
        trainer: Any = SimpleNamespace(
            datamodule=data, current_epoch=0, global_rank=0, world_size=1, is_global_zero=False,
            progress_bar_callback=None, precision_plugin=precision,
        )  # fmt: skip
        data.trainer = trainer
        own = data.own_train_indices(0)
        rows = torch.from_numpy(own[module.relabelled(table.scans)[table.scan[own]]])
        assert module.latent is not None, "prepare_latent makes it"
        size_of_latent = {"latent_bytes_a_slice": module.latent.width}
        return seconds_of(module, data, trainer, rows, repeats) | size_of_latent


def seconds_of(module: Any, data: Any, trainer: Any, rows: torch.Tensor, repeats: int) -> dict[str, Any]:
    """Measure the E-step of a module and the forward pass of its network over rows (n,)."""
    device, precision = module.device, trainer.precision_plugin
    with torch.inference_mode():
        inputs = torch.cat(
            [
                module.to_input(module.transfer_batch_to_device(batch, device, 0))["x"]
                for batch in data.batches("train", rows.numpy(), BATCH_SIZE)
            ]
        )

        def forward(batch_size: int) -> None:
            with precision.forward_context():
                for x in inputs.split(batch_size):
                    module.network(x)
            if device.type == "cuda":
                torch.cuda.synchronize()

        relabel = Relabel(batch_size=BATCH_SIZE)
        functions = {"e_step": lambda: relabel.relabel_own(trainer, module).tolist()}
        passes = {f"forward, batches of {size}": partial(forward, size) for size in (BATCH_SIZE, 2 * BATCH_SIZE)}
        seconds = {name: median(values) for name, values in interleaved({**functions, **passes}, repeats).items()}
    best = min(seconds[name] for name in passes)
    filled = -(-len(rows) // BATCH_SIZE) * BATCH_SIZE
    return {**seconds, "best": best, "ratio": seconds["e_step"] / best, "slices": len(rows), "computed": filled}


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scans", type=int, default=24, help="of the paper's size; half of them are positive")
    options = parser.parse_args()
    keep_freed_memory()
    phantom = compare(64, 16, 27, options.repeats)
    paper = compare(256, 32, options.scans, options.repeats)
    any_label = compare_any_label(256, 32, options.scans, options.repeats)
    settings: dict[str, Any] = {
        "precision": fastest_precision(),
        "batch_size": BATCH_SIZE,
        "threads": torch.get_num_threads(),
    }
    line(
        "e_step",
        paper["e_step"],
        paper["best"],
        "s",
        options.repeats,
        paper_sizes=paper,
        phantom_sizes=phantom,
        any_label=any_label,
        **settings,
    )


if __name__ == "__main__":
    main()
