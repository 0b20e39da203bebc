"""An ensemble in one module: the mean of its members' answers, as `predict` averages them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ct.files.read import read_mask, read_scan
from inference.load import load_module
from inference.scan_masks import segment_scan
from lightning_modules.augment import Augmentation
from lightning_modules.base import SegmentationModule
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.ensemble import averaged
from lightning_modules.infection import InfectionModule
from lightning_modules.opacity import OpacityModule
from networks.unet import UNet

SMALL = partial(UNet, channels=4)


def made(kind: type[SegmentationModule], seed: int, context: int = 1) -> SegmentationModule:
    torch.manual_seed(seed)
    module = kind(network=SMALL, context=context, augmentation=Augmentation())  # type: ignore[call-arg]
    module.size = 32
    for name, value in module.named_buffers():  # statistics of a training, so that flips matter
        if name.endswith("running_mean"):
            value.normal_()
    return module.eval()


def image(channels: int = 1) -> torch.Tensor:
    return torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(9))


@torch.no_grad()
@pytest.mark.parametrize("kind", [InfectionModule, OpacityModule])
def test_the_answer_is_the_mean_probability(kind: type[SegmentationModule]) -> None:
    modules, x = [made(kind, seed) for seed in range(3)], image()
    expected = np.mean([module(x).numpy() for module in modules], 0)
    np.testing.assert_allclose(averaged(modules)(x), expected, atol=1e-6)
    assert averaged(modules).task == kind.task
    assert not torch.allclose(modules[0](x), modules[1](x), atol=1e-3)


@torch.no_grad()
def test_mirrored_slices_count_as_members() -> None:
    module, x = made(InfectionModule, 0), image()
    turned = [module(x), *(module(x.flip(axes)).flip(axes) for axes in ([3], [2], [2, 3]))]
    np.testing.assert_allclose(averaged([module], flips=True)(x), np.mean([t.numpy() for t in turned], 0), atol=1e-6)
    assert not torch.allclose(turned[0], turned[1], atol=1e-3)


@torch.no_grad()
def test_consolidation_counts_where_its_own_member_sees_infection() -> None:
    modules, x = [made(ConsolidationModule, seed) for seed in range(2)], image()
    parts = [module.segment(x) for module in modules]
    answer = averaged(modules)
    expected = (parts[0]["consolidation"] + parts[1]["consolidation"]) / 2
    np.testing.assert_allclose(answer(x), expected, atol=1e-6)
    infection = (parts[0]["infection"] + parts[1]["infection"]) / 2
    batch = {"x": x, "lung": torch.ones(2, 1, 32, 32, dtype=torch.bool)}
    assert isinstance(answer, ConsolidationModule)
    np.testing.assert_array_equal(answer.infected(batch), infection > 0.5)  # type: ignore[arg-type]


def test_members_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="of different tasks"):
        averaged([made(InfectionModule, 0), made(ConsolidationModule, 0)])
    with pytest.raises(ValueError, match="see other inputs"):
        averaged([made(InfectionModule, 0), made(InfectionModule, 0, context=3)])
    scaled = made(OpacityModule, 0)
    scaled.get_buffer("hu_mean").fill_(-600.0)
    with pytest.raises(ValueError, match="HU scaled by other training sets"):
        averaged([made(OpacityModule, 0), scaled])
    smaller = made(InfectionModule, 0)
    smaller.size = 16
    with pytest.raises(ValueError, match="slices of different sizes"):
        averaged([made(InfectionModule, 0), smaller])
    whole = made(InfectionModule, 0)
    whole.whole_image = True
    with pytest.raises(ValueError, match="some of the checkpoints learned on whole images and some inside lungs"):
        averaged([made(InfectionModule, 0), whole])
    assert averaged([whole, whole]).whole_image


def test_it_answers_a_scan_as_predict_does(cohort: Path, em_run: Path) -> None:
    modules = [load_module(em_run / name) for name in ("best.ckpt", "last.ckpt")]
    scan = read_scan(cohort.parent / "images" / "B007")
    lung = read_mask(cohort.parent / "masks" / "B007_lungs.nii.gz", scan) != 0
    together, alone = segment_scan(scan, lung, modules, True), segment_scan(scan, lung, [averaged(modules, True)])
    for name, mask in together.masks.items():
        assert (mask != alone.masks[name]).mean() < 1e-3, name
    assert together.masks["infection"].any()
