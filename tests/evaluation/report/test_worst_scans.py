import numpy as np
import pytest
from matplotlib import pyplot as plt
from report_harness import make_run

from evaluation.report.worst_scans import draw_failures, failure, most_false, worst_scans
from evaluation.run_data import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("worst") / "runs", "unet_em", "consolidation")


def test_the_worst_come_first_and_those_without_the_finding_apart(run: Run) -> None:
    worst = worst_scans(run, "consolidation")
    assert set(worst["scan_id"]) == {"a", "c", "d"}
    assert worst["dice"].is_monotonic_increasing
    assert len(worst_scans(run, "consolidation", 2)) == 2
    row = worst.iloc[0]
    truth, prediction = run.pair(row["scan_id"], "consolidation")
    assert row["missed_voxels"] == ((truth == 1) & ~prediction).sum()
    assert row["false_voxels"] == ((truth == 0) & prediction).sum()
    false = most_false(run, "consolidation")
    assert false["scan_id"].tolist() == ["b"]
    assert false["dice"].isna().all()


def test_the_slice_shown_is_the_one_with_most_wrong_voxels(run: Run) -> None:
    row = worst_scans(run, "infection").iloc[0].to_dict()
    case = failure(run, row, "infection")
    truth, prediction = run.pair(row["scan_id"], "infection")
    wrong = [((t >= 0) & ((t == 1) != f)).sum() for t, f in zip(truth, prediction, strict=True)]
    assert ((case.truth >= 0) & ((case.truth == 1) != case.prediction)).sum() == max(wrong)
    assert f"slice {int(np.argmax(wrong)) + 1}" in case.title
    figure = draw_failures([case, case, case])
    drawn = [axis for part in figure.subfigs for axis in part.axes]
    assert len(drawn) == 6
    assert [len(axis.collections) > 0 for axis in drawn] == [False, True] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "missed: only the truth has it",
        "false: only the model has it",
        "outline of the truth",
    ]
    plt.close("all")


def test_a_scan_without_the_finding_has_no_dice_in_its_title(run: Run) -> None:
    row = most_false(run, "consolidation").iloc[0].to_dict()
    assert "Dice undefined, slice" in failure(run, row, "consolidation").title
