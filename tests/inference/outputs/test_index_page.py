from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chromium import CHROMIUM
from open_page import opened

from ct.classes import EM
from inference.outputs.index_page import changes_ml, follow_up_chart, write_index

NOBODY = pd.DataFrame({"name": [], "reason": []})


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ["a2", "a10", "a 1", "a3"],
            "lung_ml": [4000.0, 3000.25, None, 3000.75],
            "infection_ml": [9.0, 110.0, None, 1000.0],
            "severity_score": [9 / 4000, 110 / 3000.25, 0.5, 1000 / 3000.75],
            "wal_percent": [None] * 4,
            "flags": ["", "little lung; far from training", None, ""],
        }
    )


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium to open the page")
def test_columns_sort_as_numbers_and_what_is_undefined_stays_last(tmp_path: Path) -> None:
    index = write_index(tmp_path, rows(), NOBODY, EM)
    with opened(index) as (page, messages, requests):
        table = page.locator("#s1 table")

        def order() -> list[str]:
            return table.locator("tbody td:first-child").all_inner_texts()

        def click(name: str) -> None:
            table.get_by_role("button", name=name).click()

        assert order() == ["a2", "a10", "a 1", "a3"]
        click("infection")
        assert order() == ["a2", "a10", "a3", "a 1"]
        click("infection")
        assert order() == ["a3", "a10", "a2", "a 1"]
        assert table.locator("th[aria-sort]").evaluate_all("heads => heads.map(head => head.ariaSort)") == [
            "descending"
        ]
        click("lungs")  # both are shown as 3,000 and something: all digits count
        assert order() == ["a10", "a3", "a2", "a 1"]
        click("scan")
        assert order() == ["a 1", "a2", "a3", "a10"]
        click("flagged")
        assert order()[0] == "a10"
        assert page.get_by_role("link", name="a 1").get_attribute("href") == "a%201/report.html"
        assert (messages, requests) == ([], [])


def test_flags_and_failures_stand_above_all(tmp_path: Path) -> None:
    failed = pd.DataFrame({"name": ["b<1>"], "reason": ["no chest: 0 ml of air-like lung"]})
    html = write_index(tmp_path, rows(), failed, EM).read_text()
    assert "4 scans segmented, 1 of them flagged; 1 failed." in html
    assert html.index("Not every scan was segmented.") < html.index("Some results are flagged.") < html.index("<nav>")
    assert "little lung; far from training" in html
    assert "b&lt;1&gt;" in html
    assert "well-aerated" not in html  # nobody measured it
    assert '<td data-value="50.0">50</td>' in html


def test_how_good_the_model_is_stands_on_top(tmp_path: Path) -> None:
    line = "trained on 48 scans of 1 site; validation: infection Dice 0.88 over 6 scans"
    html = write_index(tmp_path, rows().assign(model=line), NOBODY, EM).read_text()
    assert html.count(line) == 1
    assert html.index(line) < html.index("<nav>")


def test_a_batch_in_which_all_went_well_has_no_alarm(tmp_path: Path) -> None:
    html = write_index(tmp_path, rows().drop(columns="flags"), NOBODY, EM).read_text()
    assert 'class="alarm"' not in html
    assert "0 of them flagged; 0 failed" in html


def test_a_batch_in_which_all_failed_has_an_index_too(tmp_path: Path) -> None:
    failed = pd.DataFrame({"name": ["b1"], "reason": ["no chest"]})
    html = write_index(tmp_path, pd.DataFrame({"name": []}), failed, EM).read_text()
    assert "0 scans segmented" in html
    assert "no chest" in html


def test_changes_are_those_since_the_first_scan(tmp_path: Path) -> None:
    scans = pd.DataFrame(
        {
            "patient": [1, 1, 1, 2],
            "name": ["a2", "a10", "a3", "a 1"],
            "days": [0.0, 6.0, 41.0, 0.0],
            "infection_ml": [200.0, 530.0, 110.0, 5.0],
            "consolidation_ml": [None, 3.0, 4.0, 0.0],
        }
    )
    assert changes_ml(scans[:3], "infection").tolist() == [0.0, 330.0, -90.0]
    chart = follow_up_chart(scans[:3], EM)
    assert "days since the first scan" in chart
    assert chart.count("<circle") == 3  # what the first scan does not tell has no change
    assert ">consolidation<" not in chart
    assert follow_up_chart(scans[3:], EM) == ""
    html = write_index(tmp_path, rows(), NOBODY, EM, scans).read_text()
    assert "Change since the first of 3 scans." in html
    assert '<td data-value="-90.0">-90</td>' in html


def test_scans_without_dates_stand_one_apart() -> None:
    scans = pd.DataFrame({"days": [np.nan, np.nan], "infection_ml": [1.0, 2.0]})
    chart = follow_up_chart(scans, EM)
    assert "days" not in chart
    assert ">1.5</text>" not in chart.split("scan</text>")[0].split('class="axis"')[-1]  # no half scans
