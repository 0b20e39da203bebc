"""Figures of metrics.json and rows of scans.csv from the confusion tables of a run (keys: docs/results.md)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from metrics import overlap

Tables = Mapping[str, NDArray[np.int64]]
Metrics = dict[str, float | int | None]

INFECTED_CONSOLIDATION = "consolidation_truth_in_infection"
CONSOLIDATION_FAMILY = ("consolidation", "threshold", "threshold_best", "threshold_smoothed")
SCAN_COLUMNS_OF = ("infection", "consolidation", "threshold")


def in_region(table: NDArray[np.int64], region: NDArray[np.int64]) -> NDArray[np.int64]:
    """Restrict a finding's table to the region that the finding was predicted in.

    A prediction that never leaves its region has the same positives inside it, so only the negatives change: in each
    row of truth they are the region's pixels less the positives.

    Args:
        table: (..., 3, 2), truth x prediction over the lungs.
        region: (..., 3, 2), the same truth x "is inside the region" over the lungs.

    Returns:
        (..., 3, 2), truth x prediction over the region.
    """
    positive = table[..., 1]
    inside = np.stack([region[..., 1] - positive, positive], axis=-1)
    assert (inside >= 0).all(), "a prediction leaves the region it is restricted to"
    return inside


def summarise(tables: Tables, slices: pd.DataFrame) -> tuple[Metrics, pd.DataFrame]:
    """Return all figures of a test run, over everything and for each site.

    Args:
        tables: (num_slices, 3, 2) int64 tables over the lung voxels, as in `metrics.overlap`, by name: one or more of
            infection, consolidation, threshold, threshold_best, threshold_smoothed; and, with any of the last four,
            consolidation_truth_in_infection: truth = consolidation, prediction = the predicted infected region.
        slices: One row per slice with the columns scan_id, site, voxel_ml (NaN if the spacing is unknown) and
            weak_label (1, 0, or -1 if unknown; the same for all slices of a scan).

    Returns:
        (metrics, scans): the flat dict of metrics.json, None where a figure is undefined, and the table of scans.csv,
        scans in order of first appearance.
    """
    for name, table in tables.items():
        assert table.shape == (len(slices), 3, 2), f"{name}: {table.shape} for {len(slices)} slices"
    scans = _scans(tables, slices)
    return over_all_and_sites(_figures, tables, slices, scans), scans


def over_all_and_sites(
    figures_of: Callable[[Mapping[str, NDArray[Any]], pd.DataFrame, pd.DataFrame], Metrics],
    tables: Mapping[str, NDArray[Any]],
    slices: pd.DataFrame,
    scans: pd.DataFrame,
) -> Metrics:
    """Return the figures of (tables, slices, scans) over everything, and under site/<site>/<key> those of each site."""
    metrics = figures_of(tables, slices, scans)
    for site in scans["site"].unique():
        of_site = (slices["site"] == site).to_numpy()
        site_tables = {name: table[of_site] for name, table in tables.items()}
        figures = figures_of(site_tables, slices[of_site], scans[scans["site"] == site])
        metrics |= {f"site/{site}/{key}": value for key, value in figures.items()}
    return metrics


def per_scan(values: NDArray[Any], slices: pd.DataFrame) -> NDArray[Any]:
    """Sum per-slice values (num_slices, ...) over the slices of each scan, in order of first appearance."""
    scan, names = pd.factorize(slices["scan_id"])
    sums = np.zeros((len(names), *values.shape[1:]), values.dtype)
    np.add.at(sums, scan, values)
    return sums


def _share(table: NDArray[np.int64], positives: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return positives as a share of a table's voxels of known truth, or of all where none is known; NaN of none."""
    labelled = table[:, :2].sum((1, 2))
    voxels = np.where(labelled > 0, labelled, table.sum((1, 2)))
    share: NDArray[np.float64] = positives / np.where(voxels > 0, voxels, np.nan)
    return share


