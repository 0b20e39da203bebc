import numpy as np
import pytest
import torch

from lightning_modules import repaint
from lightning_modules.repaint import Repainting, equalise, show_enhanced, vary_lesions


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equalised_pixel(grey: np.ndarray, tiles: int, clip: float, y: int, x: int) -> float:
    """CLAHE of one pixel as its definition says, from the pixels of four tiles."""
    height, width = grey.shape
    row_of, column_of = np.arange(height) * tiles // height, np.arange(width) * tiles // width
    at_y, at_x = (y + 0.5) * tiles / height - 0.5, (x + 0.5) * tiles / width - 0.5
    total = 0.0
    for down in (0, 1):
        for right in (0, 1):
            row = min(max(int(np.floor(at_y)) + down, 0), tiles - 1)
            column = min(max(int(np.floor(at_x)) + right, 0), tiles - 1)
            tile = grey[row_of == row][:, column_of == column]
            counts, edges = np.histogram(tile, bins=repaint.BINS, range=(0, 1))
            limit = clip * tile.size / repaint.BINS
            shared = np.minimum(counts, limit) + np.maximum(counts - limit, 0).sum() / repaint.BINS
            curve = np.interp(grey[y, x], edges, np.append(0, shared.cumsum()) / shared.sum())
            weight_y = at_y - np.floor(at_y) if down else 1 - (at_y - np.floor(at_y))
            weight_x = at_x - np.floor(at_x) if right else 1 - (at_x - np.floor(at_x))
            total += weight_y * weight_x * curve
    return total


@pytest.mark.parametrize(("shape", "tiles", "clip"), [((20, 27), 4, 1.5), ((9, 16), 3, 4.0), ((16, 16), 8, 1.0)])
def test_histograms_are_equalised_as_defined(shape: tuple[int, int], tiles: int, clip: float) -> None:
    grey = np.random.default_rng(3).beta(0.6, 2, shape)
    other = torch.rand(shape, generator=generator())
    made = equalise(torch.stack([other, torch.from_numpy(grey).float()]), tiles, torch.tensor([9.0, clip]))[1]
    seen = grey.astype(np.float32).astype(float)
    expected = [[equalised_pixel(seen, tiles, clip, y, x) for x in range(shape[1])] for y in range(shape[0])]
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-5)


def test_without_a_limit_one_tile_becomes_uniform() -> None:
    grey = torch.rand(2, 256, 256, generator=generator()).mean(0, keepdim=True)
    made = equalise(grey, 1, torch.tensor([1e6])).flatten().sort().values
    torch.testing.assert_close(made, torch.linspace(0, 1, len(made)), atol=0.01, rtol=0)


def chests(count: int, side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy slices (N, 3, H, W) in HU, soft tissue with a lung at -850 HU, and the lung."""
    lung = torch.zeros(count, 1, side, side, dtype=torch.bool)
    lung[:, :, 8:-8, 8:-8] = True
    hu = torch.where(lung, -850.0, 40.0).expand(count, 3, side, side)
    return (hu + 15 * torch.randn(hu.shape, generator=generator(5))).to(torch.int16), lung


def test_as_many_slices_as_stated_become_pictures_and_the_others_stay() -> None:
    hu, lung = chests(10)
    seen = show_enhanced(hu, lung, 0.3, generator())
    changed = (seen != hu).flatten(1).any(1)
    assert changed.sum() == 3
    assert not torch.equal(changed, (show_enhanced(hu, lung, 0.3, generator(1)) != hu).flatten(1).any(1))
    assert torch.equal(seen, show_enhanced(hu, lung, 0.3, generator()))


def test_a_picture_keeps_the_means_of_its_tissues_and_more_contrast_within_them() -> None:
    hu, lung = chests(16)
    seen = show_enhanced(hu, lung, 1.0, generator())
    everywhere = lung.expand_as(hu)
    # Less than air is cut off, and noise takes some tissue out of the range by which it is known.
    assert abs(seen[everywhere].mean() - -850) < 40
    assert abs(seen[~everywhere].mean() - 40) < 40
    assert seen[everywhere].std() > 2 * hu[everywhere].float().std()
    assert ((seen[:, :, 20:28, 20:28].mean((1, 2, 3)) + 500) < (seen[:, :, :4].mean((1, 2, 3)))).all()


def test_a_slice_without_lung_is_shown_as_it_is() -> None:
    hu, lung = chests(4)
    torch.testing.assert_close(show_enhanced(hu, torch.zeros_like(lung), 1.0, generator()), hu.float())


def test_lesions_become_denser_in_as_many_slices_as_stated() -> None:
    hu, _ = chests(2000, 16)
    lesions = torch.zeros(2000, 1, 16, 16, dtype=torch.bool)
    lesions[:, :, :6, :6] = True
    air = torch.full_like(hu, -850)
    seen = vary_lesions(air, lesions, torch.ones_like(lesions), Repainting(denser=0.4), generator())
    raised = seen[:, :, 1, 1] + 850
    assert (raised >= 0).all()
    assert 0.36 < (raised[:, 0] > 0).float().mean() < 0.44
    torch.testing.assert_close(raised[:, 0], raised[:, 2])  # neighbours as the slice itself
    # A uniform share of the way to soft tissue: half of the way on average.
    assert raised[raised > 0].mean().item() == pytest.approx(425, rel=0.06)
    assert (seen[:, :, 10:, 10:] == -850).all()


def test_lesions_fade_towards_the_aerated_lung_of_their_slice() -> None:
    """The lung around them is at -870 HU, with a vessel in it at 30 HU, which is not aerated."""
    hu = torch.full((2000, 3, 16, 16), -870, dtype=torch.int16)
    hu[:, :, 14] = 30
    lesions = torch.zeros(2000, 1, 16, 16, dtype=torch.bool)
    lesions[:, :, :6, :6] = True
    hu[:, :, :6, :6] = -470
    lung = torch.ones_like(lesions)
    seen = vary_lesions(hu, lesions, lung, Repainting(fainter=0.5), generator())
    lost = -470 - seen[:, :, 1, 1]
    assert 0.46 < (lost[:, 0] > 0.01).float().mean() < 0.54
    torch.testing.assert_close(lost[:, 0], lost[:, 2])
    # Up to three fifths of 400 HU.
    assert 235 < lost.max() <= 240.1
    assert lost[lost > 0.01].mean().item() == pytest.approx(120, rel=0.06)
    assert (seen[:, :, 14] == 30).all()
    # Where no aerated lung is left, nobody knows towards what they would fade.
    torch.testing.assert_close(vary_lesions(hu, lung, lung, Repainting(fainter=1.0), generator()), hu.float())


def test_lesions_become_uneven_by_as_much_as_stated() -> None:
    hu = torch.full((4000, 1, 16, 16), -700, dtype=torch.int16)
    lesions = torch.ones(4000, 1, 16, 16, dtype=torch.bool)
    seen = vary_lesions(hu, lesions, lesions, Repainting(uneven=0.5, uneven_hu=200), generator(2))
    spread = (seen + 700).flatten(1).std(1)
    assert 0.46 < (spread > 0.01).float().mean() < 0.54
    assert 150 < spread.max() < 260
    torch.testing.assert_close(vary_lesions(hu, lesions, lesions, Repainting(), generator()), hu.float())


@pytest.mark.parametrize("wrong", [{"denser": 1.5}, {"uneven": -0.1}, {"enhanced": float("nan")}, {"uneven_hu": -1.0}])
def test_impossible_amounts_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"model\.repainting\.{next(iter(wrong))} is"):
        Repainting(**wrong)
