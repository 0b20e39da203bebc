from pathlib import Path

import numpy as np
import pytest
from run_harness import SHAPE, random_arrays, write_run

from evaluation.report.strata import STRATA, by_lesion_size, by_spacing, lesion_voxels, size_of
from evaluation.run_data import read_run


def test_scans_fall_into_strata_by_their_source(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    table = by_spacing(run).set_index(["stratum", "finding"])
    dice = run.scans.set_index("scan_id")["infection_dice"]
    for scan_id, stratum in zip("abcd", STRATA, strict=True):  # 1, 5, 8 mm and unknown
        row = table.xs((stratum, "infection"))
        assert row["value"] == pytest.approx(dice[scan_id])
        assert (row["n"], row["patients"]) == (1, 1)
    unlabelled = table.xs(("unknown", "consolidation"))
    assert np.isnan(unlabelled["value"])
    assert unlabelled["n"] == 0


def test_the_ends_of_a_stratum_and_its_patients(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    run.scans["source_spacing_z_mm"] = [2.5, 7.4, 7.4, 2.49]
    table = by_spacing(run).set_index(["stratum", "finding"])
    assert set(table.index.get_level_values(0)) == {"1 mm (< 2.5)", "5 mm (2.5-7.5)"}
    row = table.xs(("5 mm (2.5-7.5)", "infection"))
    assert (row["n"], row["patients"]) == (3, 2)
    assert row["value"] == pytest.approx(run.scans["infection_dice"][:3].mean())
    # Two patients: the ends are their means, of one scan and of two.
    ends = sorted([run.scans["infection_dice"][0], run.scans["infection_dice"][1:3].mean()])
    assert (row["low"], row["high"]) == pytest.approx(tuple(ends))


def test_lesions_are_joined_by_their_corners() -> None:
    truth = np.zeros((4, 6, 6), bool)
    truth[0, 0, 0] = truth[1, 1, 1] = True  # one lesion across a corner
    truth[3, 4:6, 3:6] = True
    prediction = np.zeros_like(truth)
    prediction[1, 1, 1] = prediction[3, 5, 3:5] = prediction[0, 5, 5] = True
    assert lesion_voxels(truth, prediction).tolist() == [[2, 1], [6, 2]]
    assert lesion_voxels(~truth & False, prediction).shape == (0, 2)


@pytest.mark.parametrize(
    ("voxels", "ml", "size"),
    [
        (99, 0.001, "< 0.1 ml"),
        (128, 1 / 128, "1-10 ml"),
        (127, 1 / 128, "0.1-1 ml"),
        (161, 1 / 16, "> 10 ml"),
        (9, np.nan, "< 10 px"),
        (10, np.nan, "10-100 px"),
        (1000, np.nan, "> 1000 px"),
    ],
)
def test_size_is_in_ml_or_in_pixels(voxels: int, ml: float, size: str) -> None:
    assert size_of(voxels, ml) == size


def one_lesion(voxels: int, predicted: int) -> dict[str, np.ndarray]:
    """A scan, all of it lung, with a lesion in a row of voxels; only infection is labelled."""
    arrays = {name: np.zeros_like(array) for name, array in random_arrays("d").items()}
    arrays |= {"z": np.arange(SHAPE[0]), "lung": np.ones(SHAPE, np.int8)}
    arrays["truth_consolidation"] = np.full(SHAPE, -1, np.int8)
    arrays["truth_infection"].reshape(-1)[:voxels] = 1
    arrays["infection"].reshape(-1)[:predicted] = 1
    return arrays


def test_recall_is_of_voxels_and_touched_of_lesions(tmp_path: Path) -> None:
    # Voxels of 0.008 ml: 10 are 0.08 ml, 50 are 0.4 ml. Scan d has no spacing: 50 are pixels.
    scans = {"a": one_lesion(10, 4), "b": one_lesion(5, 0), "c": one_lesion(50, 30), "d": one_lesion(50, 1)}
    table = by_lesion_size(read_run(write_run(tmp_path, scans))).set_index(["finding", "size"])
    columns = ["lesions", "voxels", "recall", "touched"]
    assert list(table.xs(("infection", "< 0.1 ml"))[columns]) == pytest.approx([2, 15, 4 / 15, 1 / 2])
    assert list(table.xs(("infection", "0.1-1 ml"))[columns]) == pytest.approx([1, 50, 30 / 50, 1])
    assert list(table.xs(("infection", "10-100 px"))[columns]) == pytest.approx([1, 50, 1 / 50, 1])
    assert list(table.xs(("infection", "> 10 ml"))[["lesions", "voxels"]]) == [0, 0]
    assert np.isnan(table["recall"]["infection", "> 10 ml"])
    assert table["lesions"]["consolidation"].sum() == 0


def test_sizes_in_pixels_are_left_out_where_all_spacings_are_known(tmp_path: Path) -> None:
    table = by_lesion_size(read_run(write_run(tmp_path, {"a": one_lesion(10, 4)})))
    assert table["size"].unique().tolist() == ["< 0.1 ml", "0.1-1 ml", "1-10 ml", "> 10 ml"]
