"""Weak labels from the text of a radiology report, sentence by sentence.

Rules of our own, since the kept libraries bring spaCy (360 MB) and are less precise on the X-ray reports of
`benchmarks.report_labels`: consolidation 0.71 with medspaCy 1.3.1 (whose spaCy does not load with numpy 2 before Python
3.12) and 0.68 with negspacy 1.1.0, which knows negation only, against 0.94 here, all at recall 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from cohort.reports.context import Claim, judge, plain
from cohort.reports.sentences import ReportSentence, report_sentences
from ct.classes import CLASS_SETS
from ct.refusal import Refusal, Word
from ct.report_terms import REPORT_TERMS, ReportTerm

NO_MATCH = "(?!)"
# The report terms of each leaf of what can be asked for.
_TERMS_OF: dict[str, tuple[tuple[ReportTerm, ...], ...]] = {
    key: terms for classes in reversed(CLASS_SETS) for key in classes.members if any(terms := classes.terms_of(key))
} | {name: ((term,),) for name, term in REPORT_TERMS.items()}


@dataclass(frozen=True)
class WeakLabel:
    """What a report says about a finding.

    Attributes:
        value: 1 stated, 0 denied, -1 not mentioned or left open.
        sentence: The sentence that decided (for -1 the one that left it open), empty if there is none.
    """

    value: int
    sentence: str


def weak_label(text: str, finding: str = "consolidation") -> WeakLabel:
    """Read from a report whether a finding is present.

    A sentence that states the finding outweighs all others; "likely" and "consistent with" state it. Otherwise the
    impression, if it says something, outweighs the rest of the report; within either a sentence that leaves the finding
    open ("possible", "cannot exclude", "or", "versus") outweighs one that denies it. Questions, conditions, advice, the
    past and the sections that are not about these images have no vote.

    A finding of several classes is stated if a sentence states any of them, and left open if one leaves any of them
    open; it is denied only if every one of them is, since "no consolidation" says nothing about ground glass.

    Args:
        text: The report.
        finding: A term of `ct.report_terms` (consolidation, crazy_paving, effusion, ground_glass), or the key of a
            finding or leaf of a class set of experiments/classes. A term wins over a key of the same name, and of
            several sets the first of `CLASS_SETS`.

    Returns:
        The label and the sentence that decided it.

    Raises:
        ValueError: Reports have no terms for the finding.
    """
    if finding not in _TERMS_OF:
        raise Refusal(
            "no report terms are known for the finding {finding!r}; expected one of {findings}",
            finding=finding,
            findings=Word(", ".join(sorted(_TERMS_OF))),
        )
    sentences = report_sentences(text)
    labels = [_label_of_class(sentences, terms) for terms in _TERMS_OF[finding]]
    stated = [label for label in labels if label.value == 1]
    left_open = [label for label in labels if label.value == -1 and label.sentence]
    denied = labels if all(label.value == 0 for label in labels) else []
    return [*stated, *left_open, *denied, WeakLabel(-1, "")][0]


def is_reported(finding: str) -> bool:
    """Tell whether reports have terms for a finding or leaf, so that `weak_label` can read it."""
    return finding in _TERMS_OF


def _label_of_class(sentences: Sequence[ReportSentence], terms: Sequence[ReportTerm]) -> WeakLabel:
    """Weigh what the sentences claim about a class, by whichever of its terms."""
    claims = [
        (sentence, claim)
        for sentence in sentences
        for term in terms
        for claim in _claims(sentence.text, term)
        if claim is not Claim.NOTHING
    ]
    decisive = [(sentence, claim) for sentence, claim in claims if sentence.in_summary] or claims
    for value, voters in ((Claim.STATED, claims), (Claim.OPEN, decisive), (Claim.DENIED, decisive)):
        for sentence, claim in voters:
            if claim is value:
                return WeakLabel(value.value, sentence.text)
    return WeakLabel(-1, "")


def _claims(sentence: str, term: ReportTerm) -> list[Claim]:
    """Return what the sentence claims, once for each time that it has the term."""
    sentence = plain(sentence)
    claims = [Claim.DENIED] if _any_of(term.denied_by).search(sentence) else []
    for match in _any_of(term.patterns).finditer(sentence):
        if not _any_of(term.unless).search(sentence[: match.end()]):
            claims.append(judge(sentence, *match.span()))
    return claims


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns) or NO_MATCH, re.IGNORECASE)
