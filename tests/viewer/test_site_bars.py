"""Figures by site: what metrics.json says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from evaluation.run_data import Run
from viewer.runs_page import runs_table
from viewer.site_bars import draw_sites, site_figures


def made(experiment: str, metrics: dict[str, float | int | None]) -> Run:
    scans = pd.DataFrame({"scan_id": ["a", "b"], "site": ["N", "NA"], "infection_tp": [1, 2]})
    return Run(Path(experiment), experiment, {}, metrics, scans)


@pytest.fixture
def part() -> dict[str, Run]:
    whole = {"infection/dice_mean": 0.5, "site/N/infection/dice_mean": 0.25, "site/NA/infection/dice_mean": None}
    return {"one": made("one", whole), "two": made("two", {"infection/dice_mean": 0.75})}


def test_a_row_for_each_site_and_one_for_all(part: dict[str, Run]) -> None:
    values = site_figures(part, "infection", "dice_mean")
    assert list(values.index) == ["N", "NA", "all"]
    assert np.array_equal(values["one"], [0.25, np.nan, 0.5], equal_nan=True)
    assert np.array_equal(values["two"], [np.nan, np.nan, 0.75], equal_nan=True)


def test_bars_are_as_high_as_the_figures(part: dict[str, Run]) -> None:
    figure = draw_sites(site_figures(part, "infection", "dice_mean"), "Dice")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert np.array_equal(heights, [0.25, np.nan, 0.5, np.nan, np.nan, 0.75], equal_nan=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.25", "", "0.50", "", "", "0.75"]
    plt.close(figure)


def test_the_table_has_a_row_for_each_run(part: dict[str, Run]) -> None:
    table = runs_table(part)
    assert table[["run", "finding", "Dice", "n"]].to_numpy().tolist() == [
        ["one", "infection", "0.500", "-"],
        ["two", "infection", "0.750", "-"],
    ]
