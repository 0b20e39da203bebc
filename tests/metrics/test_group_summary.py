import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score

from metrics.group_summary import one_against_rest, summarise_groups
from metrics.reliability import BINS, expected_calibration_error, reliability
from metrics.scan_confusion import ScanConfusion

SCANS = ["a", "a", "b", "c", "c"]
SITES = ["X", "X", "X", "Y", "Y"]


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.choice([-1, 0, 1, 2, 3, 4], (5, 13, 11), p=[0.1, 0.2, 0.4, 0.1, 0.1, 0.1])
    guess = np.where(rng.random(truth.shape) < 0.6, truth.clip(min=0), rng.integers(0, 5, truth.shape))
    truth[3:] = np.where(truth[3:] == 4, 1, truth[3:])  # scan c has no consolidation
    return {"truth": truth, "guess": guess, "p": rng.random(truth.shape), "lung": rng.random(truth.shape) < 0.8}


def tables_of(case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    truth, guess, p, lung = (torch.tensor(case[name]) for name in ("truth", "guess", "p", "lung"))
    rows = torch.arange(5)
    groups, opacity = ScanConfusion(5, 5), ScanConfusion(5)
    opaque = torch.where(truth < 0, truth, (truth >= 2).long())
    groups.update(guess, truth, lung, rows)
    opacity.update(p > 0.5, opaque, lung, rows)
    loss = np.stack([np.arange(5.0), np.full(5, 10.0)], 1)
    table = reliability(p, opaque, lung & (truth >= 0)).numpy()
    return {
        "groups": groups.compute().numpy(),
        "opacity": opacity.compute().numpy(),
        "reliability": table,
        "group_reliability": reliability(p, guess == truth, lung & (truth >= 0)).numpy(),
        "loss": loss,
    }


def described() -> pd.DataFrame:
    label = [1, 1, -1, 0, 0]
    return pd.DataFrame({"scan_id": SCANS, "site": SITES, "voxel_ml": [0.5] * 5, "weak_label": label})


def test_figures_are_scikit_learns(case: dict[str, np.ndarray]) -> None:
    metrics, scans = summarise_groups(tables_of(case), described())
    counts = case["lung"] & (case["truth"] >= 0)
    truth, guess = case["truth"][counts], case["guess"][counts]
    for group in (2, 3, 4):
        expected = jaccard_score(truth == group, guess == group)
        assert metrics[f"group_{group}/iou_pooled"] == pytest.approx(expected)
    opaque, predicted = truth >= 2, case["p"][counts] > 0.5
    assert metrics["opacity/iou_pooled"] == pytest.approx(jaccard_score(opaque, predicted))
    assert metrics["opacity/relative_volume"] == pytest.approx(predicted.sum() / opaque.sum())
    assert metrics["test/loss"] == pytest.approx(10 / 50)
    right = (case["guess"] == case["truth"])[counts]
    bins = (case["p"][counts] * BINS).astype(int)
    gaps = [abs((right[bins == b] - case["p"][counts][bins == b]).sum()) for b in range(BINS)]
    assert metrics["groups/ece"] == pytest.approx(sum(gaps) / len(bins))
    assert metrics["group_4/dice_mean_n"] == 2  # scan c has none
    wal = {}
    for scan in "abc":
        here = counts & (np.array(SCANS) == scan)[:, None, None]
        wal[scan] = 100 * (case["truth"][here] < 2).mean(), 100 * (case["p"][here] <= 0.5).mean()
    np.testing.assert_allclose(scans[["wal_truth", "wal_predicted"]], list(wal.values()))
    assert metrics["wal/pearson_r"] == pytest.approx(np.corrcoef(np.array(list(wal.values())).T)[0, 1])
    assert metrics["wal/pearson_r_n"] == 3


def test_sites_are_the_figures_of_their_own_slices(case: dict[str, np.ndarray]) -> None:
    tables = tables_of(case)
    metrics, _ = summarise_groups(tables, described())
    alone, _ = summarise_groups({name: table[3:] for name, table in tables.items()}, described()[3:])
    for key, value in alone.items():
        if "/" in key and not key.startswith("site/"):
            assert metrics[f"site/Y/{key}"] == value
    assert metrics["site/Y/group_4/iou_pooled"] is None
    error = expected_calibration_error(tables["reliability"][:3].sum(0))
    assert metrics["site/X/opacity/ece"] == pytest.approx(error)


def test_scans_hold_the_counts_of_their_voxels(case: dict[str, np.ndarray]) -> None:
    _, scans = summarise_groups(tables_of(case), described())
    assert list(scans["scan_id"]) == ["a", "b", "c"]
    here = case["lung"][2] & (case["truth"][2] >= 0)
    truth, guess = case["truth"][2][here] == 3, case["guess"][2][here] == 3
    counts = scans.set_index("scan_id").loc["b", [f"group_3_{name}" for name in ("tn", "fp", "fn", "tp")]]
    assert list(counts) == confusion_matrix(truth, guess).ravel().tolist()
    assert scans["lung_ml"].tolist() == [case["lung"][i].sum() * 0.5 for i in ([0, 1], [2], [3, 4])]
    assert {"opacity_iou", "group_2_dice", "group_4_tp", "severity_truth", "consolidation_score"} <= set(scans)


def test_without_any_labelled_pixel_figures_are_undefined_not_zero() -> None:
    tables = {
        "groups": np.zeros((1, 6, 5), np.int64),
        "opacity": np.zeros((1, 3, 2), np.int64),
        "reliability": np.zeros((1, BINS, 3)),
        "group_reliability": np.zeros((1, BINS, 3)),
        "loss": np.zeros((1, 2)),
    }
    tables["groups"][0, 5, 1] = tables["opacity"][0, 2, 0] = 7
    metrics, scans = summarise_groups(tables, described()[:1])
    undefined = ("opacity/iou_pooled", "opacity/ece", "test/loss", "wal/pearson_r", "group_2/relative_volume")
    assert all(metrics[key] is None for key in undefined)
    assert scans["wal_truth"].isna().all()


def test_one_against_rest_keeps_unknown_truth_apart() -> None:
    table = np.arange(30).reshape(6, 5)
    binary = one_against_rest(table, 2)
    assert binary[1, 1] == table[2, 2]
    assert binary[2].tolist() == [table[5].sum() - table[5, 2], table[5, 2]]
    assert binary.sum() == table.sum()
