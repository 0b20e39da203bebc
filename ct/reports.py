"""Weak labels from the text of a radiology report, sentence by sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FINDINGS = {"consolidation": r"\bconsolidat(?:ions?|ed|ive)\b"}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])|\n\s*\n|\n(?=\s*[-*\d])|;")
_CLAUSE_END = re.compile(r"\b(?:but|however|although|though|whereas|yet|and there (?:is|are|was|were))\b", re.I)
_NOT_A_DENIAL = re.compile(
    r"\b(?:no|without|not)\s+(?:\w+\s+){0,2}?(?:change|increase|decrease|improvement|progression|regression)\b"
    r"|\bnot only\b",
    re.I,
)
_UNCERTAIN = re.compile(
    r"\b(?:cannot|can not|can't|could not|not)\s+(?:\w+\s+){0,2}?(?:excluded?|ruled? out)\b|\brule out\b|\?"
    r"|\b(?:possibl[ey]|questionable|may represent|might represent|suspicious for)\b",
    re.I,
)
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|non|nor|neither|never|without|absence of|absent|negative for|free of|free from|lacks?|lacking|"
    r"den(?:y|ies)|clear of|rather than|instead of|fails? to|resolution of|resolved|cleared)\b",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"^[^,.]{0,60}?\b(?:not|absent|no longer|never|resolved|cleared|ruled out|excluded|nowhere|is lacking)\b"
    r"|^\W*(?:none|no|absent)\b",
    re.I,
)


@dataclass(frozen=True)
class WeakLabel:
    """What a report says about a finding.

    Attributes:
        value: 1 stated, 0 denied, -1 not mentioned or left open.
        sentence: The sentence that decided, empty for -1.
    """

    value: int
    sentence: str


def weak_label(text: str, finding: str = "consolidation") -> WeakLabel:
    """Read from a report whether a finding is present.

    A sentence that states the finding outweighs sentences that deny it; a sentence that leaves it open has no vote.

    Args:
        text: The report.
        finding: The finding asked for.

    Returns:
        The label and the sentence that decided it.

    Raises:
        ValueError: The finding is not a known one.
    """
    if finding not in _FINDINGS:
        raise ValueError(f"no keywords are known for the finding {finding!r}; expected one of {sorted(_FINDINGS)}")
    denied = ""
    for sentence in split_sentences(text):
        vote = _sentence_vote(sentence, _FINDINGS[finding])
        if vote == 1:
            return WeakLabel(1, sentence)
        if vote == 0 and not denied:
            denied = sentence
    return WeakLabel(0, denied) if denied else WeakLabel(-1, "")


def split_sentences(text: str) -> list[str]:
    """Split a report into trimmed sentences; list items and paragraphs end a sentence too."""
    return [" ".join(part.split()) for part in _SENTENCE_END.split(text) if part.strip()]


def _sentence_vote(sentence: str, keyword: str) -> int:
    votes = [_clause_vote(clause, keyword) for clause in _CLAUSE_END.split(sentence)]
    return max(votes)


def _clause_vote(clause: str, keyword: str) -> int:
    found = re.search(keyword, clause, re.I)
    if not found or _UNCERTAIN.search(clause):
        return -1
    before = _NOT_A_DENIAL.sub(" ", clause[: found.start()])
    after = _NOT_A_DENIAL.sub(" ", clause[found.end() :])
    return 0 if _DENIED_BEFORE.search(before) or _DENIED_AFTER.search(after) else 1
