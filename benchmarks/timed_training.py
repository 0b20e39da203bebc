"""Trainings within a budget of CPU time: ours through Lightning, and networks of MONAI and smp in a plain loop."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd
from monai.utils.type_conversion import convert_to_tensor
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from benchmarks.dice_recorder import Recorder
from benchmarks.held_out_folds import Fold, network_input
from callbacks.stop_on_divergence import StopOnDivergence
from callbacks.waiting import WaitingShare
from machine.host_memory import keep_freed_memory
from train import ExperimentCLI, ignore_known_warnings
from training.checkpoint_file import CheckpointFiles
from training.precision import fastest_precision

TICKS = 10_000  # steps of the learning rate's schedule in a budget; as epochs, more than any budget holds
NEVER = 10**9


class Experiment(LightningCLI):
    """Model, data, optimizer and schedule of an experiment's file, for a training that ends with its budget.

    Args:
        file: The experiment's file, which lies beside base.yaml.
        cohort: The fold's cohort.csv.
        out: The folder of prepared scans, logs and states.
        options: Further options of train.py.
    """

    def __init__(self, file: Path, cohort: Path, out: Path, options: Sequence[str] = ()) -> None:
        ignore_known_warnings()
        self.out = out
        files = [f"--config={path}" for path in (file.with_name("base.yaml"), file)]
        here = [f"--data.cohort={cohort}", f"--data.prepared={out / 'prepared'}", f"--trainer.max_epochs={TICKS}"]
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            save_config_callback=None,
            args=[*files, *here, *options],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--experiment", default="experiment")
        parser.set_defaults({"trainer.precision": fastest_precision()})

    link_optimizers_and_lr_schedulers = staticmethod(ExperimentCLI.link_optimizers_and_lr_schedulers)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        chosen = self.config_init.trainer.callbacks or []
        return super().instantiate_trainer(
            **kwargs,
            callbacks=[StopOnDivergence(self.out), *chosen, WaitingShare()],
            logger=CSVLogger(self.out / "logs"),
            plugins=[CheckpointFiles()],
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )


class WithinBudget(Callback):
    """The end of a training by Lightning when its budget is spent, and its schedule by the share that is."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        for config in trainer.lr_scheduler_configs:
            config.frequency = NEVER  # Lightning would step it by epochs
        self.recorder.start()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        tick = int(self.recorder.share * (TICKS - 1))
        for config in trainer.lr_scheduler_configs:
            while config.scheduler.last_epoch < tick:
                config.scheduler.step()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        def probability(x: Tensor) -> Tensor:
            with evaluating(pl_module):
                answer: Tensor = pl_module.segment(x)["infection"]
            return answer

        predict = self.recorder.fold.on_own_grid(probability)
        save = partial(trainer.save_checkpoint, weights_only=False)
        trainer.should_stop = self.recorder.step_done(predict, save)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Let a network answer, not learn, in the fastest precision, and set it to learn again."""
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, fastest_precision() == "bf16-mixed"):
        yield
    network.train()


def train_ours(recorder: Recorder, experiment: Experiment) -> None:
    """Train the experiment with its own trainer, callbacks, logger and datamodule."""
    trainer: Any = experiment.trainer
    trainer.callbacks.append(WithinBudget(recorder))
    trainer.fit(experiment.model, experiment.datamodule, ckpt_path=recorder.state)


@dataclass(frozen=True)
class Peer:
    """A network and how its own project trains it.

    Attributes:
        network: Makes it for a number of input channels; one channel of logits.
        optimizer: Makes the optimizer of its parameters.
        decay: Factor of the learning rate for the share of the training that is done.
        packages: The distributions that it comes from.
    """

    network: Callable[[int], nn.Module]
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer]
    decay: Callable[[float], float]
    packages: tuple[str, ...]


def cosine(share: float) -> float:
    """Fall from 1 to 0 along half a cosine, as `CosineAnnealingLR`."""
    return (1 + math.cos(math.pi * share)) / 2


def poly(share: float) -> float:
    """Fall from 1 to 0 as nnU-Net and MONAI's tutorial of DynUNet do."""
    return float((1 - share) ** 0.9)


def dynunet(channels: int) -> nn.Module:
    """Make DynUNet with the kernels and strides that MONAI's tutorial computes for slices of 128 to 256 pixels."""
    levels = 6
    return DynUNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=1,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        res_block=True,
    )


