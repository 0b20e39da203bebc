import numpy as np
import pytest
import torch
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, recall_score

from metrics import overlap

FIGURES = (overlap.dice, overlap.iou, overlap.relative_volume, overlap.tpr)


def test_against_scikit_learn_and_monai() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((5, 400)) < 0.3, rng.random((5, 400)) < 0.4
    table = np.zeros((5, 3, 2), np.int64)
    table[:, :2] = [confusion_matrix(t, p) for t, p in zip(truth, prediction, strict=True)]
    table[:, 2] = 1000  # unknown truth enters no figure
    for i, (t, p) in enumerate(zip(truth, prediction, strict=True)):
        assert overlap.dice(table)[i] == pytest.approx(f1_score(t, p))
        assert overlap.iou(table)[i] == pytest.approx(jaccard_score(t, p))
        assert overlap.tpr(table)[i] == pytest.approx(recall_score(t, p))
        assert overlap.fpr(table)[i] == pytest.approx(1 - recall_score(~t, ~p))
        assert overlap.relative_volume(table)[i] == pytest.approx(p.sum() / t.sum())
    p_images, t_images = (torch.from_numpy(m.reshape(5, 1, 20, 20).astype(np.float32)) for m in (prediction, truth))
    np.testing.assert_allclose(overlap.dice(table), compute_dice(p_images, t_images)[:, 0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(overlap.iou(table), compute_iou(p_images, t_images)[:, 0].numpy(), rtol=1e-6)


@pytest.mark.parametrize("false_positives", [0, 7])
def test_empty_truth_is_nan_with_or_without_false_positives(false_positives: int) -> None:
    table = np.array([[93, false_positives], [0, 0], [5, 5]])
    assert all(np.isnan(figure(table)) for figure in FIGURES)
    assert overlap.fpr(table) == pytest.approx(false_positives / (93 + false_positives))


def test_missed_truth_is_0_and_truth_everywhere_has_no_fpr() -> None:
    table = np.array([[0, 0], [10, 0], [0, 0]])
    assert all(figure(table) == 0 for figure in FIGURES)
    assert np.isnan(overlap.fpr(table))


def test_hand_computed() -> None:
    table = np.array([[80, 4], [6, 10], [0, 0]])
    assert tuple(map(int, overlap.counts(table))) == (10, 4, 6, 80)
    assert overlap.dice(table) == pytest.approx(20 / 30)
    assert overlap.iou(table) == pytest.approx(10 / 20)
    assert overlap.relative_volume(table) == pytest.approx(14 / 16)
    assert overlap.tpr(table) == pytest.approx(10 / 16)
    assert overlap.fpr(table) == pytest.approx(4 / 84)
