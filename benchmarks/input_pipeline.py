"""Samples per second of augmented training batches, beside other libraries; the goal is three times the best.

Batches of 16 stacks (7, 256, 256) in network units with lung mask and labels, rotated, shifted, zoomed and mirrored by
the same law, from the same prepared slices: ours reads them from the files; the peers hold them in memory as float32,
ready for the network, which is to their advantage. Each peer takes its best setting: stacked masks as one image (a
single nearest resampling), in-process with all threads or as many worker processes as there are cores. MONAI's
ThreadDataLoader is left out: it gave thousands of samples a second, more than can have been resampled.

    python -m benchmarks.input_pipeline [--peer NAME]

`copies` is the scheme of paper EM's authors: every stack in memory (seven copies of each slice), moved as a batch.
"""

import argparse
import contextlib
import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.prepared_example import write_prepared
from benchmarks.timing import interleaved, line, median
from datamodules.infection_data import InfectionData
from lightning_modules.augment import Augmentation, draw_affine
from lightning_modules.infection import InfectionModule
from machine.cores import usable_cores
from machine.host_memory import keep_freed_memory

BATCH, BATCHES, SCANS, REPEATS = 16, 6, 6, 3
DEGREES, SHIFT, ZOOM = 90.0, 0.1, 0.1
CORES = usable_cores()
Stacks = tuple[Tensor, Tensor]  # float32 (N, 7, 256, 256), and uint8 (N, 3, 256, 256): lung, infection, consolidation


def our_data(prepared: Path) -> InfectionData:
    """Return the data of an experiment whose scans are already prepared."""
    data = InfectionData(cohort="cohort.csv", batch_size=BATCH)
    data.prepared = prepared
    return data


def our_module() -> InfectionModule:
    """Return the module of an experiment in its state during training."""
    module = InfectionModule()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.training, module.trainer = True, trainer
    return module


def ours(data: InfectionData) -> Iterator[Any]:
    """Yield batches as `trainer.fit` sees them."""
    module = our_module()
    while True:
        yield from (module.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader())


def in_memory(data: InfectionData) -> Stacks:
    """Return the peers' input: every stack, ready for the network."""
    module = our_module()
    batches = list(data.batches("train", np.arange(BATCH * BATCHES), BATCH))
    x = [module.to_input(batch)["x"].contiguous() for batch in batches]
    masks = [torch.cat([batch["lung"], batch["target"]], 1).clamp(min=0).to(torch.uint8) for batch in batches]
    return torch.cat(x), torch.cat(masks)


def copies(stacks: Stacks) -> Iterator[Any]:
    """Yield batches by the authors' scheme, with a plain batched resampling."""
    x, masks = stacks
    generator = torch.Generator().manual_seed(0)
    while True:
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            theta = draw_affine(len(rows), Augmentation(DEGREES, SHIFT, ZOOM), generator)
            grid = F.affine_grid(theta, [len(rows), *x.shape[1:]], align_corners=False)
            warped = F.grid_sample(masks[rows].float(), grid, mode="nearest", align_corners=False).to(torch.uint8)
            yield F.grid_sample(x[rows], grid, align_corners=False), warped


class Transformed(Dataset[Any]):
    """One stack after the other through a peer's transform."""

    def __init__(self, stacks: Stacks, transform: Callable[[Tensor, Tensor], Any]) -> None:
        # Tensors of their own: TorchIO copies the whole storage that a view belongs to.
        self.stacks, self.transform = [[stack.clone() for stack in kind] for kind in stacks], transform

    def __len__(self) -> int:
        return len(self.stacks[0])

    def __getitem__(self, row: int) -> Any:
        return self.transform(self.stacks[0][row], self.stacks[1][row])


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of epoch after epoch."""
    while True:
        yield from loader


def loaded(dataset: Dataset[Any], workers: int, loader: Any = DataLoader, **options: Any) -> Iterator[Any]:
    """Yield shuffled batches of a peer."""
    return endless(loader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, **options))


def monai_dataset(stacks: Stacks) -> Any:
    """Return MONAI's CacheDataset with RandAffined and RandFlipd; MONAI 1.6 cannot resample 2-D images lazily."""
    from monai.data import CacheDataset
    from monai.transforms import Compose, RandAffined, RandFlipd

    keys, side = ("x", "masks"), stacks[0].shape[-1]
    affine = RandAffined(
        keys, prob=1, rotate_range=math.radians(DEGREES), translate_range=side * SHIFT, scale_range=ZOOM,
        mode=("bilinear", "nearest"), padding_mode="zeros",
    )  # fmt: skip
    steps = [affine, RandFlipd(keys, 0.5, 0), RandFlipd(keys, 0.5, 1)]
    items = [{"x": x.clone(), "masks": masks.clone()} for x, masks in zip(*stacks, strict=True)]
    return CacheDataset(items, Compose(steps), copy_cache=False, progress=False)


