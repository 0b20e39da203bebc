"""What every segmentation module does the same way."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.augment import Augmentation, draw_affine
from lightning_modules.base import SegmentationModule
from lightning_modules.infection import InfectionModule
from lightning_modules.opacity import OpacityModule
from networks.unet import UNet


def test_dropout_draws_the_same_in_a_resumed_run() -> None:
    module = InfectionModule(partial(UNet, channels=2), context=1)
    drawn = []
    for before in (0, 5):  # a resumed run has drawn another number of random numbers by the same step
        torch.rand(before)
        module.on_train_batch_start({}, 0)  # type: ignore[typeddict-item]
        drawn.append(F.dropout(torch.ones(50)))
    assert torch.equal(*drawn)
    module.on_train_batch_start({}, 0)  # type: ignore[typeddict-item]
    first = F.dropout(torch.ones(50))
    assert not torch.equal(first, F.dropout(torch.ones(50)))


def drawn_batch(kind: type[SegmentationModule], batch: int) -> tuple[Tensor, ...]:
    """Return what `moved` of a module takes, of random slices: theta is the last."""
    generator = torch.Generator().manual_seed(3)
    context, side = (7, (19, 24)) if kind is InfectionModule else (1, (16, 21))

    def integers(low: int, high: int, channels: int, dtype: torch.dtype) -> Tensor:
        return torch.randint(low, high, (batch, channels, *side), generator=generator).to(dtype)

    tensors = [integers(-1024, 1500, context, torch.int16), integers(0, 2, 1, torch.bool)]
    if kind is InfectionModule:
        tensors.append(integers(-1, 2, 2, torch.int8))
    else:
        tensors += [integers(-1, 5, 1, torch.int8), integers(0, 5, 2, torch.uint8), integers(0, 2, 5, torch.uint8)]
    return *tensors, draw_affine(batch, Augmentation(), generator)


@pytest.mark.parametrize("kind", [InfectionModule, OpacityModule])
def test_a_slice_is_moved_by_its_own_theta_whatever_is_beside_it(
    kind: type[InfectionModule] | type[OpacityModule],
) -> None:
    module = kind(partial(UNet, channels=2))
    tensors = drawn_batch(kind, 5)
    at_once = module.moved(*tensors)
    one_by_one = [module.moved(*(tensor[row : row + 1] for tensor in tensors)) for row in range(5)]
    for part, slices in zip(at_once, zip(*one_by_one, strict=True), strict=True):
        torch.testing.assert_close(part, torch.cat(slices), atol=1e-6, rtol=0)
    assert [part.dtype for part in at_once[:3]] == [torch.float32, torch.bool, torch.int8]
    assert at_once[0].is_contiguous(memory_format=torch.channels_last)
