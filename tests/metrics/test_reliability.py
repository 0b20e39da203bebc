from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torch.distributed import ReduceOp

from metrics.ranks import by_magnitude
from metrics.reliability import BINS, SliceSums, expected_calibration_error, reliability


def random_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    p = torch.rand(3, 17, 19, generator=rng)
    truth = (torch.rand(3, 17, 19, generator=rng) < p**2).float()
    return p, truth, torch.rand(3, 17, 19, generator=rng) < 0.7


def test_table_agrees_with_scikit_learns_calibration_curve() -> None:
    p, truth, where = random_case()
    table = reliability(p, truth, where).sum(0).numpy()
    fraction, mean = calibration_curve(truth[where].numpy(), p[where].double().numpy(), n_bins=BINS)
    np.testing.assert_allclose(table[:, 2] / table[:, 0], fraction, atol=1e-9)
    np.testing.assert_allclose(table[:, 1] / table[:, 0], mean, atol=1e-6)
    assert table[:, 0].sum() == where.sum()


def test_error_is_the_weighted_gap() -> None:
    p, truth, where = random_case()
    values, labels = p[where].double().numpy(), truth[where].double().numpy()
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    gaps = [abs(labels[bins == b].mean() - values[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    error = expected_calibration_error(reliability(p, truth, where).sum(0).numpy())
    assert error == pytest.approx(sum(gaps))
    assert error > 0.05


def test_perfect_probabilities_have_error_zero_and_no_pixel_is_nan() -> None:
    ones = torch.ones(1, 4, 4)
    everywhere = ones.bool()
    assert expected_calibration_error(reliability(ones, ones, everywhere).sum(0).numpy()) == 0
    assert expected_calibration_error(reliability(ones, 0 * ones, everywhere).sum(0).numpy()) == 1
    assert np.isnan(expected_calibration_error(reliability(ones, ones, ~everywhere).sum(0).numpy()))


def two_ranks(other: torch.Tensor) -> Callable[..., None]:
    """Stand for a reduction with the table of another rank."""

    def reduce(table: torch.Tensor, operation: object, group: object) -> None:
        table.copy_(torch.maximum(table, other) if operation == ReduceOp.MAX else torch.minimum(table, other))

    return reduce


def test_repeated_slices_and_ranks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = torch.tensor([[1.5, -2.0], [3.0, 4.0], [-7.0, 0.5]])
    whole, first, second = SliceSums(4, 2), SliceSums(4, 2), SliceSums(4, 2)
    whole.update(sums, torch.tensor([0, 1, 3]))
    first.update(sums[:2], torch.tensor([0, 1]))
    second.update(sums[1:], torch.tensor([1, 3]))
    monkeypatch.setattr(torch.distributed, "all_reduce", two_ranks(second.table))
    (merged,) = by_magnitude(first.table)
    torch.testing.assert_close(merged, whole.compute())
