"""Tables and summary of a reader study; every IOU is pooled over the pixels of all scans that a reader read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.readers.study_counts import FINDINGS, ScanCounts
from metrics.agreement import Counts, Figures, iou, relative_volume
from metrics.ceiling import compare_with_readers, human_ceiling

Metrics = dict[str, float | int | None]

MODEL = "model"
WITH_SELF, WITHOUT_SELF = 0, 1


def stacked(tables: Sequence[Counts]) -> Counts:
    """Stack the tables of S scans, padded with 0 where there are fewer readers: int64 (S, ...)."""
    shape = tuple(np.max([table.shape for table in tables], axis=0))
    stack = np.zeros((len(tables), *shape), np.int64)
    for place, table in zip(stack, tables, strict=True):
        place[tuple(slice(length) for length in table.shape)] = table
    return stack


def pairwise_iou(scans: Sequence[ScanCounts], finding: str = "opacity") -> Figures:
    """Return the IOU of every two readers (R, R), NaN on the diagonal and where they read no scan in common."""
    figures = iou(stacked([scan.overlaps.pairs[FINDINGS.index(finding)] for scan in scans]).sum(0))
    np.fill_diagonal(figures, np.nan)
    return figures


def average_iou(scans: Sequence[ScanCounts]) -> Figures:
    """Return the IOU of each reader with the average of all readers, and with the average of the others: (2, R)."""
    return iou(stacked([scan.overlaps.average for scan in scans]).sum(0))


def model_iou(scans: Sequence[ScanCounts]) -> tuple[Figures, Figures]:
    """Return the IOU of the model with each reader (R,), and with the averages of all and of all but each (2, R)."""
    pairs = iou(stacked([scan.overlaps.model_pairs for scan in scans]).sum(0))
    return pairs, iou(stacked([scan.overlaps.model_average for scan in scans]).sum(0))


def readers_table(scans: Sequence[ScanCounts]) -> pd.DataFrame:
    """Return readers.csv: a row per reader and, with a model, a last one for it.

    Columns: reader, scans, opacity_ml (over the opacity_ml_n scans of known spacing), pairwise_iou_mean, iou_average
    and iou_average_of_others (average reader with and without the reader), relative_volume (to the average of the
    others), staple_iou, staple_sensitivity and staple_specificity (mean over their _n scans; readers only) and
    staple_same_group (share of the voxels opaque by multi-label STAPLE on which the reader says the same group).
    """
    average, staple = average_iou(scans), iou(stacked([scan.staple.readers for scan in scans]).sum(0))
    volume = relative_volume(stacked([scan.overlaps.average for scan in scans]).sum(0))[WITHOUT_SELF]
    same = stacked([scan.staple.same_group for scan in scans]).sum(0)
    rows: list[dict[str, Any]] = []
    for reader, peers in enumerate(pairwise_iou(scans)):
        read = [scan for scan in scans if scan.readers > reader]
        rows.append(
            {"reader": str(reader + 1), "scans": len(read)}
            | _volume([int(scan.opaque[reader]) for scan in read], read)
            | {"pairwise_iou_mean": finite_mean(peers), "iou_average": average[WITH_SELF, reader]}
            | {"iou_average_of_others": average[WITHOUT_SELF, reader], "relative_volume": volume[reader]}
            | {"staple_iou": staple[reader]}
            | _mean_over_scans("staple_sensitivity", [scan.staple.sensitivity[reader] for scan in read])
            | _mean_over_scans("staple_specificity", [scan.staple.specificity[reader] for scan in read])
            | {"staple_same_group": same[reader, 1] / same[reader, 0] if same[reader, 0] else np.nan}
        )
    with_model = [scan for scan in scans if scan.has_model]
    return pd.DataFrame([*rows, _model_row(with_model)] if with_model else rows)


def _model_row(scans: Sequence[ScanCounts]) -> dict[str, Any]:
    """Return the model's row of readers.csv, on the scans with a mask by it; means over the readers."""
    pairs, average = model_iou(scans)
    volume = relative_volume(stacked([scan.overlaps.model_average for scan in scans]).sum(0))[WITHOUT_SELF]
    return (
        {"reader": MODEL, "scans": len(scans)}
        | _volume([scan.model_opaque for scan in scans], scans)
        | {"pairwise_iou_mean": finite_mean(pairs), "iou_average": finite_mean(average[WITH_SELF])}
        | {"iou_average_of_others": finite_mean(average[WITHOUT_SELF]), "relative_volume": finite_mean(volume)}
        | {"staple_iou": iou(np.sum([scan.staple.model for scan in scans], 0)).item()}
        | {"staple_sensitivity_n": 0, "staple_specificity_n": 0}
    )


