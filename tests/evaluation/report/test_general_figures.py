import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from evaluation.report.general_figures import (
    draw_bland_altman,
    draw_by_lesion_size,
    draw_by_spacing,
    draw_calibration,
    forest,
)
from evaluation.score_agreement import bland_altman


@pytest.fixture(autouse=True)
def _close() -> object:
    yield
    plt.close("all")


def sites() -> pd.DataFrame:
    rows = []
    for number, (site, finding) in enumerate([("all", "infection"), ("all", "threshold"), ("B", "infection")]):
        for figure in ("dice_mean", "iou_pooled", "tpr"):
            value = 0.5 + number / 10
            rows.append({"site": site, "finding": finding, "figure": figure, "value": value, "scans": 5, "patients": 4})
            rows[-1] |= {"low": value - 0.1, "high": value + 0.2}
    return pd.DataFrame(rows)


def test_forest_has_a_row_per_finding_and_site_and_the_human_ceiling() -> None:
    ceiling = pd.DataFrame([{"site": "all", "finding": "infection", "figure": "dice_mean", "reader": 0.93}])
    figure = forest(sites(), ceiling)
    dice, iou = figure.axes
    assert [tick.get_text() for tick in dice.get_yticklabels()] == [
        "infection, all sites (n = 5 scans, 4 patients)",
        "infection, site B (n = 5 scans, 4 patients)",
        "threshold, all sites (n = 5 scans, 4 patients)",
    ]
    assert dice.get_xlabel() == "Dice, mean over scans"
    drawn = [(line.get_xdata().tolist(), float(line.get_ydata()[0])) for line in dice.lines]
    for expected in [([0.4, 0.7], 0), ([0.5], 0), ([0.6, 0.9], 1), ([0.5, 0.8], 2)]:
        assert any(x == pytest.approx(expected[0]) and y == expected[1] for x, y in drawn)
    assert any(x == [0.93, 0.93] for x, _ in drawn)
    assert not any(line.get_xdata().tolist() == [0.93, 0.93] for line in iou.lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["infection", "threshold", "human ceiling"]


def test_bland_altman_draws_bias_and_limits() -> None:
    volumes = pd.DataFrame({"finding": ["infection"] * 3, "site": ["A", "A", "B"], "truth": [1.0, 2.0, 3.0]})
    volumes["prediction"] = [2.0, 2.0, 5.0]
    limits = {"infection": bland_altman(volumes["prediction"], volumes["truth"])}
    figure = draw_bland_altman(volumes, limits, ["prediction", "truth"], "ml")
    [axis] = figure.axes
    levels = {float(line.get_ydata()[0]) for line in axis.lines}
    assert {1.0, -0.96, 2.96} <= {round(level, 6) for level in levels}  # the differences 1, 0 and 2 have an sd of 1
    points = np.concatenate([part.get_offsets() for part in axis.collections if len(part.get_offsets())])
    assert sorted(points.tolist()) == [[1.5, 1.0], [2.0, 0.0], [4.0, 2.0]]
    assert "n = 3 scans" in axis.get_title()
    assert "limits -1.0 to 3.0 ml" in axis.get_title()
    assert axis.get_ylabel() == "prediction - truth (ml)"


def test_scans_of_the_same_figures_make_a_larger_point() -> None:
    scores = pd.DataFrame({"finding": "score", "site": "A", "model": [3.0, 3.0, 5.0], "reader": [2.0, 2.0, 5.0]})
    figure = draw_bland_altman(scores, {"score": bland_altman(scores["model"], scores["reader"])}, ["model", "reader"])
    [points] = [part for part in figure.axes[0].collections if len(part.get_offsets())]
    assert points.get_offsets().tolist() == [[2.5, 1.0], [5.0, 0.0]]
    assert points.get_sizes()[0] == 2 * points.get_sizes()[1]
    assert figure.axes[0].get_xlabel() == "mean of reader and model"


def test_bland_altman_of_one_scan_has_no_interval() -> None:
    volumes = pd.DataFrame({"finding": ["infection"], "site": ["A"], "truth": [1.0], "prediction": [2.5]})
    limits = {"infection": bland_altman([2.5], [1.0])}
    [axis] = draw_bland_altman(volumes, limits, ["prediction", "truth"], "ml").axes
    assert axis.get_title() == "infection, n = 1 scan\nbias 1.5 ml"


def test_calibration_leaves_out_empty_bins() -> None:
    curve = pd.DataFrame(
        {"mean_predicted": [0.1, np.nan, 0.9], "share_true": [0.2, np.nan, 0.7], "voxels": [30, 0, 12]}
    )
    upper, lower = draw_calibration({"opacity": curve}, {"opacity": 0.125}).axes
    assert upper.lines[1].get_xydata().tolist() == [[0.1, 0.2], [0.9, 0.7]]
    assert upper.get_legend().get_texts()[1].get_text() == "opacity: ECE 0.1250, n = 42 voxels"
    assert lower.lines[0].get_ydata().tolist() == [30, 12]


def test_bars_by_spacing_have_their_value_interval_n_and_ceiling() -> None:
    table = pd.DataFrame({"stratum": ["1 mm", "1 mm", "10 mm"], "finding": ["infection", "threshold", "infection"]})
    table = table.assign(value=[0.8, 0.5, 0.6], low=[0.7, 0.4, np.nan], high=[0.85, 0.7, np.nan], n=[9, 7, 1])
    ceiling = pd.DataFrame([{"site": "all", "finding": "infection", "figure": "dice_mean", "reader": 0.93}])
    [axis] = draw_by_spacing(table, ceiling).axes
    heights = [bar.get_height() for bar in axis.patches]
    np.testing.assert_array_equal(heights, [0.8, 0.6, 0.5, np.nan])
    assert [text.get_text() for text in axis.texts] == ["n = 9", "n = 1", "n = 7", "n = 0"]
    assert len({bar.get_hatch() for bar in axis.patches}) == 2
    assert sum(line.get_ydata().tolist() == [0.93, 0.93] for line in axis.lines) == 2
    assert "distance between slices" in axis.get_xlabel()


def test_lesion_sizes_keep_their_order_and_their_numbers() -> None:
    table = pd.DataFrame({"finding": ["opacity"] * 2, "size": ["< 0.1 ml", "> 10 ml"], "recall": [0.25, 0.75]})
    recall, touched = draw_by_lesion_size(table.assign(touched=[0.5, 1.0], lesions=[8, 3])).axes
    assert [tick.get_text() for tick in recall.get_xticklabels()] == ["< 0.1 ml", "> 10 ml"]
    assert recall.lines[0].get_ydata().tolist() == [0.25, 0.75]
    assert touched.lines[0].get_ydata().tolist() == [0.5, 1.0]
    assert recall.get_legend().get_texts()[0].get_text() == "opacity, n = 8, 3"
