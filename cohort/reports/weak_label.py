"""Weak labels from the text of a radiology report, sentence by sentence.

Rules of our own, since the kept libraries bring spaCy (360 MB) and are less precise on the X-ray reports of
`benchmarks.report_labels`: consolidation 0.71 with medspaCy 1.3.1 (whose spaCy does not load with numpy 2 before Python
3.12) and 0.68 with negspacy 1.1.0, which knows negation only, against 0.94 here, all at recall 1.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cohort.reports.context import Claim, judge, plain
from cohort.reports.sentences import report_sentences
from ct.refusal import Refusal, Word


@dataclass(frozen=True)
class _Finding:
    """How a finding is named; `unless`: what makes a name mean something else; `denied_by`: what says it is absent."""

    name: re.Pattern[str]
    unless: re.Pattern[str] | None = None
    denied_by: re.Pattern[str] | None = None


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


# Terms of the Fleischner glossary (Hansell 2008) with common misspellings. Airspace opacity and airspace disease are
# not consolidation; neither is the consolidation of a fracture, nor a course of chemotherapy.
_FINDINGS = {
    "consolidation": _Finding(
        _pattern(
            r"(?:\b|(?<=\bnon))co(?:n?s[oi]?l[aio]?d[ai]{0,2}t[a-z]*|nsoliations?)\b"
            r"(?!\s+(?:\w+\s+)?(?:chemo\w*|therap\w+|treatment|radio\w*|radiation|regimen"
            r"|cycles?|durvalumab|fractures?))"
            r"(?!\s+of\s+(?:the\s+)?(?:\w+\s+){0,3}fractures?)"
        ),
        unless=_pattern(r"(?:\bsemi-?\s?|\b(?:fractures?|callus|bony|bone|osseous)\s+)\w+$"),
    ),
    "ground_glass": _Finding(
        _pattern(r"\bgro?und[\s-]?g(?:l[ar]?|r)a?ss|\b(?:frosted|matte?d?)[\s-]glass|\bgg[oa]s?\b|\bggns?\b")
    ),
    "crazy_paving": _Finding(_pattern(r"\bcrazy[\s-]?(?:pav\w+|stones?)|\bpaving[\s-]stones?")),
    "effusion": _Finding(
        _pattern(
            r"\b(?:pleural\s+)?effusion[a-z]*(?!\s+(?:\w+\s+){0,3}?(?:in|within|of)\s+the\s+(?:pericardi|joint|knee))"
            r"|\bpleural\s+(?:ef?)?fusions?\b|\bpleural\s+(?:(?:\w+\s+)?|(?:or|and|and/or)\s+pericardial\s+)fluid"
            r"|\bhydro(?:pneumo)?thorax"
            r"|\bfluid\s+(?:with)?in\s+(?:the\s+)?(?:\w+\s+){0,2}(?:pleural\s+(?:space|cavity)|fissures?)"
        ),
        unless=_pattern(
            r"(?<!pleural or )(?<!pleural and )(?<!pleural and/or )(?<!pleural/)(?<!pleural-)(?<!pleural, )(?<!pleuro-)"
            r"\b(?:pericardial|joint|knee|hip|shoulder|elbow|subdural|mastoid|ear|articular)"
            r"(?:\s+(?:thickening|fluid|space|cavity|sac))?(?:\s*(?:,|/|-|\bor\b|\band\b|\bnor\b))?"
            r"\s*(?:an?\s+)?effusion\w*$"
        ),
        denied_by=_pattern(
            r"\bpleural\s+(?:spaces?|cavit(?:y|ies)|recess(?:es)?)\s+(?:is|are|remains?|appears?)\s+(?:clear|free)"
        ),
    ),
}


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

    Args:
        text: The report.
        finding: consolidation, crazy_paving, effusion (pleural) or ground_glass.

    Returns:
        The label and the sentence that decided it.

    Raises:
        ValueError: The finding is not a known one.
    """
    if finding not in _FINDINGS:
        raise Refusal(
            "no keywords are known for the finding {finding!r}; expected one of {findings}",
            finding=finding,
            findings=Word(", ".join(sorted(_FINDINGS))),
        )
    known = _FINDINGS[finding]
    votes = [
        (sentence.in_summary, claim, sentence.text)
        for sentence in report_sentences(text)
        for claim in _claims(sentence.text, known)
    ]
    decisive = [vote for vote in votes if vote[0] and vote[1] is not Claim.NOTHING] or votes
    for claim, among in ((Claim.STATED, votes), (Claim.OPEN, decisive), (Claim.DENIED, decisive)):
        for _, vote, sentence in among:
            if vote is claim:
                return WeakLabel(claim.value, sentence)
    return WeakLabel(-1, "")


def _claims(sentence: str, finding: _Finding) -> list[Claim]:
    """What the sentence claims, once for each time that it names the finding."""
    sentence = plain(sentence)
    claims = [Claim.DENIED] if finding.denied_by and finding.denied_by.search(sentence) else []
    for name in finding.name.finditer(sentence):
        if not (finding.unless and finding.unless.search(sentence[: name.end()])):
            claims.append(judge(sentence, *name.span()))
    return claims
