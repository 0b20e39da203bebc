"""What stage 1 learns from: pixels that it can see, and the two parts of its loss."""

from functools import partial

import pytest
import torch

from batch import SliceBatch
from lightning_modules.augment import Augmentation
from lightning_modules.infection import InfectionModule
from losses.dice import cross_entropy, dice_loss
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
    module = Quiet(partial(UNet, channels=4), context=1, cross_entropy=1.0, augmentation=STILL).eval()
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


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.cross_entropy is -1.0; expected a number from 0 on"):
        InfectionModule(partial(UNet, channels=4), cross_entropy=-1.0)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_dice_and_weighted_cross_entropy(weight: float) -> None:
    module = Quiet(partial(UNet, channels=4), context=1, cross_entropy=weight, augmentation=STILL).eval()
    lung = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    lung[..., 8:24] = True
    target = (torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.2).float() * lung
    batch = batch_of(target, lung)
    with torch.no_grad():
        logits = module.network(batch["x"])
        expected = dice_loss(logits, target) + weight * cross_entropy(logits, target, lung)
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), abs=1e-6)
