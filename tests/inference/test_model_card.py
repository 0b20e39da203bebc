"""What a model's card says of it, in a line."""

import math

import pytest

from inference.result import NOT_SAID, Member, ModelCard


def card(*members: Member) -> ModelCard:
    return ModelCard("consolidation", "unet_em", ("a" * 64,) * max(len(members), 1), 1, 64, "0.1.0", members)


def test_the_line_says_what_a_model_was_trained_on_and_how_good_it_is() -> None:
    member = Member(76, 70, 3, {"consolidation": 0.654, "infection": 0.841}, {"consolidation": 6, "infection": 12})
    assert card(member).card_line == (
        "trained on 76 scans of 3 sites; validation: consolidation Dice 0.65 over 6 scans, "
        "infection Dice 0.84 over 12 scans"
    )


def test_one_scan_of_one_site() -> None:
    line = card(Member(1, 1, 1, {"group_2": 0.5}, {"group_2": 1})).card_line
    assert line == "trained on 1 scan of 1 site; validation: pure ground glass Dice 0.50 over 1 scan"


@pytest.mark.parametrize("dice", [None, math.nan])
def test_what_no_validation_scan_has_is_undefined(dice: float | None) -> None:
    line = card(Member(4, 4, 1, {"consolidation": dice}, {"consolidation": 0})).card_line
    assert line == "trained on 4 scans of 1 site; validation: consolidation Dice undefined (no scan has it)"


def test_a_model_that_was_never_validated_says_so() -> None:
    assert card(Member(4, 4, 1)).card_line == "trained on 4 scans of 1 site; validation: none"


def test_an_old_checkpoint_says_that_it_says_nothing() -> None:
    assert card().card_line == card(Member()).card_line == NOT_SAID


def test_the_members_of_an_ensemble_speak_for_themselves() -> None:
    line = card(Member(2, 2, 1, {"infection": 0.5}, {"infection": 2}), Member()).card_line
    assert line == (
        "model 1: trained on 2 scans of 1 site; validation: infection Dice 0.50 over 2 scans; " + f"model 2: {NOT_SAID}"
    )
