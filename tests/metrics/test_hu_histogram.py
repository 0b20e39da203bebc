import numpy as np
import pytest
import torch

from metrics.hu_histogram import THRESHOLDS_HU, HuHistogram, best_threshold


def scans() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """6 slices of HU on whole numbers, many of them exactly on a candidate threshold."""
    rng = torch.Generator().manual_seed(0)
    shape = (6, 20, 17)
    hu = torch.randint(-44, 14, shape, generator=rng) * 25
    hu += torch.randint(-3, 4, shape, generator=rng) * torch.randint(0, 2, shape, generator=rng)
    noise = torch.randn(shape, generator=rng) * 200
    target = (hu + noise > torch.tensor([-300, -200, -200, 0, 0, -400]).view(6, 1, 1)).long()
    target[torch.rand(shape, generator=rng) < 0.1] = -1
    target[4] = target[4].clamp(max=0)  # a scan without the finding
    region, where = (torch.rand(shape, generator=rng) < p for p in (0.7, 0.9))
    return hu.short(), target, region, where


SCAN_ID = np.array(["b", "a", "a", "c", "empty", "b"])


def brute_force_dice(threshold: float) -> float:
    """Mean Dice over the scans with the finding, straight from the pixels."""
    hu, target, region, where = (t.numpy() for t in scans())
    figures = []
    for scan in ("a", "b", "c"):
        rows = scan == SCAN_ID
        counted = where[rows] & (target[rows] >= 0)
        predicted, truth = (hu[rows] > threshold) & region[rows] & counted, (target[rows] == 1) & counted
        figures.append(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))
    return float(np.mean(figures))


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_best_threshold_is_the_brute_force_one(dtype: torch.dtype) -> None:
    hu, target, region, where = scans()
    metric = HuHistogram(6)
    for i in (torch.tensor([0, 5, 3, 3]), torch.tensor([1, 2, 4, 0])):
        metric.update(hu[i].to(dtype), target[i], region[i], where[i], i)
    assert THRESHOLDS_HU[[0, -1]].tolist() == [-1000, 200]
    dice = [brute_force_dice(threshold) for threshold in THRESHOLDS_HU]
    best = best_threshold(metric.compute().numpy(), SCAN_ID)
    assert best == THRESHOLDS_HU[int(np.argmax(dice))]
    assert best is not None
    assert -900 < best < 100  # inside the grid, or this test would not notice a shift


def test_bins_follow_a_strict_threshold() -> None:
    metric = HuHistogram(1)
    hu = torch.tensor([[-1000, -999, -200, -199, 200, 201, 3000, 0]])[None]
    region = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0]])[None].bool()
    metric.update(hu, torch.ones_like(hu), region, torch.ones_like(region), torch.tensor([0]))
    counts = metric.compute()[0, :, 1]
    for k, threshold in enumerate(THRESHOLDS_HU):
        assert counts[k + 1 :].sum() == ((hu > threshold) & region).sum()
    assert counts.sum() == 8  # truth outside the region is kept: it is missed by every threshold
    assert not metric.compute()[0, :, 0].any()


def test_without_the_finding_there_is_no_threshold() -> None:
    assert best_threshold(np.zeros((6, len(THRESHOLDS_HU) + 1, 2), np.int32), SCAN_ID) is None