def _severity(table: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the severity (equation 14) of truth and prediction per scan, over the same voxels for comparison.

    Args:
        table: (num_scans, 3, 2) of infection over the lungs. Voxels of unknown truth are left out of both, unless the
            scan has no truth at all: then its true severity is NaN and the predicted one is over the whole lungs.
    """
    has_truth = table[:, :2].sum((1, 2)) > 0
    predicted = np.where(has_truth, table[:, :2, 1].sum(1), table[:, :, 1].sum(1))
    return np.where(has_truth, _share(table, table[:, 1].sum(1)), np.nan), _share(table, predicted)


def _scans(tables: Tables, slices: pd.DataFrame) -> pd.DataFrame:
    """Return the table of scans.csv; figures without a table are NaN, an unknown has_consolidation is <NA>."""
    first = slices.groupby("scan_id", sort=False).first()
    nan = np.full(len(first), np.nan)
    columns: dict[str, Any] = {"scan_id": first.index, "site": first["site"].to_numpy()}
    columns["slices"] = per_scan(np.ones(len(slices), np.int64), slices)
    voxels = next(iter(tables.values())).sum((1, 2))
    columns["lung_ml"] = per_scan(voxels * slices["voxel_ml"].to_numpy(float), slices)
    columns |= {"severity_truth": nan, "severity_predicted": nan, "consolidation_score": nan}
    if "infection" in tables:
        columns["severity_truth"], columns["severity_predicted"] = _severity(per_scan(tables["infection"], slices))
    if "consolidation" in tables:
        table = per_scan(tables["consolidation"], slices)
        lung = table.sum((1, 2))
        columns["consolidation_score"] = table[..., 1].sum(1) / np.where(lung > 0, lung, np.nan)  # equation 15
    weak_label = first["weak_label"].astype("Int64").reset_index(drop=True)
    columns["has_consolidation"] = weak_label.mask(weak_label < 0)
    for name in SCAN_COLUMNS_OF:
        if name in tables:
            columns |= overlap_columns(name, per_scan(tables[name], slices))
    return pd.DataFrame(columns)


def overlap_columns(name: str, table: NDArray[np.int64]) -> dict[str, Any]:
    """Return the columns of scans.csv for a finding's tables (num_scans, 3, 2): counts, Dice and IOU."""
    counts = overlap.counts(table)._asdict()
    columns: dict[str, Any] = {f"{name}_{key}": value for key, value in counts.items()}
    return columns | {f"{name}_dice": overlap.dice(table), f"{name}_iou": overlap.iou(table)}


def tables_of(scans: pd.DataFrame, name: str) -> NDArray[np.int64]:
    """Return (num_scans, 3, 2): the tables behind the rows of scans.csv, without the voxels of unknown truth."""
    parts = overlap.Counts._fields
    return overlap.table_of_counts(scans[[f"{name}_{part}" for part in parts]].to_numpy(np.int64))


def _figures(tables: Tables, slices: pd.DataFrame, scans: pd.DataFrame) -> Metrics:
    """Return the flat figures of these slices; `scans` holds the rows of the same scans."""
    figures: Metrics = {"scans": len(scans), "slices": len(slices)}
    if "infection" in tables:
        figures |= overlap_figures("infection", tables["infection"], slices)
        r, n = pearson(scans["severity_truth"].to_numpy(float), scans["severity_predicted"].to_numpy(float))
        figures |= {"severity/pearson_r": r, "severity/pearson_r_n": n}
    for name in CONSOLIDATION_FAMILY:
        if name in tables:
            figures |= _consolidation_figures(name, tables[name], tables[INFECTED_CONSOLIDATION], slices)
    if "consolidation" in tables:
        figures |= _score_figures(scans)
    return figures


def overlap_figures(name: str, table: NDArray[np.int64], slices: pd.DataFrame) -> Metrics:
    """Return the mean Dice over the scans that have the finding, and the figures of one table pooled over all scans."""
    pooled = table.sum(0)
    return mean_figure(f"{name}/dice_mean", overlap.dice(per_scan(table, slices))) | {
        f"{name}/{figure}": number(view(pooled)) for figure, view in overlap.POOLED.items()
    }


def _consolidation_figures(
    name: str, table: NDArray[np.int64], region: NDArray[np.int64], slices: pd.DataFrame
) -> Metrics:
    """Return overlap, rates inside the predicted infected region, and false positives of scans without the finding."""
    inside = in_region(table, region).sum(0)
    of_scan = per_scan(table, slices)
    without = (of_scan[:, 1].sum(1) == 0) & (of_scan[:, 0].sum(1) > 0)
    false_positive_ml = per_scan(table[:, 0, 1] * slices["voxel_ml"].to_numpy(float), slices)
    return (
        overlap_figures(name, table, slices)
        | {f"{name}/tpr_in_infection": number(overlap.tpr(inside))}
        | {f"{name}/fpr_in_infection": number(overlap.fpr(inside))}
        | mean_figure(f"{name}/false_positive_ml", false_positive_ml[without])
    )


def _score_figures(scans: pd.DataFrame) -> Metrics:
    """Return how the consolidation score separates scans with the weak label 1 from those with 0 (Mann-Whitney U)."""
    score, label = scans["consolidation_score"].to_numpy(float), scans["has_consolidation"].fillna(-1).to_numpy(int)
    score, label = score[np.isfinite(score)], label[np.isfinite(score)]
    positive, negative = score[label == 1], score[label == 0]
    figures: Metrics = {"consolidation_score/auc": None, "consolidation_score/mann_whitney_p": None}
    if len(positive) and len(negative):
        u, p = stats.mannwhitneyu(positive, negative, alternative="two-sided")
        figures["consolidation_score/auc"] = number(u / (len(positive) * len(negative)))
        figures["consolidation_score/mann_whitney_p"] = number(p)
    return figures | {"consolidation_score/auc_n": len(positive) + len(negative)}


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float | None, int]:
    """Return Pearson's r over the pairs without NaN, and their number; None where either does not vary."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, len(x)
    return number(stats.pearsonr(x, y).statistic), len(x)


def mean_figure(key: str, values: NDArray[np.float64]) -> Metrics:
    """Return the mean of the values that are not NaN under `key`, and their number under `<key>_n`."""
    values = values[np.isfinite(values)]
    return {key: number(values.mean()) if len(values) else None, f"{key}_n": len(values)}


def number(value: Any) -> float | None:
    """Return a plain float, or None for NaN, which JSON cannot hold."""
    return None if math.isnan(value) else float(value)
