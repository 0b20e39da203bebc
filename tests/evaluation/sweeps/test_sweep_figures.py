from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from evaluation.report.drawing import save
from evaluation.sweeps.sweep_figures import draw_parameters, prior_dice

B2, K2 = (8.0, 9.0), (0.25, 0.5, 1.25)


@pytest.fixture
def trials() -> pd.DataFrame:
    """Six trials, rows in no order; that of b2 = 9, k2 = 0.5 failed."""
    rows = [
        {"state": "ok", "model.prior.b2": b2, "model.prior.k2": k2, "consolidation/dice_mean": b2 / 20 + k2 / 10}
        for b2 in B2
        for k2 in K2
    ]
    rows[4] |= {"state": "failed", "consolidation/dice_mean": np.nan}
    return pd.DataFrame(rows).assign(**{"consolidation/dice_mean_n": 12}).sample(frac=1, random_state=1)


def lines_of(figure: Any) -> dict[str, tuple[list[float], list[float]]]:
    lines = figure.axes[0].get_lines()
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def test_figure_3_has_a_line_for_each_b2_and_both_references(trials: pd.DataFrame, tmp_path: Path) -> None:
    figure = prior_dice(trials, 0.4, 0.53, (0.8, 6))
    lines = lines_of(figure)
    x, y = lines["$b_2$ = 8 (-144 HU)"]
    assert x == list(K2)
    assert y == pytest.approx([0.425, 0.45, 0.525])
    x, y = lines["$b_2$ = 9 (-34 HU)"]
    assert x == list(K2)
    assert y == pytest.approx([0.475, np.nan, 0.575], nan_ok=True)  # what failed is a gap
    assert lines["$\\varphi_1$: 0.400"][1] == [0.4, 0.4]
    assert lines["threshold (-200 HU): 0.530"][1] == [0.53, 0.53]
    assert lines["human ceiling: 0.800 (6 scans)"][1] == [0.8, 0.8]
    drawn = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == len(drawn) == 5
    assert all(line.get_markerfacecolor() == "white" for line in drawn[:2])  # hollow points
    assert figure.get_suptitle() == "n = 5 trials (1 failed or undefined), each tested on n = 12 scans"
    assert figure.axes[0].get_xlabel() == "steepness $k_2$ (per 110 HU)"
    save(figure, tmp_path / "prior")
    assert (tmp_path / "prior.png").stat().st_size > 10_000


def test_figure_3_does_without_references(trials: pd.DataFrame) -> None:
    figure = prior_dice(trials, None, None)
    assert len(figure.axes[0].get_lines()) == 2
    plt.close(figure)


def test_two_numbers_on_a_grid_become_lines(trials: pd.DataFrame) -> None:
    figure = draw_parameters(trials, ["model.prior.b2", "model.prior.k2"], "test/consolidation/dice_mean")
    assert set(lines_of(figure)) == {"model.prior.b2 = 8", "model.prior.b2 = 9"}
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == (
        "model.prior.k2",
        "test/consolidation/dice_mean",
    )
    plt.close(figure)


def test_other_searches_get_a_panel_for_each_parameter() -> None:
    trials = pd.DataFrame(
        {"lr": [1e-4, 1e-3, 1e-1], "model.dice_over": ["image", "batch", "image"], "flag": [True, True, False]}
    )
    trials = trials.assign(fixed=1, state="ok", **{"val/dice": [0.1, 0.2, 0.3]})
    figure = draw_parameters(trials, ["lr", "model.dice_over", "flag", "fixed"], "val/dice")
    assert [axis.get_xlabel() for axis in figure.axes] == [
        "lr",
        "model.dice_over",
        "flag",
    ]  # what never varies is not shown
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "linear", "linear"]
    assert np.asarray(figure.axes[0].collections[0].get_offsets()).tolist() == [[1e-4, 0.1], [1e-3, 0.2], [1e-1, 0.3]]
    assert np.asarray(figure.axes[1].collections[0].get_offsets()).tolist() == [[1, 0.1], [0, 0.2], [1, 0.3]]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["batch", "image"]
    assert figure.axes[0].get_ylabel() == "val/dice"
    plt.close(figure)


def test_points_that_lie_on_each_other_are_not_joined() -> None:
    trials = pd.DataFrame({"a": [1, 1, 2], "b": [1, 1, 2], "state": "ok", "val/dice": [0.1, 0.2, 0.3]})
    figure = draw_parameters(trials, ["a", "b"], "val/dice")
    assert [axis.get_xlabel() for axis in figure.axes] == ["a", "b"]
    plt.close(figure)


def test_a_table_without_what_is_needed_is_refused(trials: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"no column 'model\.prior\.k2'; expected model\.prior\.b2, model\.prior\.k2"):
        prior_dice(trials.drop(columns="model.prior.k2"), None, None)
    with pytest.raises(ValueError, match="none of the sweep's 6 trials has a figure"):
        prior_dice(trials.assign(state="failed"), None, None)