PEERS = {
    "basic_unet": Peer(
        lambda channels: BasicUNet(spatial_dims=2, in_channels=channels, out_channels=1),
        lambda parameters: torch.optim.Adam(parameters, 1e-3),
        cosine,
        ("monai",),
    ),
    "dynunet": Peer(
        dynunet,
        lambda parameters: torch.optim.SGD(parameters, 1e-2, momentum=0.99, weight_decay=3e-5, nesterov=True),
        poly,
        ("monai",),
    ),
    "smp_unet_resnet34": Peer(
        lambda channels: smp.Unet("resnet34", encoder_weights=None, in_channels=channels, classes=1),
        lambda parameters: torch.optim.Adam(parameters, 1e-3),
        cosine,
        ("segmentation-models-pytorch", "timm"),
    ),
}


def augmentation() -> Compose:
    """Return MONAI's usual augmentation of slices: flips, rotation, zoom, shift, brightness, contrast, noise, blur."""
    both, image = ("image", "mask"), ("image",)
    return Compose(
        [
            RandFlipd(both, prob=0.5, spatial_axis=0),
            RandFlipd(both, prob=0.5, spatial_axis=1),
            RandAffined(
                both,
                prob=0.8,
                rotate_range=math.pi / 6,
                scale_range=(0.1, 0.1),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            RandScaleIntensityd(image, factors=0.1, prob=0.5),
            RandShiftIntensityd(image, offsets=0.4, prob=0.5),
            RandGaussianNoised(image, prob=0.3, std=0.4),
            RandGaussianSmoothd(image, prob=0.2, sigma_x=(0.25, 0.8), sigma_y=(0.25, 0.8)),
        ]
    )


class PeerData:
    """The training slices of a fold in memory, and their batches in the experiment's own order and size."""

    def __init__(self, fold: Fold) -> None:
        self.data = fold.data
        rows = np.sort(self.data.train_indices(0))
        self.place = {int(row): place for place, row in enumerate(rows)}
        batches = list(self.data.batches("train", rows, 64))
        self.images = torch.cat([network_input(batch) for batch in batches])
        self.masks = torch.cat(
            [torch.cat([batch["lung"].to(torch.int8), batch["target"][:, :1]], 1) for batch in batches]
        )
        assert (self.masks >= 0).all(), "a slice without an infection mask"
        self.transform = augmentation()

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the rows of the batch of a step, from 0 on: whole batches of every epoch, as ours has them."""
        size = self.data.batch_size
        epoch, number = divmod(step, len(self.place) // size)
        return self.data.train_indices(epoch)[number * size : (number + 1) * size]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return input (B, context, H, W) and target float (B, 1, H, W) of a step, augmented."""
        places = [self.place[int(row)] for row in self.rows(step)]
        pairs = [self.transform({"image": self.images[p], "mask": self.masks[p].float()}) for p in places]
        image, mask = (
            torch.stack([convert_to_tensor(pair[key], track_meta=False) for pair in pairs]) for key in ("image", "mask")
        )
        # Brightness and noise are of the lungs only, as what is evaluated.
        return (image * mask[:, :1]).contiguous(memory_format=torch.channels_last), mask[:, 1:]


def train_peer(recorder: Recorder, peer: Peer) -> None:
    """Train a peer's network in a plain loop, in the precision and memory layout that ours has."""
    keep_freed_memory()
    fold = recorder.fold
    seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
    torch.manual_seed(seed)
    data = PeerData(fold)
    network = peer.network(data.images.shape[1]).to(memory_format=torch.channels_last)
    optimizer = peer.optimizer(network.parameters())
    rate = optimizer.param_groups[0]["lr"]
    if recorder.state is not None:
        state = torch.load(recorder.state, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    data.transform.set_random_state(seed + recorder.steps)
    loss_of = DiceCELoss(sigmoid=True, batch=True)

    def probability(x: Tensor) -> Tensor:
        with evaluating(network):
            return torch.sigmoid(network(x.contiguous(memory_format=torch.channels_last)).float())

    def save(path: Path) -> None:
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)

    predict, done = fold.on_own_grid(probability), recorder.done
    recorder.start()
    while not done:
        optimizer.param_groups[0]["lr"] = rate * peer.decay(recorder.share)
        image, target = data.batch(recorder.steps)
        with torch.autocast("cpu", torch.bfloat16, fastest_precision() == "bf16-mixed"):
            loss = loss_of(network(image).float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done = recorder.step_done(predict, save)
