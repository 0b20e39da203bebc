from pathlib import Path

import numpy as np
import pytest
from run_harness import random_arrays, write_run
from scipy.spatial.distance import cdist

from evaluation.report.surface import surface_distances, surface_table
from evaluation.run_data import read_run

SPACING_MM = (4.0, 2.0, 1.5)


def surface_points(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """(n, 3) mm: voxels with one of their 6 neighbours outside the mask or the array, one by one."""
    padded = np.pad(mask, 1)
    inside = [
        all(
            padded[tuple(np.add(at, 1) + step)]
            for step in np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
        )
        for at in np.argwhere(mask)
    ]
    return np.argwhere(mask)[~np.array(inside)] * np.array(spacing_mm)


def test_distances_agree_with_all_pairs_of_points() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        truth, prediction = rng.random((2, 5, 9, 7)) < 0.75
        between = cdist(surface_points(truth, SPACING_MM), surface_points(prediction, SPACING_MM))
        to_truth, to_prediction = between.min(0), between.min(1)
        hd95, assd = surface_distances(truth, prediction, SPACING_MM)
        assert hd95 == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)), rel=1e-5)
        assert assd == pytest.approx(np.concatenate([to_truth, to_prediction]).mean(), rel=1e-5)


@pytest.mark.parametrize(("axis", "mm"), [(0, 4.0), (1, 2.0), (2, 1.5)])
def test_a_shift_of_a_plate_is_as_far_as_the_spacing_says(axis: int, mm: float) -> None:
    truth = np.zeros((8, 8, 8), bool)
    truth[(slice(None),) * axis + (3,)] = True
    distances = surface_distances(truth, np.roll(truth, 2, axis), SPACING_MM)
    assert distances == pytest.approx((2 * mm, 2 * mm))


def test_what_is_undefined_is_nan() -> None:
    mask, empty = np.ones((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    for truth, prediction in ((mask, empty), (empty, mask), (empty, empty)):
        assert np.isnan(surface_distances(truth, prediction, SPACING_MM)).all()
    assert np.isnan(surface_distances(mask, mask, (np.nan,) * 3)).all()
    assert surface_distances(mask, mask, SPACING_MM) == (0, 0)


def test_table_has_a_row_per_scan_and_finding(tmp_path: Path) -> None:
    table = surface_table(read_run(write_run(tmp_path))).set_index(["scan_id", "finding"])
    assert len(table) == 12
    arrays = random_arrays("b")
    known = (arrays["lung"] > 0) & (arrays["truth_consolidation"] >= 0)
    truth, found = (known & (arrays[name] > 0) for name in ("truth_consolidation", "consolidation"))
    row = table.xs(("b", "consolidation"))
    assert (row["hd95_mm"], row["assd_mm"]) == pytest.approx(surface_distances(truth, found, (4.0, 2.0, 1.0)))
    assert row["assd_mm"] > 0
    assert (row["site"], row["patient"]) == ("B", "p2")
    assert table.loc["d", ["hd95_mm", "assd_mm"]].isna().to_numpy().all()  # its spacing is unknown
