"""Sentences of a radiology report in which the reader speaks about the images.

Sections begin with their headings. Indication, history, comparison, technique and recommendations are left out: they
hold questions and the past. The impression is marked, since there the reader sums up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

_ASIDE = (
    r"indications?|(?:\w+ ){0,2}history|comparisons?|technique|procedure|protocol|exam(?:ination)?|study|symptoms?"
    r"|clinical (?:information|info|details|data|question|context|notes?|presentation|diagnosis|background|indication)"
    r"|reason for (?:\w+ ){0,2}\w+|type of exam(?:ination)?|(?:presenting )?complaint|question|background|anamnesis"
    r"|request|recommendations?|prior (?:studies|imaging|exams?)"
)
_SUMMARY = r"(?:\w+ )?impressions?|conclusions?|opinion|summary|interpretation|assessment|imp"
_BODY = r"(?:\w+ )?findings?|results?|report|description|comments?|addendum|observations?"
_NAME = rf"{_ASIDE}|{_SUMMARY}|{_BODY}"
# A known name before a colon or alone on its line; or anything before a colon at the start of a line.
_HEADING = re.compile(
    rf"(?:^|(?<=\s)(?=(?-i:[A-Z])))(?P<inline>{_NAME})[ \t]*:"
    rf"|^[ \t]*(?=(?-i:[A-Z]))(?P<line>{_NAME})[ \t]*$"
    r"|^(?=[ \t]*[a-z][\w /,&()-]{2,40}:)",
    re.IGNORECASE | re.MULTILINE,
)
_STOP = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+|(?<=[A-Za-z]{3}[.!?])(?=[A-Za-z]{2})|;(?!\s*\d)|\n|\s(?=\d{1,2}[.)]\s+[A-Z])", re.ASCII
)
_NO_STOP = re.compile(
    r"(?<![\w.])(?:(?:dr|drs|mr|mrs|ms|prof|st|vs|cf|approx|ca|figs?|incl|resp|(?:\w\.)+\w|(?-i:[A-Z])|\d{1,2})\.|\?)$",
    re.IGNORECASE,
)
_LINE_GOES_ON = re.compile(
    r"(?:,|\b(?:a|an|the|no|not|and|or|nor|of|in|on|at|to|for|from|by|with|without|is|are|was|were|has|have|versus"
    r"|vs\.?))$",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,2}[.)]\s)")


@dataclass(frozen=True)
class ReportSentence:
    """A sentence in which the reader speaks about the images.

    Attributes:
        text: The sentence, in one line.
        in_summary: Whether it stands in the impression (conclusion, opinion, summary).
    """

    text: str
    in_summary: bool


def report_sentences(text: str) -> list[ReportSentence]:
    """Split a report into the sentences that count.

    Args:
        text: The report.

    Returns:
        Its sentences without section headings and without the sections that are not about these images.
    """
    text = re.sub(r"\r\n?", "\n", text)
    sentences: list[ReportSentence] = []
    headings = list(_HEADING.finditer(text))
    kind, start, in_summary = "body", 0, False
    for heading in [*headings, None]:
        following = _kind(heading) if heading else "end"
        part = text[start : heading.start()] if heading else text[start:]
        counted = _after_aside(part, following) if kind == "aside" else split_sentences(part)
        sentences += [ReportSentence(sentence, in_summary) for sentence in counted]
        if heading:
            start, kind = heading.end(), following
            in_summary = kind == "summary" or (in_summary and kind == "other")
    return sentences


def split_sentences(text: str) -> list[str]:
    """Split a text into trimmed sentences; list items, paragraphs and lines that nobody wrapped end a sentence too."""
    sentences, start = [], 0
    text = _unwrapped(text)
    for stop in _STOP.finditer(text):
        if not _NO_STOP.search(text, max(start, stop.start() - 8), stop.start()):
            sentences.append(text[start : stop.start()])
            start = stop.end()
    in_one_line = (" ".join(sentence.split()) for sentence in [*sentences, text[start:]])
    return [sentence for sentence in in_one_line if re.search(r"\w", sentence)]


def _kind(heading: re.Match[str]) -> str:
    name = heading["inline"] or heading["line"] or ""
    for kind, pattern in (("aside", _ASIDE), ("summary", _SUMMARY), ("body", _BODY)):
        if re.fullmatch(pattern, name, re.IGNORECASE):
            return kind
    return "other"


def _after_aside(part: str, following: str) -> list[str]:
    """Return the sentences of an aside that count again: those after its first paragraph.

    Where it is one paragraph, before a summary or the end those after its first sentence; none before a body.
    """
    if following == "body":
        return []
    paragraphs = re.split(r"\n\s*\n", part.strip(), maxsplit=1)
    if len(paragraphs) == 2:
        return split_sentences(paragraphs[1])
    return split_sentences(part)[1:] if following in ("end", "summary") else []


def _unwrapped(text: str) -> str:
    """Join the lines of a paragraph; a line break stays where a statement ends at it."""
    lines = text.split("\n")
    width = max(len(line.rstrip()) for line in lines) if _is_wrapped(text) else len(text)
    joined = lines[0]
    for line, following in pairwise(lines):
        joined += ("\n" if _ends_statement(line.rstrip(), following, width) else " ") + following
    return joined


def _is_wrapped(text: str) -> bool:
    """Tell whether lines break for want of room: one starts in lower case, or all letters are capitals."""
    return text.isupper() or re.search(r"\n[ \t]*[a-z]", text) is not None


def _ends_statement(line: str, following: str, width: int) -> bool:
    """Tell whether a statement ends with the line: the next line's first word would have fitted into the widest."""
    if not following.strip() or not line.strip() or _LIST_ITEM.match(following):
        return True
    first_word = following.split()[0]
    if first_word[0].islower() or _LINE_GOES_ON.search(line):
        return False
    return len(line) + 1 + len(first_word) <= width
