"""Claims of a report's sentence about a finding that it names: stated, denied, left open, or nothing.

The method is that of NegEx and ConText (Chapman 2001, Harkema 2009): cue phrases before and after the mention, each
with a scope that certain words end; the nearest cue before the mention whose scope reaches it decides.
"""

import re
from enum import Enum

from cohort.reports import cues

_REACH = 400  # characters on each side of the mention; what is farther away is no longer about it
_ASCII = str.maketrans("\u2010\u2011\u2013\u2014\u2018\u2019\u00a0", "----'' ")  # hyphens, dashes, quotes, fixed space
_NOT = re.compile(r"\b(?P<can>can)(?:not|'t)\b|n't\b", re.IGNORECASE)


class Claim(Enum):
    """What a sentence claims about a finding."""

    STATED = 1
    DENIED = 0
    OPEN = -1
    NOTHING = None


def plain(sentence: str) -> str:
    """Bring a sentence into the form that the cues expect: "not" apart from its verb, ASCII hyphens and quotes."""
    return _NOT.sub(lambda negation: "can not" if negation["can"] else " not", sentence.translate(_ASCII))


def judge(sentence: str, start: int, end: int) -> Claim:
    """Return what a sentence claims about a finding.

    Args:
        sentence: The sentence, from `plain`.
        start: Where the finding's name begins in it.
        end: Where the name ends.

    Returns:
        The claim; `NOTHING` for a question, a condition, advice, the past, and "no other ...".
    """
    left, right = _clause(sentence[max(0, start - _REACH) : start], sentence[end : end + _REACH])
    if cues.NON.search(left):
        return Claim.DENIED
    before = _before(left, right)
    if before in (Claim.DENIED, Claim.NOTHING):
        return before
    after = _after(left, right)
    if before is Claim.OPEN and after is not Claim.DENIED:
        return Claim.OPEN
    claim = after or before
    if claim:
        return claim
    if cues.OR_BEFORE.search(left) or cues.OR_AFTER.search(right):
        return Claim.OPEN
    return Claim.NOTHING if _is_past(left, right) else Claim.STATED


def _clause(left: str, right: str) -> tuple[str, str]:
    """Return the text before and after the mention that belongs to the same statement."""
    if cues.LABEL_BEFORE.search(left) and right.lstrip().startswith(":"):
        return "", right
    cuts = list(cues.CUT.finditer(left))
    left = left[cuts[-1].end() :] if cuts and not cues.ASIDE.search(left) else cues.ASIDE.sub("", left)
    cut = cues.CUT.search(right)
    return left, right[: cut.start()] if cut else right


def _before(left: str, right: str) -> Claim | None:
    """Return the claim that the cues before the mention make, None if no cue reaches it."""
    if cues.QUESTION_BEFORE.search(left):
        return Claim.NOTHING
    for cue in reversed(list(cues.BEFORE.finditer(left))):
        kind, gap = cue.lastgroup or "", left[cue.end() :]
        if not _reaches(kind, gap, right):
            continue
        if kind in ("asked", "past"):
            return Claim.NOTHING
        if kind == "stated" or cues.WITHIN.search(gap):
            return Claim.STATED
        if kind == "open":
            return Claim.OPEN
        return Claim.NOTHING if cues.ONLY_OTHERS.search(gap) else Claim.DENIED
    return None


def _reaches(kind: str, gap: str, right: str) -> bool:
    """Tell whether the scope of a cue spans the gap between it and the mention."""
    if cues.ENDS_SCOPE.search(gap):
        return False
    listed = bool(cues.LISTED.search(gap) or cues.LIST_GOES_ON.search(right))
    if cues.NEW_STATEMENT.search(gap) and not listed:
        return False
    if kind == "denied":
        return True
    if kind == "denied_next":
        return len(gap.split()) <= 4 and not re.search(r",|\band\b", gap) and not cues.OF_ANOTHER.search(gap)
    return len(gap.split()) <= 12 and (listed or "," not in gap) and not cues.VERB.search(gap)


def _after(left: str, right: str) -> Claim | None:
    """Return the claim that the cues after the mention make, None if no cue is about it."""
    if cues.NO_AFTER_LABEL.search(right):
        return Claim.DENIED
    if cues.QUESTION_AFTER.search(right):
        return Claim.OPEN
    for cue in cues.AFTER.finditer(right):
        kind, gap = cue.lastgroup, right[: cue.start()]
        if not _same_subject(gap):
            continue
        if kind == "stated":
            return None
        if kind == "gone" and not cues.STAYS.search(gap) and _may_be_gone(left, gap):
            return Claim.DENIED
        if kind in ("absent", "open") and _is_subject(left, gap):
            return Claim.DENIED if kind == "absent" else Claim.OPEN
    return None


def _same_subject(gap: str) -> bool:
    """Tell whether what follows the gap is still about the mention: commas only as a list or around an insertion."""
    after_commas = gap.split(",")[1:]
    listed = re.search(r"\b(?:and|or|nor)\b", ",".join(after_commas), re.IGNORECASE)
    return len(after_commas) % 2 == 0 or bool(listed) or bool(cues.ONLY_GRAMMAR.match(after_commas[-1]))


def _is_subject(left: str, gap: str) -> bool:
    """Tell whether the mention is the subject of the verb that ends the gap: no other verb has it."""
    before_verb = cues.VERB_LAST.sub("", cues.RELATIVE.sub(" ", gap))
    return not cues.VERB.search(before_verb) and not _is_object(left)


def _may_be_gone(left: str, gap: str) -> bool:
    """Tell whether "resolved" after the gap is about the mention; of a verb's object only in the same clause."""
    *clauses, last = re.split(r",|\band\b|\bwhich\b|\bthat\b", gap)
    return not clauses or not _is_object(left) or bool(cues.ONLY_GRAMMAR.match(last))


def _is_object(left: str) -> bool:
    """Tell whether the mention is the object of a verb before it: "the lungs show", "there is"."""
    return bool(cues.VERB.search(re.split(r",|\band\b", left)[-1]))


def _is_past(left: str, right: str) -> bool:
    if cues.PAST_STUDY_BEFORE.search(left):
        return True
    earlier = cues.PAST_BEFORE.search(left) or cues.PAST_AFTER.search(right)
    return bool(earlier) and not cues.NOW.search(left + " " + cues.RELATIVE.sub(" ", right))
