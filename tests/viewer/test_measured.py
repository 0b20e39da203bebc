"""Measurements as text."""

import pandas as pd
import pytest

from viewer.measured import cards, interval_sentence, region_table, rest_table, value_text

MEASURED = {
    "lung_ml": 4321.4,
    "infection_ml": 98.76,
    "group_2_ml": 12.34,
    "severity_score": 0.0228,
    "wal_percent": None,
    "left_lung_ml": 2000.0,
    "left_infection_ml": 50.0,
    "left_infection_share": 0.025,
    "left_upper_lung_ml": 700.0,
    "left_upper_group_2_share": 0.5,
    "infection_mean_hu": -432.1,
    "entropy_in_lungs_bits": 0.1234,
    "infection_ml_low": 80.0,
    "infection_ml_high": 120.0,
    "interval_coverage": 0.9,
}


def test_cards_stand_in_their_order_with_units() -> None:
    assert cards(MEASURED) == {
        "Lungs": "4,321 ml",
        "Opacity": "98.8 ml",
        "Pure ground glass": "12.3 ml",
        "Severity": "2.3 %",
        "Well-aerated lung": "-",
    }


def test_regions_are_sides_and_zones() -> None:
    table = region_table(MEASURED)
    assert list(table.index) == ["left", "left upper"]
    assert table.loc["left"].dropna().to_dict() == {
        "lung (ml)": "2,000 ml",
        "infection (ml)": "50.0 ml",
        "infection (share)": "2.5 %",
    }
    assert table.loc["left upper"].dropna().to_dict() == {
        "lung (ml)": "700.0 ml",
        "pure ground glass (share)": "50.0 %",
    }
    assert region_table({"lung_ml": 1.0}).empty


def test_nothing_is_left_out() -> None:
    rest = rest_table(MEASURED)
    expected = {"infection mean hu": "-432.1 HU", "entropy in lungs bits": "0.123 bits", "interval coverage": "0.900"}
    found = dict(rest.itertuples(index=False))
    assert {key: found[key] for key in expected} == expected
    assert found["infection ml low"] == "80.0 ml"
    assert len(rest) + len(cards(MEASURED)) + int(region_table(MEASURED).notna().sum().sum()) == len(MEASURED)


def test_an_interval_says_its_coverage() -> None:
    assert interval_sentence(MEASURED) == "90 % intervals: infection 80.0 to 120.0 ml"
    assert interval_sentence({"lung_ml": 1.0}) == ""


@pytest.mark.parametrize(("key", "text"), [("infection_mass_g", "3.0 g"), ("infection_ml_spread", "3.0 ml")])
def test_units(key: str, text: str) -> None:
    assert value_text(key, 3.0) == text
    assert value_text(key, None) == "-"
    assert isinstance(rest_table({}), pd.DataFrame)
