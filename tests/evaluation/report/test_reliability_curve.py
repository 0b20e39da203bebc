import numpy as np
import pytest
from run_harness import write_run
from sklearn.calibration import calibration_curve as reference

from evaluation.report.reliability_curve import CURVE_BINS, calibration_curve, calibration_error, curve_of_levels
from evaluation.run_data import Run, read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("run")))


def lung_voxels(run: Run, finding: str) -> tuple[np.ndarray, np.ndarray]:
    """Probability and truth of the lung voxels whose truth is known, over all scans."""
    probability, truth = [], []
    for scan_id in run.scans["scan_id"]:
        arrays = run.arrays(scan_id)
        where = (arrays["lung"] > 0) & (arrays[f"truth_{finding}"] >= 0)
        probability.append(arrays[f"probability_{finding}"][where] / 255)
        truth.append(arrays[f"truth_{finding}"][where])
    return np.concatenate(probability), np.concatenate(truth)


@pytest.mark.parametrize("finding", ["infection", "consolidation"])
def test_curve_agrees_with_scikit_learn(run: Run, finding: str) -> None:
    probability, truth = lung_voxels(run, finding)
    curve = calibration_curve(run, finding)
    # A saved level may lie on the border of two bins, up to rounding; scikit-learn's bins are closed on the left.
    share, mean = reference(truth, probability + 1e-9 * (probability < 1), n_bins=CURVE_BINS)
    known = curve[curve["voxels"] > 0]
    assert len(known) == (15 if finding == "infection" else len(mean))
    np.testing.assert_allclose(known["mean_predicted"], mean, atol=1e-6)
    np.testing.assert_allclose(known["share_true"], share)
    assert curve["voxels"].sum() == len(truth)
    np.testing.assert_allclose(
        curve[["low", "high"]].to_numpy()[[0, 7, 14]], [[0, 1 / 15], [7 / 15, 8 / 15], [14 / 15, 1]]
    )


def test_error_is_the_gap_weighted_by_voxels(run: Run) -> None:
    probability, truth = lung_voxels(run, "infection")
    number = np.minimum((probability * 15 + 1e-9).astype(int), 14)
    gaps = [abs((truth - probability)[number == k].mean()) * (number == k).mean() for k in range(15)]
    found = calibration_error(calibration_curve(run, "infection"))
    assert found == pytest.approx(sum(gaps))
    assert found > 0.05


def test_bins_without_voxels_are_nan_and_take_no_part() -> None:
    counts = np.zeros((2, 256), np.int64)
    counts[1, 255] = 30
    counts[0, 0] = 10
    curve = curve_of_levels(counts)
    assert curve["voxels"].tolist() == [10] + [0] * 13 + [30]
    assert curve["share_true"].isna().sum() == curve["mean_predicted"].isna().sum() == 13
    assert calibration_error(curve) == 0
    assert calibration_error(curve_of_levels(counts[::-1])) == 1
    assert np.isnan(calibration_error(curve_of_levels(0 * counts)))


def test_a_threshold_has_no_probability(run: Run) -> None:
    with pytest.raises(ValueError, match="holds no probability_threshold"):
        calibration_curve(run, "threshold")