def pairs_table(scans: Sequence[ScanCounts]) -> pd.DataFrame:
    """Return pairwise.csv: every two readers, then the model with each, with the number of scans behind each.

    Columns: reader, other, scans, iou, relative_volume (reader to other), iou_group_2, iou_group_3, iou_group_4.
    """
    total = stacked([scan.overlaps.pairs for scan in scans]).sum(0)
    rows: list[dict[str, Any]] = []
    for a, b in zip(*np.triu_indices(total.shape[1], 1), strict=True):
        figures = iou(total[:, a, b])
        names = ("iou", *(f"iou_{finding}" for finding in FINDINGS[1:]))
        rows.append(
            {"reader": str(a + 1), "other": str(b + 1), "scans": sum(scan.readers > b for scan in scans)}
            | {"relative_volume": relative_volume(total[0, a, b]).item()}
            | dict(zip(names, figures, strict=True))
        )
    with_model = [scan for scan in scans if scan.has_model]
    if with_model:
        model = stacked([scan.overlaps.model_pairs for scan in with_model]).sum(0)
        for reader, counts in enumerate(model):
            rows.append(
                {"reader": MODEL, "other": str(reader + 1), "scans": sum(s.readers > reader for s in with_model)}
                | {"relative_volume": relative_volume(counts).item(), "iou": iou(counts).item()}
            )
    return pd.DataFrame(rows)


def scans_table(scans: Sequence[ScanCounts]) -> pd.DataFrame:
    """Return scans.csv: figures of each scan alone; NaN where undefined, as model_iou without a mask by the model."""
    rows = []
    for scan in scans:
        contested = np.sum(scan.slices, 0)
        ml = scan.opaque * scan.voxel_ml
        shares = contested[1:] / contested[0] if contested[0] else np.full(3, np.nan)
        rows.append(
            {"scan_id": scan.row["scan_id"], "site": scan.row["site"], "readers": scan.readers}
            | {"slices": scan.labelled, "opacity_ml_mean": ml.mean(), "opacity_ml_std": ml.std()}
            | {"contested_voxels": int(contested[0]), "full_agreement": shares[0], "full_group_agreement": shares[1]}
            | {"entropy_mean": shares[2], "pairwise_iou_mean": finite_mean(pairwise_iou([scan]))}
            | {"ceiling_iou": human_ceiling(scan.overlaps.average[WITHOUT_SELF])[0]}
            | {"staple_mean_iou": iou(scan.staple.average).item(), "staple_converged": scan.staple.converged}
            | {"model_iou": human_ceiling(scan.overlaps.model_average[WITHOUT_SELF])[0]}
        )
    return pd.DataFrame(rows)


