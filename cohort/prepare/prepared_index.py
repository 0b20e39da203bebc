"""index.csv of a prepared cohort: the usable scans, as training finds them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohort.prepare.places import scan_folder
from cohort.pseudonyms import pseudonym
from cohort.table import HAS, CohortRow
from ct.lungs.classical import ASSUMED_WIDTH_MM
from machine.whole_file import whole_file


@dataclass(frozen=True)
class ScanLabels:
    """What is known of a scan as a whole: 1 present, 0 absent, -1 unknown.

    Attributes:
        weak_label: Of consolidation, by which paper EM learns.
        bits: Of every finding and leaf that the scan can be asked for, by key.
    """

    weak_label: int
    bits: Mapping[str, int]


def write_index(
    rows: Sequence[CohortRow],
    labels: Sequence[ScanLabels],
    records: Mapping[str, dict[str, Any]],
    salt: str,
    path: Path,
) -> None:
    """Write index.csv, whole or not at all.

    Args:
        rows: The cohort's rows, each with its split.
        labels: The labels of each row's scan.
        records: The scan.json of each usable scan by scan_id, at least one; the others are left out.
        salt: Of the pseudonyms that stand for patient ids.
        path: The file.
    """
    labelled = [(row, label) for row, label in zip(rows, labels, strict=True) if row.scan_id in records]
    index = [_index_row(row, label, records[row.scan_id], salt, path.parent) for row, label in labelled]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(index[0]))
        writer.writeheader()
        writer.writerows(index)


def _index_row(
    row: CohortRow, labels: ScanLabels, record: dict[str, Any], salt: str, out_dir: Path
) -> dict[str, object]:
    spacing = record["prepared_spacing_mm"] if record["spacing_known"] else ["", "", ""]
    return {
        "scan_id": row.scan_id,
        "patient_id": pseudonym(row.patient_id, salt),
        "site": row.site,
        "split": row.split,
        "weak_label": labels.weak_label,
        "slices": record["prepared_shape"][0],
        **dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), spacing, strict=True)),
        "folder": scan_folder(out_dir, row.scan_id).relative_to(out_dir).as_posix(),
        "has_infection_mask": int("infection" in record["masks"]),
        "has_pattern_mask": int("patterns" in record["masks"]),
        "draws_infection": int(row.infection_mask is not None),
        "labels": ";".join(row.labels),
        "readers": len(row.readers),
        "grey_low_hu": "" if row.grey_low_hu is None else row.grey_low_hu,
        "grey_high_hu": "" if row.grey_high_hu is None else row.grey_high_hu,
        **{HAS + key: bit for key, bit in labels.bits.items()},
    }


def pixel_size_mm(spacing_y_mm: float, spacing_x_mm: float, size: int) -> tuple[float, float]:
    """Return the pixel size (y, x) of a prepared scan, or that of a chest of usual width where it is unknown.

    Args:
        spacing_y_mm: As in index.csv, NaN where unknown.
        spacing_x_mm: As in index.csv, NaN where unknown.
        size: Pixels along each side in plane.
    """
    if math.isfinite(spacing_y_mm) and math.isfinite(spacing_x_mm):
        return float(spacing_y_mm), float(spacing_x_mm)
    return (ASSUMED_WIDTH_MM / size,) * 2
