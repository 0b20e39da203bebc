import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from metrics.summary import Metrics, in_region, summarise

# scan -> (site, slices, ml per voxel, weak label, has consolidation truth, truth known)
SCANS: dict[str, tuple[str, int, float, int, bool, bool]] = {
    "s9": ("A", 3, 0.01, 1, True, True),
    "s1": ("A", 2, 0.02, 0, False, True),
    "s2": ("B", 1, np.nan, 0, False, True),
    "s3": ("B", 4, 0.03, 1, True, True),
    "s4": ("C", 2, 0.05, -1, False, False),
    "s5": ("A", 2, 0.04, 0, False, True),
    "s6": ("B", 2, 0.01, 1, True, True),
}
NAMES = ("consolidation", "threshold", "threshold_best", "threshold_smoothed")
Voxels = dict[str, NDArray[Any]]


def make_voxels() -> tuple[list[Voxels], pd.DataFrame]:
    """Lung voxels of every slice: truths (-1 unknown) and predictions, with consolidation inside infection."""
    rng = np.random.default_rng(4)
    voxels, rows = [], []
    for order in range(4):  # the slices of a scan do not stand together
        for scan, (site, slices, ml, weak, positive, has_truth) in SCANS.items():
            if order >= slices:
                continue
            lung = int(rng.integers(150, 400))
            infection = rng.random(lung) < rng.uniform(0.1, 0.5)
            predicted = np.where(rng.random(lung) < 0.2, ~infection, infection)
            consolidation = infection & (rng.random(lung) < 0.5) & positive
            truth = {"infection": infection.astype(int), "consolidation": consolidation.astype(int)}
            for values in truth.values():
                values[rng.random(lung) < (0.05 if has_truth else 2)] = -1
            chance = {name: np.where(consolidation, 0.7, 0.1 * (k + 1)) for k, name in enumerate(NAMES)}
            predictions = {name: predicted & (rng.random(lung) < p) for name, p in chance.items()}
            voxels.append({f"truth_{k}": v for k, v in truth.items()} | {"infection": predicted} | predictions)
            rows.append({"scan_id": scan, "site": site, "voxel_ml": ml, "weak_label": weak})
    return voxels, pd.DataFrame(rows)


