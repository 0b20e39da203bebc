"""Definition of the CT severity score."""

import re

import numpy as np
import pytest

from ct.lungs.lobe_scores import DEFINITION, HIGHEST, LIMITS, LOBE_SCORES, SCORES, SUM, score_of

LOBES = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe")


@pytest.mark.parametrize(
    ("percent", "score"),
    [
        (0, 0),
        (0.09, 0),
        (0.1, 1),
        (4.99, 1),
        (5, 2),
        (25, 2),
        (25.1, 3),
        (49.9, 3),
        (50, 4),
        (75, 4),
        (75.1, 5),
        (100, 5),
    ],
)
def test_scores_begin_where_the_definition_says(percent: float, score: int) -> None:
    assert score_of(np.array([percent / 100])).tolist() == [score]


def test_each_limit_parts_two_scores() -> None:
    below, above = (score_of(np.nextafter(LIMITS, end)) for end in (0.0, 1.0))
    assert below.tolist() == [0, 1, 2, 3, 4]
    assert above.tolist() == [1, 2, 3, 4, 5]


def test_the_definition_is_printed_with_its_limits() -> None:
    assert DEFINITION == (
        "0 none (< 0.1 %), 1 below 5 %, 2 up to 25 %, 3 below 50 %, 4 up to 75 %, 5 above 75 % of the lobe"
    )


def test_the_printed_definition_is_that_of_the_scores() -> None:
    for score, word, per_cent in re.findall(r"(\d) (below|up to|above) ([\d.]+) %", DEFINITION):
        limit = float(per_cent) / 100
        there = int(score_of(np.array([limit]))[0])
        assert (there == int(score)) == (word == "up to"), "a limit belongs to the score that goes up to it"


def test_five_lobes_score_up_to_5_and_their_sum_up_to_25() -> None:
    assert {lobe: f"{lobe}_score" for lobe in LOBES} == LOBE_SCORES
    assert SUM == "ct_severity_score"
    assert (*(f"{lobe}_score" for lobe in LOBES), "ct_severity_score") == SCORES
    assert {"ct_severity_score": 25} | {f"{lobe}_score": 5 for lobe in LOBES} == HIGHEST
    assert next(iter(HIGHEST)) == SUM, "the columns of a cohort begin with it"
