"""Flags and warnings of poor models, and of training sets too small to recognise an unusual scan."""

from collections.abc import Iterator, Sequence

from ct.classes import EM, L3
from ct.refusal import Sentence, word_of
from inference.result import Member, ModelCard
from pages.page import counted

# Below it more than two voxels are wrong for each that is right (Dice = 2 right / (2 right + wrong)). Infection on the
# phantom's validation scans: 0.88 after all epochs, 0.52 and 0.62 after the first, 0.81 after three (whose answers are
# flagged by their entropy). Consolidation: 0.72 by EM, 0.42 by EM of two epochs; on test scans 0.49 with the prior
# phi1, which the paper shows to be poor, and 0.51 by the threshold that needs no model.
LEAST_DICE = 0.5
# Judged beside the first finding of a model. Kinds of ground glass are left out: readers agree on them no better.
JUDGED = ("infection", "consolidation", "opacity")
# Of n exchangeable patients and a new one, the new one lies farthest out with a probability of 1 / (n + 1): with 19 or
# more, a scan like the training scans is flagged once in twenty at most by each distance. Seen on the phantom, patients
# of one site held against others of it: 33 % flagged by HU or features after training on 3, 23 % on 6, 11 % on 12, 7 %
# on 19, 3 % on 30.
FEWEST_PATIENTS = 19
NOT_VALIDATED = Sentence(
    "the checkpoint does not say how good the model was on validation, so nobody knows how far to trust its answer; "
    "one that this version trains and validates does"
)


def model_flags(card: ModelCard) -> tuple[str, ...]:
    """Flag what makes every answer of a model doubtful.

    Returns:
        A sentence for each finding whose validation Dice is poor, and one for too few patients to recognise a scan that
        is unlike them.
    """
    return tuple(f"{name}{flag}" for name, member in _members(card) for flag in _flags(member))


def model_warnings(card: ModelCard) -> tuple[Sentence, ...]:
    """Warn of what is unknown about a model: a sentence for each validation figure that is undefined or missing."""
    return tuple(
        Sentence("{model}{warning}", model=name, warning=warning)
        for name, member in _members(card)
        for warning in _warnings(member)
    )


def _members(card: ModelCard) -> Iterator[tuple[Sentence, Member]]:
    for number, member in enumerate(card.members, 1):
        yield Sentence("model {number}: ", number=number) if len(card.members) > 1 else Sentence(""), member


def _judged(member: Member) -> Sequence[str]:
    return [finding for rank, finding in enumerate(member.validation_dice) if rank == 0 or finding in JUDGED]


def _name(member: Member, finding: str) -> str:
    return member.names.get(finding, finding)


def _flags(member: Member) -> Iterator[str]:
    for finding in _judged(member):
        dice = member.validation_dice.get(finding)
        if dice is not None and not dice >= LEAST_DICE:
            scans = counted(member.validation_scans[finding], "validation scan")
            yield (
                f"a poor model: its Dice of {_name(member, finding)} was {dice:.2f} over {scans}, less than "
                f"{LEAST_DICE}: more than two voxels wrong for each right one"
            )
    patients = member.training_patients
    if patients is not None and patients < FEWEST_PATIENTS:
        yield (
            f"the model was trained on {counted(patients, 'patient')}, fewer than {FEWEST_PATIENTS}: whether a scan is "
            "unlike them cannot be told, so a flag that says so is worth nothing, and so is its absence"
        )


def _warnings(member: Member) -> Iterator[Sentence]:
    if not member.validation_dice:
        yield NOT_VALIDATED
    for finding, dice in member.validation_dice.items():
        if dice is None and finding in _judged(member):
            name = word_of(_name(member, finding), [*JUDGED, *EM.names, *L3.names])
            text = "no validation scan had {finding}, so nobody knows how well the model finds it"
            yield Sentence(text, finding=name)
