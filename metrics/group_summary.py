"""Figures of the multi-class task from the tables of a run: metrics.json and scans.csv."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ct.classes import CONSOLIDATION, L3, ClassSet
from metrics.reliability import expected_calibration_error
from metrics.summary import Metrics, number, over_all_and_sites, overlap_columns, overlap_figures, pearson, per_scan

Tables = Mapping[str, NDArray[Any]]


def one_against_rest(table: NDArray[np.int64], group: int) -> NDArray[np.int64]:
    """Return the binary table of one group.

    Args:
        table: (..., C + 1, C), truth (last row unknown) x prediction.
        group: The group.

    Returns:
        (..., 3, 2) as in `metrics.overlap`.
    """
    predicted = table[..., group]
    columns = np.stack([table.sum(-1) - predicted, predicted], -1)
    positive, unknown = columns[..., group, :], columns[..., -1, :]
    return np.stack([columns[..., :-1, :].sum(-2) - positive, positive, unknown], -2)


def shares_of_truth(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each true class that is called each class; NaN for a class without voxels.

    Args:
        table: (C, C), truth x prediction.
    """
    total = table.sum(1, keepdims=True)
    return np.divide(table, total, out=np.full(table.shape, np.nan), where=total > 0)


def summarise_groups(tables: Tables, slices: pd.DataFrame, classes: ClassSet = L3) -> tuple[Metrics, pd.DataFrame]:
    """Return all figures of a test run, over everything and for each site.

    Args:
        tables: opacity (num_slices, 3, 2), summed probability of the outermost finding's leaves > 0.5, over the lungs;
            groups (num_slices, C + 1, C), the likeliest leaf, over the lungs, and beyond where a leaf lies outside
            them. reliability and group_reliability (num_slices, BINS, 3) of the summed probability and of the
            confidence in the predicted leaf.
            loss (num_slices, 2): sum over valid pixels and their number.
        slices: One row per slice with the columns scan_id, site, voxel_ml and weak_label.
        classes: The class set of the leaves.

    Returns:
        (metrics, scans) as `metrics.summary.summarise` gives them.
    """
    scans = _scans(tables, slices, classes)
    return over_all_and_sites(partial(_figures, classes=classes), tables, slices, scans), scans


def _binary_tables(tables: Tables, classes: ClassSet) -> dict[str, NDArray[np.int64]]:
    alone = {classes.leaves[index].key: one_against_rest(tables["groups"], index) for index in classes.foreground}
    return {classes.findings[0].figures: tables["opacity"]} | alone


def _scans(tables: Tables, slices: pd.DataFrame, classes: ClassSet) -> pd.DataFrame:
    first = slices.groupby("scan_id", sort=False).first()
    columns: dict[str, Any] = {"scan_id": first.index, "site": first["site"].to_numpy()}
    columns["slices"] = per_scan(np.ones(len(slices), np.int64), slices)
    lung = tables["opacity"].sum((1, 2))
    columns["lung_ml"] = per_scan(lung * slices["voxel_ml"].to_numpy(float), slices)
    # Over the labelled voxels only, so that truth and prediction refer to the same voxels.
    labelled = per_scan(tables["opacity"][:, :2], slices)
    voxels = labelled.sum((1, 2))
    share = np.where(voxels > 0, voxels, np.nan)
    columns["severity_truth"] = labelled[:, 1].sum(1) / share
    columns["severity_predicted"] = labelled[..., 1].sum(1) / share
    columns["wal_truth"] = 100 * (1 - columns["severity_truth"])
    columns["wal_predicted"] = 100 * (1 - columns["severity_predicted"])
    columns["consolidation_score"] = np.full(len(first), np.nan)
    if classes.has(CONSOLIDATION):
        dense = list(classes.indices_of(CONSOLIDATION))
        columns["consolidation_score"] = per_scan(tables["groups"], slices)[:, :-1, dense].sum((1, 2)) / share
    weak_label = first["weak_label"].astype("Int64").reset_index(drop=True)
    columns["has_consolidation"] = weak_label.mask(weak_label < 0)
    for name, table in _binary_tables(tables, classes).items():
        columns |= overlap_columns(name, per_scan(table, slices))
    return pd.DataFrame(columns)


def _figures(tables: Tables, slices: pd.DataFrame, scans: pd.DataFrame, classes: ClassSet) -> Metrics:
    figures: Metrics = {"scans": len(scans), "slices": len(slices)}
    for name, table in _binary_tables(tables, classes).items():
        figures |= overlap_figures(name, table, slices)
    r, n = pearson(scans["wal_truth"].to_numpy(float), scans["wal_predicted"].to_numpy(float))
    loss, pixels = tables["loss"].sum(0)
    return figures | {
        "wal/pearson_r": r,
        "wal/pearson_r_n": n,
        f"{classes.findings[0].figures}/ece": number(expected_calibration_error(tables["reliability"].sum(0))),
        "groups/ece": number(expected_calibration_error(tables["group_reliability"].sum(0))),
        "test/loss": number(loss / pixels) if pixels else None,
    }
