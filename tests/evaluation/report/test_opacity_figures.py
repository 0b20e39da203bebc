from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from report_harness import make_run
from scipy import stats
from sklearn.metrics import confusion_matrix

from ct.classes import L3
from evaluation.report import opacity_table
from evaluation.report.opacity_figures import (
    choose_places,
    draw_confusion,
    draw_groups,
    draw_wal,
    group_confusion,
    results_table,
)
from evaluation.run_data import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("opacity") / "runs", "opacity_unet", "opacity")


def flat(run: Run, name: str) -> np.ndarray:
    """The array of all scans where a label is known inside the lungs."""
    arrays = [run.arrays(scan_id) for scan_id in run.scans["scan_id"]]
    return np.concatenate([scan[name][(scan["lung"] > 0) & (scan["truth_groups"] >= 0)] for scan in arrays])


def test_confusion_is_scikit_learns(run: Run) -> None:
    table = group_confusion(run)
    expected = confusion_matrix(flat(run, "truth_groups"), flat(run, "groups"), labels=range(5))
    np.testing.assert_array_equal(table, expected)
    axis, _ = draw_confusion(table, L3).axes
    shares = expected / np.maximum(expected.sum(1, keepdims=True), 1)
    texts = np.array([text.get_text() for text in axis.texts]).reshape(5, 5)
    assert texts[2, 2] == f"{shares[2, 2]:.2f}"
    assert set(texts[0]) == {"-"}, "no voxel of the lungs is background"
    assert f"n = {expected[4].sum():,} voxels" in axis.get_yticklabels()[4].get_text()
    plt.close("all")


def test_well_aerated_lung_states_r_and_its_interval(run: Run) -> None:
    [axis] = draw_wal(run.scans).axes
    r = stats.pearsonr(run.scans["wal_truth"], run.scans["wal_predicted"])
    interval = r.confidence_interval(0.95)
    assert axis.get_title() == (
        f"Pearson's r = {r.statistic:.3f} (95 % interval {interval.low:.3f} to {interval.high:.3f}), n = 4 scans"
    )
    points = np.concatenate([part.get_offsets() for part in axis.collections])
    assert sorted(points[:, 0].tolist()) == pytest.approx(sorted(run.scans["wal_truth"]))
    assert axis.get_xlabel() == "well-aerated lung, label (%)"
    plt.close("all")


def test_places_show_every_group_where_it_is_largest(run: Run) -> None:
    places = choose_places(run)
    assert [place.why.split()[-1] for place in places] == ["glass", "lines", "consolidation", "voxels"]
    assert len({place.scan_id for place in places}) == 4
    first = places[0]
    areas = {scan: (run.pair(scan, "group_2")[0] == 1).sum((1, 2)) for scan in run.scans["scan_id"]}
    assert areas[first.scan_id][first.row] == max(area.max() for area in areas.values())


def test_groups_are_painted_in_their_colours(run: Run) -> None:
    figure = draw_groups(run, choose_places(run)[:1])
    assert [axis.get_title() for axis in figure.axes] == ["CT", "label", "prediction"]
    painted = [len(axis.collections) for axis in figure.axes]
    assert painted[0] == 0
    assert min(painted[1:]) >= 2
    hatches = {patch.get_hatch() for patch in figure.legends[0].get_patches()}
    assert len(hatches) == 4, "the groups, and what is unlabelled, differ without colour"
    plt.close("all")


def test_table_3_has_the_runs_and_the_papers_rows() -> None:
    metrics = {"test/loss": 0.4, "opacity/relative_volume": None, "opacity/iou_pooled": 0.7}
    config = {"data": {"init_args": {"cohort": "cohorts/four/cohort.csv"}}}
    table = results_table({"mine": Run(Path(), "mine", config, metrics, pd.DataFrame())})
    assert table["scans"].tolist() == ["own cohort", *["real scans"] * 3]
    assert table["model"].tolist()[0] == "mine"
    assert table["opacity IOU"].tolist() == [0.7, 0.706, 0.735, 0.758]
    assert np.isnan(table["RV"][0])
    assert "KL to truth" not in table, "a column that nobody has is left out"


def test_a_study_s_table_marks_phantoms_beside_the_paper_s_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        make_run(tmp_path / "study" / f"seed{seed}", "opacity_unet", "opacity", seed)
    assert opacity_table.main(["study"]) == 0
    assert "| opacity_unet | 2 |" in capsys.readouterr().out
    cohort = Path("cohorts/four")
    cohort.mkdir(parents=True)
    (cohort / "cohort.csv").write_text("scan_id,image\na,images/a.nii.gz\n")
    (cohort / "phantom.json").write_text("{}")
    assert opacity_table.main(["study"]) == 0
    table = capsys.readouterr().out
    assert "| opacity_unet (phantom) | 2 |" in table
    assert "| UNet (paper L3, real scans) |" in table