def summarise(scans: Sequence[ScanCounts]) -> Metrics:
    """Return the flat figures of readers.json; None where a figure is undefined, `_n` is the number behind it."""
    average, staple = average_iou(scans), stacked([scan.staple.average for scan in scans])
    contested = np.sum([contest for scan in scans for contest in scan.slices], 0)
    counts = [scan.readers for scan in scans]
    figures: Metrics = {"readers/scans": len(scans), "readers/slices": sum(scan.labelled for scan in scans)}
    figures |= {"readers/readers": max(counts), "readers/readers_min": min(counts)}
    for finding in FINDINGS:
        prefix = "readers/" if finding == "opacity" else f"readers/{finding}_"
        figures |= _spread(f"{prefix}pairwise_iou", _upper(pairwise_iou(scans, finding)))
    figures |= _mean_figure("readers/average_iou", average[WITH_SELF])
    ceiling, readers = human_ceiling(stacked([scan.overlaps.average[WITHOUT_SELF] for scan in scans]).sum(0))
    figures |= {"readers/ceiling_iou": _number(ceiling), "readers/ceiling_iou_n": readers}
    figures |= _closer(pairwise_iou(scans), average[WITHOUT_SELF])
    names = ("full_agreement", "full_group_agreement", "entropy_mean")
    for name, total in zip(names, contested[1:], strict=True):
        share = float(total / contested[0]) if contested[0] else None
        figures |= {f"readers/{name}": share, f"readers/{name}_n": int(contested[0])}
    figures["readers/staple_mean_iou"] = _number(iou(staple.sum(0)).item())
    figures["readers/staple_mean_iou_n"] = int(np.isfinite(iou(staple)).sum())
    figures["readers/staple_unconverged"] = sum(not scan.staple.converged for scan in scans)
    return figures | _model_figures([scan for scan in scans if scan.has_model])


def _model_figures(scans: Sequence[ScanCounts]) -> Metrics:
    """Return the model's figures beside the readers', both on the scans with a mask by it."""
    if not scans:
        return {}
    human = stacked([scan.overlaps.average[WITHOUT_SELF] for scan in scans])
    comparison = compare_with_readers(human, stacked([scan.overlaps.model_average[WITHOUT_SELF] for scan in scans]))
    return (
        {"readers/model_iou": _number(comparison.model), "readers/model_iou_n": comparison.readers}
        | {"readers/model_ceiling_iou": _number(comparison.human), "readers/model_ceiling_iou_n": comparison.readers}
        | {"readers/model_minus_ceiling": _number(comparison.difference)}
        | {"readers/model_minus_ceiling_n": comparison.scans}
        | {"readers/model_minus_ceiling_low": _number(comparison.low)}
        | {"readers/model_minus_ceiling_high": _number(comparison.high)}
        | {"readers/model_minus_ceiling_resamples": comparison.resamples}
        | _mean_figure("readers/model_pairwise_iou", model_iou(scans)[0])
    )


def _closer(pairs: Figures, ceiling: Figures) -> Metrics:
    """Count readers with two peers or more who are closer to the average of the others than to any peer.

    The average of a single other reader is that reader.
    """
    defined = np.isfinite(pairs)
    compared = np.isfinite(ceiling) & (defined.sum(1) > 1)
    closer = int((ceiling > np.where(defined, pairs, -1).max(1))[compared].sum())
    return {"readers/closer_to_average": closer, "readers/closer_to_average_n": int(compared.sum())}


def _volume(voxels: Sequence[int], scans: Sequence[ScanCounts]) -> dict[str, Any]:
    ml = [count * scan.voxel_ml for count, scan in zip(voxels, scans, strict=True) if np.isfinite(scan.voxel_ml)]
    return {"opacity_ml": sum(ml) if ml else np.nan, "opacity_ml_n": len(ml)}


def _upper(figures: Figures) -> Figures:
    return figures[np.triu_indices(len(figures), 1)]


def finite_mean(figures: NDArray[np.float64]) -> float:
    """Return the mean of the figures that are defined; NaN without any."""
    finite = figures[np.isfinite(figures)]
    return float(finite.mean()) if finite.size else np.nan


def _mean_over_scans(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {name: finite_mean(np.array(values)), f"{name}_n": int(np.isfinite(values).sum())}


def _mean_figure(key: str, values: Figures) -> Metrics:
    return {f"{key}_mean": _number(finite_mean(values)), f"{key}_mean_n": int(np.isfinite(values).sum())}


def _spread(key: str, values: Figures) -> Metrics:
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    return _mean_figure(key, values) | {f"{key}_min": ends[0], f"{key}_max": ends[1]}


def _number(value: float) -> float | None:
    """Return a plain float, or None for NaN, which JSON lacks."""
    return None if np.isnan(value) else float(value)
