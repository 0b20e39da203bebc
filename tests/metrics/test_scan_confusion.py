import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from metrics.scan_confusion import ScanConfusion

SLICES = 7


def images(classes: int = 2, size: tuple[int, int] = (13, 9)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shape = (SLICES, *size)
    prediction = torch.randint(0, classes, shape, generator=rng)
    target = torch.randint(-1, classes, shape, generator=rng)
    return prediction, target, torch.rand(shape, generator=rng) < 0.7


def reference(prediction: torch.Tensor, target: torch.Tensor, where: torch.Tensor, classes: int) -> NDArray[np.int64]:
    """scikit-learn's confusion matrix with -1 moved to the last row."""
    tables = []
    for p, t, w in zip(prediction.numpy(), target.numpy(), where.numpy(), strict=True):
        labels = [*range(classes), -1]
        matrix = confusion_matrix(t[w], p[w], labels=labels) if w.any() else np.zeros((len(labels), len(labels)), int)
        tables.append(matrix[:, :classes])
    return np.stack(tables)


@pytest.mark.parametrize("size", [(1, 1), (13, 9), (300, 311)])
@pytest.mark.parametrize("classes", [2, 5])
def test_table_is_scikit_learns_confusion_matrix(classes: int, size: tuple[int, int]) -> None:
    prediction, target, where = images(classes, size)
    where[-1] = True
    metric = ScanConfusion(SLICES, classes)
    for i in (torch.tensor([0, 1, 2]), torch.tensor([6, 3, 5, 4])):
        metric.update(prediction[i], target[i], where[i], i)
    assert metric.compute().dtype == torch.int64
    assert np.array_equal(metric.compute().numpy(), reference(prediction, target, where, classes))


@pytest.mark.parametrize(("prediction_type", "target_type"), [(torch.bool, torch.int8), (torch.uint8, torch.int16)])
def test_small_types_are_counted_alike(prediction_type: torch.dtype, target_type: torch.dtype) -> None:
    prediction, target, where = images()
    metric = ScanConfusion(SLICES)
    metric.update(prediction.to(prediction_type), target.to(target_type), where, torch.arange(SLICES))
    assert np.array_equal(metric.compute().numpy(), reference(prediction, target, where, 2))
    metric.update(prediction, target.clamp(min=0).bool(), where, torch.arange(SLICES))
    assert np.array_equal(metric.compute().numpy(), reference(prediction, target.clamp(min=0), where, 2))


def test_duplicates_change_nothing_and_unseen_slices_are_0() -> None:
    prediction, target, where = images()
    metric = ScanConfusion(SLICES)
    for order in ([4, 1, 1], [1, 6], [4]):
        i = torch.tensor(order)
        metric.update(prediction[i], target[i], where[i], i)
    table, expected = metric.compute().numpy(), reference(prediction, target, where, 2)
    assert np.array_equal(table[[1, 4, 6]], expected[[1, 4, 6]])
    assert not table[[0, 2, 3, 5]].any()


def test_a_new_prediction_of_a_slice_replaces_the_old_one() -> None:
    prediction, target, where = images()
    metric = ScanConfusion(SLICES)
    everything = torch.arange(SLICES)
    metric.update(1 - prediction, target, where, everything)
    metric.update(prediction, target, where, everything)
    assert np.array_equal(metric.compute().numpy(), reference(prediction, target, where, 2))
    metric.reset()
    assert not metric.compute().any()
