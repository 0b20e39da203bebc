"""What stage 1 learns from: pixels that it can see."""

from functools import partial

import torch

from batch import SliceBatch
from lightning_modules.augment import Augmentation
from lightning_modules.infection import InfectionModule
from networks.unet import UNet

STILL = Augmentation(rotation_deg=0, shift=0, zoom=0, flip=False)


class Quiet(InfectionModule):
    """Stage 1 without a trainer to log to, on batches as they are."""

    def log_step(self, *args: object) -> None:
        pass

    def vary(self, batch: SliceBatch) -> torch.Tensor:
        return batch["x"]


def batch_of(target: torch.Tensor, lung: torch.Tensor) -> SliceBatch:
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * lung
    return {"x": x, "lung": lung, "target": target.to(torch.int8)}  # type: ignore[typeddict-item]


def test_infection_outside_the_lungs_does_not_count() -> None:
    module = Quiet(partial(UNet, channels=4), context=1, augmentation=STILL).eval()
    lung = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    lung[..., :16] = True
    target = torch.zeros(2, 1, 32, 32)
    target[..., 4:8, 4:8] = 1
    inside = module.training_step(batch_of(target, lung), 0)
    without = target.clone()
    target[..., 4:8, 20:30] = 1  # where no lung was found
    without[..., 4:8, 20:30] = -1
    assert module.training_step(batch_of(target, lung), 0).item() == module.training_step(batch_of(without, lung), 0)
    assert module.training_step(batch_of(target, lung), 0).item() != inside.item()
