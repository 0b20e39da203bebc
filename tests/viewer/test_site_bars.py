"""Figures by site: what metrics.json says, with intervals of the same scans."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.run_data import Run
from viewer.runs_page import part_title, runs_table
from viewer.site_bars import draw_sites, site_figures


def made(experiment: str, metrics: dict[str, float | int | None]) -> Run:
    scans = pd.DataFrame({"scan_id": ["a", "b"], "site": ["N", "NA"], "infection_tp": [1, 2]})
    config = {"data": {"init_args": {"cohort": "/home/somebody/cohorts/ours/cohort.csv"}}}
    return Run(Path(experiment), experiment, config, metrics, scans)


@pytest.fixture
def part() -> dict[str, Run]:
    whole = {"infection/dice_mean": 0.5, "site/N/infection/dice_mean": 0.25, "site/NA/infection/dice_mean": None}
    return {"one": made("one", whole), "two": made("two", {"infection/dice_mean": 0.75})}


@pytest.fixture
def intervals() -> dict[str, pd.DataFrame]:
    rows = [("all", "dice_mean", 0.4, 0.6), ("N", "dice_mean", 0.2, 0.3), ("NA", "dice_mean", np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["site", "figure", "low", "high"])
    return {"one": table.assign(finding="infection")}


def test_a_row_for_each_run_and_site_and_one_for_all(part: dict[str, Run], intervals: dict[str, pd.DataFrame]) -> None:
    rows = site_figures(part, intervals, "infection", "dice_mean")
    expected = [
        ("one", "site N", 0.25, 0.2, 0.3),
        ("one", "site NA", np.nan, np.nan, np.nan),
        ("one", "all sites", 0.5, 0.4, 0.6),
        ("two", "site N", np.nan, np.nan, np.nan),
        ("two", "site NA", np.nan, np.nan, np.nan),
        ("two", "all sites", 0.75, np.nan, np.nan),
    ]
    pd.testing.assert_frame_equal(rows, pd.DataFrame(expected, columns=list(rows.columns)))


@pytest.mark.parametrize(("figure", "top"), [("dice_mean", 1.0), ("iou_pooled", 1.0), ("relative_volume", 2.0)])
def test_the_axis_is_the_same_whatever_is_shown(part: dict[str, Run], figure: str, top: float) -> None:
    for shown in (part, {"two": part["two"]}):
        rows = site_figures(shown, {}, "infection", "dice_mean")
        bars = draw_sites(rows, figure).to_dict()["layer"][0]
        assert bars["encoding"]["y"]["scale"]["domain"] == pytest.approx([0, 1.08 * top])


def test_bars_are_drawn_of_what_is_defined(part: dict[str, Run], intervals: dict[str, pd.DataFrame]) -> None:
    spec = draw_sites(site_figures(part, intervals, "infection", "dice_mean"), "dice_mean").to_dict()
    (rows,) = spec["datasets"].values()
    assert [(row["run"], row["site"], row["value"]) for row in rows] == [
        ("one", "site N", 0.25),
        ("one", "all sites", 0.5),
        ("two", "all sites", 0.75),
    ]


def test_the_table_has_a_row_for_each_run(part: dict[str, Run], intervals: dict[str, pd.DataFrame]) -> None:
    table = runs_table(part, intervals)
    assert table[["run", "finding", "Dice", "n"]].to_numpy().tolist() == [
        ["one", "infection", "0.500 (0.400\xa0to\xa00.600)", "-"],
        ["two", "infection", "0.750", "-"],
    ]


def test_a_title_names_a_cohort_and_no_path(part: dict[str, Run]) -> None:
    assert part_title(part) == "Infection, 2 test scans of ours (2 runs)"
