from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from run_harness import PATIENTS, SHAPE, random_arrays, write_run
from scipy import stats

from ct.classes import COLOUR_OF
from evaluation.report.drawing import save
from evaluation.report.em_figures import (
    choose_places,
    draw_fpr_by_dilation,
    fpr_by_dilation,
    overlays,
    score_boxes,
    severity_scatter,
    tpr_fpr,
)
from evaluation.run_data import Run, read_run

SCORES = [0.05, 0.01, 0.002, 0.03, 0.04, 0.001]
LABELS = [1, 0, 0, 1, 1, 0]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The run of four scans, as stage 2 by EM."""
    return with_config(read_run(write_run(tmp_path)))


def with_config(run: Run, **settings: str) -> Run:
    config = {"model": {"init_args": {"supervision": "em", **settings}}}
    return Run(run.folder, run.experiment, config, run.metrics, run.scans)


def of_scans(**columns: Any) -> Run:
    scans = pd.DataFrame(columns)
    scans["scan_id"] = [f"s{row}" for row in range(len(scans))]
    return Run(Path(), "unet_em", {}, {}, scans)


def points_of(axis: Any) -> list[list[float]]:
    return sorted(point for drawn in axis.collections for point in np.asarray(drawn.get_offsets()).tolist())


def test_figure_2_shows_every_scan_and_the_identity(tmp_path: Path) -> None:
    truth, predicted = [0.05, 0.2, 0.09, 0.3, np.nan], [0.06, 0.15, 0.2, 0.35, 0.1]
    run = of_scans(site=["A", "B", "A", "C", "C"], severity_truth=truth, severity_predicted=predicted)
    figure = severity_scatter(run)
    whole, zoom = figure.axes
    assert points_of(whole) == points_of(zoom) == sorted([t, p] for t, p in zip(truth[:4], predicted[:4], strict=True))
    assert np.array_equal(*whole.get_lines()[0].get_data())
    r = np.corrcoef(truth[:4], predicted[:4])[0, 1]
    half = 1.959964 / np.sqrt(4 - 3)  # Fisher's transformation
    low, high = np.tanh(np.arctanh(r) + np.array([-half, half]))
    assert figure.get_suptitle() == f"Pearson's r = {r:.3f} (95 % interval {low:.3f} to {high:.3f}), n = 4 scans"
    assert zoom.get_title() == "up to 0.1: 1 of 4 scans"
    assert zoom.get_xlim()[1] == pytest.approx(0.1, abs=0.003)
    labels = [text.get_text() for text in whole.get_legend().get_texts()]
    assert labels == ["prediction = label", "site A (n = 2)", "site B (n = 1)", "site C (n = 1)"]
    assert "share of the lungs" in whole.get_xlabel()
    save(figure, tmp_path / "severity")
    assert (tmp_path / "severity.png").stat().st_size > 10_000


def test_figure_4_fits_the_points_of_phi2_alone() -> None:
    fpr = np.array([0.004, 0.01, 0.03])
    rows = [{"label": "b2 = 9", "group": "phi2", "tpr": f**0.15, "fpr": f} for f in fpr]
    rows += [{"label": "phi1", "group": "phi1", "tpr": 0.62, "fpr": 0.067}]
    rows += [{"label": "lost", "group": "phi2", "tpr": None, "fpr": None}]
    figure = tpr_fpr(pd.DataFrame(rows))
    axis = figure.axes[0]
    assert points_of(axis) == sorted([[f, f**0.15] for f in fpr] + [[0.067, 0.62]])
    (curve,) = axis.get_lines()
    assert "$\\gamma$ = 0.150" in curve.get_label()
    assert "n = 3" in curve.get_label()
    x, y = curve.get_data()
    assert np.interp(0.02, x, y) == pytest.approx(0.02**0.15, abs=1e-4)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["b2 = 9 (n = 3)", "phi1"]
    assert axis.get_title() == "n = 4 points (1 undefined)"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("false positive rate", "true positive rate")
    plt.close(figure)


@pytest.mark.parametrize("group", ["phi1", "phi2"])
def test_figure_4_has_no_curve_without_phi2_or_through_one_point(group: str) -> None:
    rows = [{"label": "unet_em", "group": group, "tpr": 0.6, "fpr": 0.01}]
    figure = tpr_fpr(pd.DataFrame([*rows, {"label": "threshold", "group": "threshold", "tpr": 0.5, "fpr": 0.02}]))
    assert len(figure.axes[0].get_lines()) == 0
    assert figure.axes[0].get_title() == "n = 2 points"
    colour = figure.axes[0].collections[1].get_edgecolor()[0]
    assert to_hex(colour).upper() == COLOUR_OF["threshold"]
    plt.close(figure)


@pytest.mark.parametrize(
    ("severities", "title"),
    [
        ([], "Pearson's r is undefined for 0 scans"),
        ([0.1], "Pearson's r is undefined for 1 scan"),
        ([0.1, 0.2], "Pearson's r is undefined for 2 scans"),  # it would be 1 whatever they are
        ([0.1, 0.1, 0.1], "Pearson's r is undefined for 3 scans that do not differ"),
        ([0.1, 0.2, 0.25], "Pearson's r = 0.994, n = 3 scans"),  # Fisher's interval needs four
    ],
)
def test_figure_2_of_too_few_scans_says_so(severities: list[float], title: str) -> None:
    run = of_scans(site=["A"] * len(severities), severity_truth=severities, severity_predicted=severities)
    run.scans["severity_predicted"] = run.scans["severity_predicted"] ** 2
    figure = severity_scatter(run)
    assert figure.get_suptitle() == title
    plt.close(figure)


def outlines(axis: Any) -> list[tuple[float, float, float, float]]:
    """The box around each outline of a panel, (left, right, top, bottom)."""
    paths = [path.vertices for drawn in axis.collections for path in drawn.get_paths() if len(path.vertices)]
    return [(*(v[:, 0].min(), v[:, 0].max()), *(v[:, 1].min(), v[:, 1].max())) for v in paths]


def test_figure_5_outlines_ground_glass_and_consolidation_where_they_are(tmp_path: Path) -> None:
    shape = (3, 16, 20)
    zero = np.zeros(shape, np.int8)
    arrays = {"z": np.array([4, 6, 9]), "lung": zero + 1, "hu": np.full(shape, -800, np.int16)}
    infection, consolidation = zero.copy(), zero.copy()
    infection[1, 2:6, 2:8] = infection[1, 10:14, 10:17] = 1
    consolidation[1, 10:14, 10:17] = 1
    arrays |= {"truth_infection": infection, "truth_consolidation": consolidation}
    arrays |= {"infection": infection, "consolidation": zero}
    arrays["hu"][1, 2:4, 2:4] = 0  # above the threshold, inside the infection
    write_run(tmp_path, {"a": arrays})
    volume = np.full((10, *shape[1:]), -800, np.int16)
    volume[arrays["z"]] = arrays["hu"]  # the masks are of three of the scan's slices
    np.save(tmp_path / "prepared" / "a" / "hu.npy", volume)
    run = read_run(tmp_path / "runs" / "unet_em" / "latest")
    figure = overlays({"mine": run}, [("a", 6)])
    ct, label, mine, threshold = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["CT", "label", "mine", "threshold\n(-200 HU)"]
    assert outlines(ct) == []
    # In mm: 1 a column, 2 a row; an outline runs through the pixels' borders, so from the centres half a pixel out.
    assert outlines(label) == [pytest.approx((2, 8, 4, 12), abs=0.01), pytest.approx((10, 17, 20, 28), abs=0.01)]
    drawn = [to_hex(part.get_edgecolor()[0]).upper() for part in label.collections]
    assert drawn == [COLOUR_OF["infection"], COLOUR_OF["consolidation"]]
    assert len(outlines(mine)) == 1  # nothing is consolidated to this model
    assert outlines(threshold)[1] == pytest.approx((2, 4, 4, 8), abs=0.01)
    assert ct.get_xlabel() == "right → left (mm)"
    assert ct.get_ylabel() == "a, slice 7\nfront → back (mm)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "infection without consolidation",
        "consolidation",
    ]
    save(figure, tmp_path / "overlays")
    assert (tmp_path / "overlays.png").stat().st_size > 10_000


def test_places_are_neither_the_best_nor_the_worst(tmp_path: Path) -> None:
    scans = {scan_id: random_arrays(scan_id) for scan_id in PATIENTS}
    run = read_run(write_run(tmp_path, scans))
    dice = run.scans.set_index("scan_id")["consolidation_dice"].drop("d")  # d has no consolidation mask
    (scan_id, z), *others = choose_places(run, 1)
    assert others == []
    assert scan_id == dice.sort_values().index[1]
    truth = (scans[scan_id]["truth_consolidation"] == 1) & (scans[scan_id]["lung"] == 1)
    assert truth[z].sum() == truth.sum((1, 2)).max()
    assert [scan for scan, _ in choose_places(run, 9)] == dice.sort_values().index.tolist()


def test_places_are_found_where_nothing_is_labelled(tmp_path: Path) -> None:
    scan = random_arrays("d")
    ((scan_id, z),) = choose_places(read_run(write_run(tmp_path, {"d": scan})), 2)
    assert (scan_id, z) == ("d", int((scan["lung"] > 0).sum((1, 2)).argmax()))


def test_figure_6_counts_as_a_walk_over_the_voxels_does(run: Run) -> None:
    table = fpr_by_dilation(run).set_index(["method", "dilation"])
    for method, finding in (("threshold", "threshold"), ("EM", "consolidation")):
        assert table.loc[(method, 0), "fpr"] == pytest.approx(
            run.scans[f"{finding}_fp"].sum() / run.scans[[f"{finding}_fp", f"{finding}_tn"]].to_numpy().sum()
        )
        for dilation in (1, 2):
            wrong = outside = 0
            for scan_id in run.scans["scan_id"]:
                truth, prediction = run.pair(scan_id, finding)
                for z, y, x in np.ndindex(*SHAPE):
                    near = truth[z, max(y - dilation, 0) : y + dilation + 1, max(x - dilation, 0) : x + dilation + 1]
                    if truth[z, y, x] == 0 and not (near == 1).any():
                        outside += 1
                        wrong += int(prediction[z, y, x])
            expected = wrong / outside if outside else np.nan
            assert table.loc[(method, dilation), "fpr"] == pytest.approx(expected, nan_ok=True)
    assert table["scans"].unique().tolist() == [4]


def test_figure_6_falls_to_nothing_where_errors_touch_the_label(tmp_path: Path) -> None:
    scan = {name: array.copy() for name, array in random_arrays("a").items()}
    scan |= {name: np.zeros((2, 30, 30), np.int8) for name in ("truth_consolidation", "consolidation", "infection")}
    scan |= {"lung": np.ones((2, 30, 30), np.int8), "truth_infection": np.zeros((2, 30, 30), np.int8)}
    scan |= {"z": np.arange(2), "hu": np.full((2, 30, 30), -800, np.int16)}
    scan["truth_consolidation"][0, 10:12, 10:12] = 1
    scan["consolidation"][0, 8:14, 8:14] = scan["infection"][0, 8:14, 8:14] = 1  # two pixels too wide
    scan["hu"][0, 13, 13] = 0  # one false pixel of the threshold, two pixels off
    run = with_config(read_run(write_run(tmp_path, {"a": scan})), supervision="masks")
    table = fpr_by_dilation(run).pivot(index="dilation", columns="method", values="fpr")
    assert list(table.columns) == ["supervised", "threshold"]
    assert table["supervised"][:3].tolist() == pytest.approx([32 / 1796, 20 / 1784, 0])
    assert table["threshold"][:3].tolist() == pytest.approx([1 / 1796, 1 / 1784, 0])
    figure = draw_fpr_by_dilation(fpr_by_dilation(run))
    axis = figure.axes[0]
    assert {line.get_label() for line in axis.get_lines()} == {"threshold (-200 HU)", "supervised"}
    assert len({line.get_linestyle() for line in axis.get_lines()}) == 2
    assert axis.get_xlabel() == "dilation of the label (pixels)"
    assert axis.get_title() == "n = 1 scan"
    plt.close(figure)


def test_figure_7_states_the_medians_and_the_test() -> None:
    run = of_scans(
        consolidation_score=[*SCORES, 0.9, np.nan], has_consolidation=pd.array([*LABELS, None, 1], dtype="Int64")
    )
    figure = score_boxes(run)
    axis = figure.axes[0]
    with_it, without = ([s for s, z in zip(SCORES, LABELS, strict=True) if z == label] for label in (1, 0))
    u, p = stats.mannwhitneyu(with_it, without)
    assert axis.get_title().splitlines() == [
        f"Mann-Whitney U test: p = {p:.2g}, AUC = {u / 9:.3f}",
        "left out: 2 scans of unknown label or without a score",
    ]
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        "consolidation\nn = 3 scans, median 0.0400",
        "no consolidation\nn = 3 scans, median 0.0020",
    ]
    assert sorted(y for _, y in points_of(axis)) == sorted(SCORES)
    assert "share of the lungs" in axis.get_ylabel()
    plt.close(figure)


def test_figure_7_of_one_group_alone() -> None:
    figure = score_boxes(of_scans(consolidation_score=[0.1, 0.2], has_consolidation=[1, 1]))
    assert "n = 0 scans, median -" in figure.axes[0].get_xticklabels()[1].get_text()
    assert figure.axes[0].get_title() == "Mann-Whitney U test: needs scans of both kinds"
    plt.close(figure)
