"""What a model's card says of it, in a line."""

import math
from pathlib import Path

import pytest
from tiny_warnings import tiny_warnings

from inference.flags import NO_TRAINING_SET
from inference.model_flags import NOT_VALIDATED
from inference.result import NO_CARD, Member, ModelCard
from inference.scan_list import Source
from inference.segmenter import Segmenter
from training.checkpoint_file import write_checkpoint
from training.weights import read_checkpoint


def card(*members: Member) -> ModelCard:
    return ModelCard("consolidation", "unet_em", ("a" * 64,) * max(len(members), 1), 1, 64, "0.1.0", members)


def test_the_line_says_what_a_model_was_trained_on_and_how_good_it_is() -> None:
    member = Member(76, 70, 3, {"consolidation": 0.654, "infection": 0.841}, {"consolidation": 6, "infection": 12})
    assert card(member).card_line == (
        "trained on 76 scans of 3 sites; validation: consolidation Dice 0.65 over 6 scans, "
        "infection Dice 0.84 over 12 scans"
    )


def test_one_scan_of_one_site() -> None:
    line = card(Member(1, 1, 1, {"group_2": 0.5}, {"group_2": 1}, {"group_2": "pure ground glass"})).card_line
    assert line == "trained on 1 scan of 1 site; validation: pure ground glass Dice 0.50 over 1 scan"


@pytest.mark.parametrize("dice", [None, math.nan])
def test_what_no_validation_scan_has_is_undefined(dice: float | None) -> None:
    line = card(Member(4, 4, 1, {"consolidation": dice}, {"consolidation": 0})).card_line
    assert line == "trained on 4 scans of 1 site; validation: consolidation Dice undefined (no scan has it)"


def test_a_model_that_was_never_validated_says_so() -> None:
    assert card(Member(4, 4, 1)).card_line == "trained on 4 scans of 1 site; validation: none"


def test_an_old_checkpoint_says_that_it_says_nothing() -> None:
    assert card().card_line == card(Member()).card_line == NO_CARD


def test_the_members_of_an_ensemble_speak_for_themselves() -> None:
    line = card(Member(2, 2, 1, {"infection": 0.5}, {"infection": 2}), Member()).card_line
    assert line == (
        "model 1: trained on 2 scans of 1 site; validation: infection Dice 0.50 over 2 scans; " + f"model 2: {NO_CARD}"
    )


def test_predict_reads_the_card_from_the_checkpoint(em_run: Path) -> None:
    about = read_checkpoint(em_run / "best.ckpt")["ground_glass"]
    (member,) = Segmenter([em_run / "best.ckpt"]).card.members
    assert member.training_scans == about["trained_on"]["scans"] > 0
    assert member.training_patients == about["trained_on"]["patients"] > 0
    assert member.training_sites == about["trained_on"]["sites"] > 0
    for finding in ("consolidation", "infection"):
        assert member.validation_dice[finding] == about["validation"][f"{finding}/dice_mean"]
        assert member.validation_scans[finding] == about["validation"][f"{finding}/dice_mean_n"]


def test_a_checkpoint_without_a_card_is_used_and_says_so(em_run: Path, tmp_path: Path, cohort: Path) -> None:
    older = read_checkpoint(em_run / "best.ckpt")
    for key in ("validation", "trained_on", "training"):
        del older["ground_glass"][key]
    write_checkpoint(older, tmp_path / "older.ckpt")
    result = Segmenter([tmp_path / "older.ckpt"]).segment(Source("a", cohort.parent / "images" / "B007"))
    assert result.model.card_line == NO_CARD
    assert result.warnings == (*tiny_warnings("slices are 25.2 mm thick"), NOT_VALIDATED, NO_TRAINING_SET)
