"""On a CPU slices are taken one by one; the result must be that of the whole batch."""

from functools import partial

import pytest
import torch
from torch import Tensor

from lightning_modules.augment import Augmentation, draw_affine
from lightning_modules.each_slice import each_slice
from lightning_modules.infection import InfectionModule
from lightning_modules.opacity import OpacityModule
from networks.unet import UNet


def drawn(batch: int, context: int, side: tuple[int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (batch, context, *side)
    image = torch.randint(-1024, 1500, shape, generator=generator, dtype=torch.int16)
    lung = torch.rand(batch, 1, *side, generator=generator) < 0.5
    return {"image": image, "lung": lung, "theta": draw_affine(batch, Augmentation(), generator)}


def test_infection_slices_one_by_one_are_those_of_the_batch() -> None:
    module = InfectionModule(partial(UNet, channels=2))
    for batch in (1, 5):
        given = drawn(batch, 7, (19, 24))
        target = torch.randint(-1, 2, (batch, 2, 19, 24)).to(torch.int8)
        tensors = given["image"], given["lung"], target, given["theta"]
        one_by_one, at_once = each_slice(module.moved, *tensors), module.moved(*tensors)
        assert all(torch.equal(*pair) for pair in zip(one_by_one, at_once, strict=True))
        assert [part.dtype for part in one_by_one] == [torch.float32, torch.bool, torch.int8]
        assert one_by_one[0].is_contiguous(memory_format=torch.channels_last)


def test_opacity_slices_one_by_one_are_those_of_the_batch() -> None:
    module = OpacityModule(partial(UNet, channels=2))
    given = drawn(4, 1, (16, 21))
    target = torch.randint(-1, 5, (4, 1, 16, 21)).to(torch.int8)
    border = torch.randint(0, 5, (4, 2, 16, 21)).to(torch.uint8)
    votes = torch.randint(0, 2, (4, 5, 16, 21)).to(torch.uint8)
    tensors = given["image"], given["lung"], target, border, votes, given["theta"]
    for one, other in zip(each_slice(module.moved, *tensors), module.moved(*tensors), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_threads_and_modes_of_the_caller_stay() -> None:
    before = torch.get_num_threads()
    numbers = torch.arange(6)
    with torch.inference_mode():
        (doubled,) = each_slice(lambda rows: (rows * 2,), numbers)
    assert doubled.tolist() == [0, 2, 4, 6, 8, 10]
    assert doubled.is_inference()
    assert torch.get_num_threads() == before
    torch.set_num_threads(1)
    try:
        assert each_slice(lambda rows: (rows + 1,), numbers)[0].tolist() == [1, 2, 3, 4, 5, 6]
    finally:
        torch.set_num_threads(before)
    assert each_slice(lambda rows: (rows + 1,), numbers[:0])[0].tolist() == []


def test_an_error_in_a_slice_reaches_the_caller() -> None:
    def refuse(rows: Tensor) -> tuple[Tensor]:
        if rows.item() == 4:
            raise ValueError("slice 4")
        return (rows,)

    with pytest.raises(ValueError, match="slice 4"):
        each_slice(refuse, torch.arange(6))
