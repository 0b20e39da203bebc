"""Verdicts on the scans of a cohort: verdicts.csv, and a summary that stays short for a thousand scans."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from machine.whole_file import whole_file

PASS, REPAIRED, REFUSED = "pass", "repaired", "refused"
COLUMNS = ("scan_id", "site", "split", "verdict", "reasons", "warnings", "image")
# So many kinds of reasons and scans of each kind are named in the summary; verdicts.csv has them all.
KINDS_SHOWN = 20
SCANS_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scan.

    Attributes:
        verdict: pass, repaired or refused.
        reasons: What was repaired, or the one reason why the scan was refused.
        warnings: What to look at although the scan is usable.
        image: The scan's path relative to the cohort.csv.
    """

    scan_id: str
    site: str
    split: str
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    image: str

    @property
    def usable(self) -> bool:
        """Whether the scan was prepared."""
        return self.verdict != REFUSED


def write_verdicts(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write verdicts.csv, a row per scan; several reasons or warnings are joined by " | "."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for verdict in verdicts:
            sentences = {"reasons": verdict.reasons, "warnings": verdict.warnings}
            joined = {column: " | ".join(map(_on_one_line, texts)) for column, texts in sentences.items()}
            writer.writerow(vars(verdict) | joined)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Count the verdicts and group reasons and warnings that say the same of different scans, as text."""
    counts = {name: sum(verdict.verdict == name for verdict in verdicts) for name in (PASS, REPAIRED, REFUSED)}
    warned = sum(bool(verdict.warnings) for verdict in verdicts)
    head = (
        f"{len(verdicts)} scans: {counts[PASS]} passed, {counts[REPAIRED]} repaired, {counts[REFUSED]} refused"
        f"; {warned} with warnings"
    )
    refused = [(verdict.scan_id, text) for verdict in verdicts if not verdict.usable for text in verdict.reasons]
    repaired = [(verdict.scan_id, text) for verdict in verdicts if verdict.usable for text in verdict.reasons]
    warnings = [(verdict.scan_id, text) for verdict in verdicts for text in verdict.warnings]
    parts = [_grouped("refused", refused), _grouped("repaired", repaired), _grouped("warnings", warnings)]
    return "\n".join([head, *filter(None, parts)])


def _grouped(title: str, sentences: Sequence[tuple[str, str]]) -> str:
    """Return a block with one sentence per kind, most frequent first, and the scans it holds for; empty for none."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for scan_id, sentence in sentences:
        kinds.setdefault(_kind(sentence), []).append((scan_id, _on_one_line(sentence)))
    lines = [f"{title}:"] if kinds else []
    frequent = sorted(kinds.values(), key=len, reverse=True)
    for scans in frequent[:KINDS_SHOWN]:
        (first, sentence), further = scans[0], [scan_id for scan_id, _ in scans[1 : SCANS_SHOWN + 1]]
        lines.append(f"{len(scans):6d} x {first}: {sentence}")
        if further:
            unnamed = len(scans) - 1 - len(further)
            lines.append(f"{'':9}also {', '.join(further)}" + (f" and {unnamed} more" if unnamed else ""))
    if len(frequent) > KINDS_SHOWN:
        rest = frequent[KINDS_SHOWN:]
        lines.append(f"{sum(map(len, rest)):6d} x {len(rest)} other kinds")
    return "\n".join(lines)


def _kind(sentence: str) -> str:
    """Return what two sentences have in common that say the same of two files: no paths, names or numbers."""
    statement = re.split(r"[;(]| expected ", sentence.partition(": ")[2] or sentence)[0]
    return re.sub(r"""'[^']*'|"[^"]*"|\S*[/\\]\S*|\S*\d\S*""", "#", statement)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