def torchio_dataset(stacks: Stacks) -> Any:
    """Return a dataset with TorchIO's RandomAffine and RandomFlip on volumes of one slice."""
    import torchio as tio

    side = stacks[0].shape[-1] * SHIFT
    affine = tio.RandomAffine(
        scales=(1 - ZOOM, 1 + ZOOM, 1 - ZOOM, 1 + ZOOM, 1, 1), degrees=(0, 0, 0, 0, -DEGREES, DEGREES),
        translation=(-side, side, -side, side, 0, 0), default_pad_value=0,
    )  # fmt: skip
    both = tio.Compose([affine, tio.RandomFlip(axes=(0, 1), flip_probability=0.5)])

    def transform(x: Tensor, masks: Tensor) -> Any:
        subject = tio.Subject(x=tio.ScalarImage(tensor=x[..., None]), masks=tio.LabelMap(tensor=masks[..., None]))
        moved = both(subject)
        return moved["x"].data[..., 0], moved["masks"].data[..., 0]

    return Transformed(stacks, transform)


def batchgenerators_dataset(stacks: Stacks) -> Any:
    """Return a dataset with batchgeneratorsv2's SpatialTransform (a shift is a random centre) and MirrorTransform."""
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    size, angle = tuple(stacks[0].shape[-2:]), math.radians(DEGREES)
    spatial = SpatialTransform(
        size, [side * (0.5 - SHIFT) for side in size], random_crop=True, p_rotation=1, rotation=(-angle, angle),
        p_scaling=1, scaling=(1 - ZOOM, 1 + ZOOM), p_synchronize_scaling_across_axes=1, mode_seg="nearest",
    )  # fmt: skip
    mirror = MirrorTransform((0, 1))

    def transform(x: Tensor, masks: Tensor) -> Any:
        moved = mirror(**spatial(image=x, segmentation=masks.to(torch.int16)))
        return moved["image"], moved["segmentation"]

    return Transformed(stacks, transform)


def peers(stacks: Stacks) -> tuple[dict[str, Callable[[], Iterator[Any]]], list[str]]:
    """Return every peer in every setting, and the peers that are not installed."""
    settings: dict[str, Callable[[], Iterator[Any]]] = {"copies": lambda: copies(stacks)}
    cached = monai_dataset(stacks)
    for workers in (0, CORES):
        settings[f"monai workers={workers}"] = lambda w=workers: loaded(cached, w)
    missing = []
    for name, make in (("torchio", torchio_dataset), ("batchgeneratorsv2", batchgenerators_dataset)):
        try:
            dataset = make(stacks)
        except ImportError as error:
            missing.append(f"{name} ({error})")
            continue
        for workers in (0, CORES):
            settings[f"{name} workers={workers}"] = lambda d=dataset, w=workers: loaded(d, w)
    return settings, missing


def timed(batches: Iterator[Any]) -> Callable[[], None]:
    """Return a function that takes the batches of an epoch."""

    def take() -> None:
        for _ in range(BATCHES):
            next(batches)

    return take


def main() -> None:
    """Print samples per second of ours and of every peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="", help="only the settings whose name contains this")
    peer = parser.parse_args().peer
    keep_freed_memory()  # as a training on CPUs does; it serves the peers too
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            data = our_data(write_prepared(Path(folder), SCANS))
        installed, missing = peers(in_memory(data))
        running = {"ours": timed(ours(data))}
        running |= {name: timed(start()) for name, start in installed.items() if peer in name}
        seconds = interleaved(running, REPEATS)
        speeds = {name: BATCH * BATCHES / median(values) for name, values in seconds.items()}
        best = max((name for name in speeds if name != "ours"), key=speeds.__getitem__)
        line(
            "input pipeline", speeds["ours"], speeds[best], "samples/s", REPEATS,
            best_other=best, others={name: round(speed) for name, speed in speeds.items()}, missing=missing,
            cores=CORES,
        )  # fmt: skip


if __name__ == "__main__":
    main()
