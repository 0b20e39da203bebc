"""Poor models and trainings on few patients are flagged; what nobody knows is a warning."""

import math
from dataclasses import replace

import pytest

from inference.model_flags import FEWEST_PATIENTS, NOT_VALIDATED, model_flags, model_warnings
from inference.result import Member, ModelCard

GOOD = Member(48, 48, 1, {"consolidation": 0.65, "infection": 0.88}, {"consolidation": 3, "infection": 6})


def card(*members: Member) -> ModelCard:
    return ModelCard("consolidation", "unet_em", ("a" * 64,) * len(members), 1, 64, "0.1.0", members)


def test_a_good_model_has_no_flag_and_no_warning() -> None:
    assert (model_flags(card(GOOD)), model_warnings(card(GOOD))) == ((), ())


@pytest.mark.parametrize("dice", [0.49, 0.0, math.nan])
def test_a_poor_dice_on_validation_is_flagged(dice: float) -> None:
    (flag,) = model_flags(card(replace(GOOD, validation_dice={"infection": dice, "consolidation": 0.65})))
    assert flag.startswith(f"a poor model: its Dice of infection was {dice:.2f} over 6 validation scans, less than 0.5")


def test_groups_that_readers_do_not_agree_on_are_not_judged() -> None:
    figures = {"opacity": 0.77, "group_2": 0.3}
    assert model_flags(card(Member(48, 48, 1, figures, dict.fromkeys(figures, 6)))) == ()


def test_fewer_patients_than_a_rank_in_twenty_needs_are_flagged() -> None:
    # The farthest of n + 1 exchangeable patients is the new one with a probability of 1 / (n + 1): 5 % at 19.
    assert 1 / (FEWEST_PATIENTS + 1) <= 0.05 < 1 / FEWEST_PATIENTS
    (flag,) = model_flags(card(replace(GOOD, training_patients=18)))
    assert "trained on 18 patients, fewer than 19" in flag
    assert model_flags(card(replace(GOOD, training_patients=19))) == ()


def test_what_nobody_knows_is_a_warning() -> None:
    assert model_warnings(card(Member())) == (NOT_VALIDATED,)
    unknown = replace(GOOD, validation_dice={"consolidation": None, "infection": 0.9})
    assert model_flags(card(unknown)) == ()
    assert model_warnings(card(unknown)) == (
        "no validation scan had consolidation, so nobody knows how well the model finds it",
    )


def test_the_members_of_an_ensemble_are_told_apart() -> None:
    poor = replace(GOOD, validation_dice={"infection": 0.3})
    (flag,) = model_flags(card(GOOD, poor))
    assert flag.startswith("model 2: a poor model")