def table(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([[np.sum((truth == t) & (prediction == p)) for p in (0, 1)] for t in (0, 1, -1)])


def make_tables(voxels: list[Voxels]) -> dict[str, NDArray[np.int64]]:
    pairs = {"infection": ("truth_infection", "infection")}
    pairs |= {name: ("truth_consolidation", name) for name in NAMES}
    pairs["consolidation_truth_in_infection"] = ("truth_consolidation", "infection")
    return {name: np.stack([table(v[t], v[p]) for v in voxels]) for name, (t, p) in pairs.items()}


@pytest.fixture(scope="module")
def case() -> tuple[list[Voxels], pd.DataFrame, Metrics, pd.DataFrame]:
    voxels, slices = make_voxels()
    return voxels, slices, *summarise(make_tables(voxels), slices)


def rates(t: NDArray[Any], p: NDArray[Any]) -> dict[str, float]:
    """Overlap figures straight from the voxels."""
    t, p = t[t >= 0] == 1, p[t >= 0]
    both, either = np.sum(t & p), np.sum(t | p)
    with np.errstate(invalid="ignore"):
        figures = {"dice": 2 * both / (t.sum() + p.sum()), "iou": both / either, "rv": p.sum() / t.sum()}
        return figures | {"tpr": p[t].mean(), "fpr": p[~t].mean()}


def of(voxels: list[Voxels], keep: NDArray[np.bool_], key: str) -> NDArray[Any]:
    return np.concatenate([v[key] for v, k in zip(voxels, keep, strict=True) if k])


@pytest.mark.parametrize("name", ["infection", *NAMES])
@pytest.mark.parametrize("site", ["", "A", "B"])
def test_overlap_figures_against_the_voxels(case: Any, name: str, site: str) -> None:
    voxels, slices, metrics, _ = case
    here = (slices["site"] == site).to_numpy() if site else np.ones(len(slices), bool)
    prefix = f"site/{site}/" if site else ""
    truth = "truth_infection" if name == "infection" else "truth_consolidation"
    pooled = rates(of(voxels, here, truth), of(voxels, here, name))
    keys = {"dice_pooled": "dice", "iou_pooled": "iou", "relative_volume": "rv", "tpr": "tpr", "fpr": "fpr"}
    for key, figure in keys.items():
        assert metrics[f"{prefix}{name}/{key}"] == pytest.approx(pooled[figure])
    dice, false_ml = [], []
    for scan in set(slices["scan_id"][here]):
        rows = (slices["scan_id"] == scan).to_numpy()
        t, p = of(voxels, rows, truth), of(voxels, rows, name)
        if (t == 1).any():
            dice.append(rates(t, p)["dice"])
        elif (t == 0).any() and np.isfinite(SCANS[scan][2]):
            false_ml.append((p & (t == 0)).sum() * SCANS[scan][2])
    assert metrics[f"{prefix}{name}/dice_mean"] == pytest.approx(np.mean(dice))
    assert metrics[f"{prefix}{name}/dice_mean_n"] == len(dice)
    if name != "infection":
        ml = metrics[f"{prefix}{name}/false_positive_ml"]
        assert ml == pytest.approx(np.mean(false_ml)) if false_ml else ml is None
        assert metrics[f"{prefix}{name}/false_positive_ml_n"] == len(false_ml)
        inside = of(voxels, here, "infection")
        expected = rates(of(voxels, here, truth)[inside], of(voxels, here, name)[inside])
        assert metrics[f"{prefix}{name}/tpr_in_infection"] == pytest.approx(expected["tpr"])
        assert metrics[f"{prefix}{name}/fpr_in_infection"] == pytest.approx(expected["fpr"])


def test_in_region_is_the_table_counted_inside_the_region() -> None:
    voxels, _ = make_voxels()
    tables = make_tables(voxels)
    expected = [table(v["truth_consolidation"][v["infection"]], v["threshold"][v["infection"]]) for v in voxels]
    inside = in_region(tables["threshold"], tables["consolidation_truth_in_infection"])
    assert np.array_equal(inside, np.stack(expected))
    assert not np.array_equal(inside, tables["threshold"])


def test_a_prediction_outside_its_region_is_a_bug() -> None:
    outside = np.array([[90, 5], [3, 2], [0, 0]])
    with pytest.raises(AssertionError, match="leaves the region"):
        in_region(outside, np.array([[91, 4], [0, 5], [0, 0]]))


def test_scores_against_scipy_and_scikit_learn(case: Any) -> None:
    voxels, slices, metrics, scans = case
    severity, score = {}, {}
    for scan in SCANS:
        rows = (slices["scan_id"] == scan).to_numpy()
        t, p = of(voxels, rows, "truth_infection"), of(voxels, rows, "infection")
        score[scan] = of(voxels, rows, "consolidation").mean()
        if SCANS[scan][5]:
            severity[scan] = ((t[t >= 0]).mean(), p[t >= 0].mean())
    assert metrics["severity/pearson_r"] == pytest.approx(np.corrcoef(np.array([*severity.values()]).T)[0, 1])
    assert metrics["severity/pearson_r_n"] == 6
    labels = {scan: SCANS[scan][3] for scan in SCANS if SCANS[scan][3] >= 0}
    values = [score[scan] for scan in labels]
    assert metrics["consolidation_score/auc"] == pytest.approx(roc_auc_score([*labels.values()], values))
    assert metrics["consolidation_score/auc_n"] == 6
    groups = [[score[scan] for scan, label in labels.items() if label == z] for z in (1, 0)]
    assert metrics["consolidation_score/mann_whitney_p"] == pytest.approx(stats.mannwhitneyu(*groups).pvalue)
    by_scan = scans.set_index("scan_id")
    for scan, (truth, predicted) in severity.items():
        assert by_scan.loc[scan, "severity_truth"] == pytest.approx(truth)
        assert by_scan.loc[scan, "severity_predicted"] == pytest.approx(predicted)
    assert by_scan["consolidation_score"].to_dict() == pytest.approx(score)
    assert np.isnan(by_scan.loc["s4", "severity_truth"])  # no truth, but still a predicted severity
    rows = (slices["scan_id"] == "s4").to_numpy()
    assert by_scan.loc["s4", "severity_predicted"] == pytest.approx(of(voxels, rows, "infection").mean())


def test_scans_table(case: Any) -> None:
    voxels, slices, _, scans = case
    head = ["scan_id", "site", "slices", "lung_ml", "severity_truth", "severity_predicted", "consolidation_score"]
    figures = ("tp", "fp", "fn", "tn", "dice", "iou")
    counts = [f"{name}_{figure}" for name in ("infection", "consolidation", "threshold") for figure in figures]
    assert scans.columns.tolist() == [*head, "has_consolidation", *counts]
    assert scans["scan_id"].tolist() == list(SCANS)
    assert scans["site"].tolist() == [row[0] for row in SCANS.values()]
    assert scans["slices"].tolist() == [row[1] for row in SCANS.values()]
    assert scans["has_consolidation"].tolist() == [1, 0, 0, 1, pd.NA, 0, 1]
    for row in scans.itertuples():
        here = (slices["scan_id"] == row.scan_id).to_numpy()
        t, p = of(voxels, here, "truth_consolidation"), of(voxels, here, "threshold")
        assert row.lung_ml == pytest.approx(len(t) * SCANS[row.scan_id][2], nan_ok=True)
        assert row.threshold_tp == np.sum((t == 1) & p)
        assert row.threshold_fp == np.sum((t == 0) & p)
        assert row.threshold_fn == np.sum((t == 1) & ~p)
        assert row.threshold_tn == np.sum((t == 0) & ~p)
        expected = rates(t, p) if (t == 1).any() else {"dice": np.nan, "iou": np.nan}
        assert row.threshold_dice == pytest.approx(expected["dice"], nan_ok=True)
        assert row.threshold_iou == pytest.approx(expected["iou"], nan_ok=True)


def test_keys_are_the_designs_for_everything_and_each_site(case: Any) -> None:
    _, slices, metrics, _ = case
    overlap = ["dice_mean", "dice_mean_n", "dice_pooled", "iou_pooled", "relative_volume", "tpr", "fpr"]
    inside = ["tpr_in_infection", "fpr_in_infection", "false_positive_ml", "false_positive_ml_n"]
    keys = {"scans", "slices", "severity/pearson_r", "severity/pearson_r_n", "consolidation_score/auc"}
    keys |= {"consolidation_score/auc_n", "consolidation_score/mann_whitney_p"}
    keys |= {f"infection/{key}" for key in overlap} | {f"{name}/{key}" for name in NAMES for key in overlap + inside}
    assert set(metrics) == keys | {f"site/{site}/{key}" for site in "ABC" for key in keys}
    assert (metrics["scans"], metrics["slices"]) == (7, len(slices))
    assert (metrics["site/B/scans"], metrics["site/B/slices"]) == (3, 7)


def test_what_is_undefined_is_null_and_json_can_hold_the_rest(case: Any) -> None:
    metrics = case[2]
    json.dumps(metrics, allow_nan=False)
    assert {type(value) for value in metrics.values()} == {float, int, type(None)}
    empty = [key for key in metrics if key.startswith("site/C/") and not key.endswith(("_n", "scans", "slices"))]
    assert all(metrics[key] is None for key in empty)  # site C has no truth and no weak label
    assert metrics["site/C/consolidation/dice_mean_n"] == 0


def test_stage_1_has_no_consolidation_and_keeps_the_columns() -> None:
    voxels, slices = make_voxels()
    metrics, scans = summarise({"infection": make_tables(voxels)["infection"]}, slices)
    assert not any("consolidation" in key or "threshold" in key for key in metrics)
    assert scans["consolidation_score"].isna().all()
    assert scans.columns[-1] == "infection_iou"
