"""Vocabulary of radiology reports: how a report names what class sets look for; the sets refer to its terms by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct.refusal import Refusal, Word


@dataclass(frozen=True)
class ReportTerm:
    r"""A term of radiology reports, as regular expressions that ignore case.

    Attributes:
        name: What class sets call it.
        patterns: Its spellings and synonyms.
        unless: What gives a match another meaning; matched against the sentence up to the end of the match, so it ends
            with `$`: `subcutaneous emphysema$`.
        denied_by: Sentences that deny it without naming it, such as "The pleural spaces are clear".
    """

    name: str
    patterns: tuple[str, ...]
    unless: tuple[str, ...] = ()
    denied_by: tuple[str, ...] = ()


# Terms of the Fleischner glossary (Hansell 2008) with common misspellings. Airspace opacity and airspace disease are
# not consolidation; neither is the consolidation of a fracture, nor a course of chemotherapy.
_TERMS = (
    ReportTerm(
        "consolidation",
        patterns=(
            r"(?:\b|(?<=\bnon))co(?:n?s[oi]?l[aio]?d[ai]{0,2}t[a-z]*|nsoliations?)\b"
            r"(?!\s+(?:\w+\s+)?(?:chemo\w*|therap\w+|treatment|radio\w*|radiation|regimen"
            r"|cycles?|durvalumab|fractures?))"
            r"(?!\s+of\s+(?:the\s+)?(?:\w+\s+){0,3}fractures?)",
        ),
        unless=(r"(?:\bsemi-?\s?|\b(?:fractures?|callus|bony|bone|osseous)\s+)\w+$",),
    ),
    ReportTerm(
        "ground_glass",
        patterns=(
            r"\bgro?und[\s-]?g(?:l[ar]?|r)a?ss",
            r"\b(?:frosted|matte?d?)[\s-]glass",
            r"\bgg[oa]s?\b",
            r"\bggns?\b",
        ),
    ),
    ReportTerm("crazy_paving", patterns=(r"\bcrazy[\s-]?(?:pav\w+|stones?)", r"\bpaving[\s-]stones?")),
    ReportTerm(
        "effusion",
        patterns=(
            r"\b(?:pleural\s+)?effusion[a-z]*(?!\s+(?:\w+\s+){0,3}?(?:in|within|of)\s+the\s+(?:pericardi|joint|knee))",
            r"\bpleural\s+(?:ef?)?fusions?\b",
            r"\bpleural\s+(?:(?:\w+\s+)?|(?:or|and|and/or)\s+pericardial\s+)fluid",
            r"\bhydro(?:pneumo)?thorax",
            r"\bfluid\s+(?:with)?in\s+(?:the\s+)?(?:\w+\s+){0,2}(?:pleural\s+(?:space|cavity)|fissures?)",
        ),
        unless=(
            r"(?<!pleural or )(?<!pleural and )(?<!pleural and/or )(?<!pleural/)(?<!pleural-)(?<!pleural, )(?<!pleuro-)"
            r"\b(?:pericardial|joint|knee|hip|shoulder|elbow|subdural|mastoid|ear|articular)"
            r"(?:\s+(?:thickening|fluid|space|cavity|sac))?(?:\s*(?:,|/|-|\bor\b|\band\b|\bnor\b))?"
            r"\s*(?:an?\s+)?effusion\w*$",
        ),
        denied_by=(
            r"\bpleural\s+(?:spaces?|cavit(?:y|ies)|recess(?:es)?)\s+(?:is|are|remains?|appears?)\s+(?:clear|free)",
        ),
    ),
)
REPORT_TERMS: dict[str, ReportTerm] = {term.name: term for term in _TERMS}


def report_term(values: Mapping[str, Any]) -> ReportTerm:
    """Make a term of plain values, as `dataclasses.asdict` gives them."""
    patterns = {key: tuple(value) for key, value in values.items() if key != "name"}
    return ReportTerm(values["name"], **patterns)


def read_report_term(entry: str | Mapping[str, Any], file: Path) -> ReportTerm:
    """Read an entry of a leaf's `reported_as`.

    Args:
        entry: The name of a term of the vocabulary, or the attributes of a `ReportTerm` of the class set's own.
        file: The class set, for messages.

    Raises:
        ValueError: There is no such term, or a pattern is no regular expression.
    """
    if isinstance(entry, str):
        if entry not in REPORT_TERMS:
            raise Refusal(
                "{file}: {term} is no term of ct/report_terms.py; expected one of {names}, or a term of your own with "
                "name and patterns",
                file=file,
                term=entry,
                names=Word(", ".join(REPORT_TERMS)),
            )
        return REPORT_TERMS[entry]
    for key, patterns in entry.items():
        if key != "name" and not _are_regular_expressions(patterns):
            raise Refusal(
                "{file}: {key} of a report term is {patterns}; expected a list of regular expressions in single "
                "quotes, such as ['\\breticula\\w+']",
                file=file,
                key=str(key),
                patterns=str(patterns),
            )
    return report_term(entry)


def _are_regular_expressions(patterns: object) -> bool:
    try:
        return (
            isinstance(patterns, list) and bool(patterns) and all(re.compile(pattern).pattern for pattern in patterns)
        )
    except (re.error, TypeError):
        return False
