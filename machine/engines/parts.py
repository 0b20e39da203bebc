"""Shares of a list for processes that know nothing of each other, and gathering what they leave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ct.refusal import Refusal
from machine.engines.engine import Item
from machine.file_lock import FileLock, locked
from machine.whole_file import whole_file

PARTS, LOCK = ".parts", ".lock"
MAX_NAMED = 5


@dataclass(frozen=True)
class Part:
    """One of n shares, for example of a job array of a cluster.

    Attributes:
        number: From 1 on.
        of: n.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "3/10".

        Raises:
            ValueError: It is something else.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise Refusal("the part is {text!r}; expected i/n with i from 1 to n, for example 3/10", text=text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Return it as the command line has it."""
        return f"{self.number}/{self.of}"

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return every n-th item, beginning with the i-th: the same whenever and wherever it is asked."""
        return list(items[self.number - 1 :: self.of])

    def record_in(self, folder: Path) -> Path:
        """Return the file of its results."""
        return folder / PARTS / f"{self.number}-of-{self.of}.json"


def alone_in(folder: Path) -> AbstractContextManager[FileLock]:
    """Hold a folder for a moment: no command for all is at work there, and no part begins; parts may be at work."""
    return locked(folder / LOCK, f"another command is still at work in {folder}; waiting for it to end")


@contextmanager
def hold_part(folder: Path, part: Part) -> Iterator[None]:
    """Hold a part of a folder's work: other parts may run beside it, the same one and a command for all may not."""
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    lock = folder / PARTS / f"{part.number}-of-{part.of}.lock"
    with ExitStack() as stack:
        with alone_in(folder):
            stack.enter_context(locked(lock, f"part {part} is still at work in {folder}; waiting for it to end"))
        yield


@contextmanager
def hold_all(folder: Path) -> Iterator[None]:
    """Hold all of a folder's work: no part of it runs meanwhile, and no other command for all."""
    with alone_in(folder):
        # A part that has ended cannot begin again before this one has: it would have to hold the folder for a moment.
        for lock in sorted((folder / PARTS).glob("*.lock")):
            with locked(lock, f"a part is still at work in {folder}; waiting for it to end"):
                pass
        yield


def write_part(folder: Path, part: Part, subject: str, results: Mapping[str, Any]) -> None:
    """Write what became of each item of a part.

    Args:
        folder: Of the work.
        part: The part.
        subject: What the work was on, in any words that change with it.
        results: By name of the item, as JSON.
    """
    with whole_file(part.record_in(folder), private=True) as temporary:
        temporary.write_text(json.dumps({"subject": subject, "results": dict(results)}), encoding="utf-8")


def forget_part(folder: Path, part: Part) -> None:
    """Take away what an earlier run of a part left, so that nobody takes it for this one's."""
    part.record_in(folder).unlink(missing_ok=True)


def gather_parts(folder: Path, subject: str, names: Sequence[str]) -> dict[str, Any]:
    """Return what all parts left, by name.

    Args:
        folder: Of the work.
        subject: As the parts had it.
        names: The items of all parts.

    Raises:
        ValueError: Parts are missing, not finished, or were on something else.
    """
    files = sorted((folder / PARTS).glob("*-of-*.json"), key=lambda file: file.stat().st_mtime_ns)
    results: dict[str, Any] = {}
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["subject"] != subject:
            raise Refusal(
                "{file}: this part was of another list of scans or of other settings; run the parts again as they are "
                "now, or remove that file",
                file=file,
            )
        results |= record["results"]
    missing = [name for name in names if name not in results]
    if missing:
        raise Refusal(
            "{folder}: {count} of {all} scans have no result yet, since {parts}; run what is missing and gather again",
            folder=folder,
            count=len(missing),
            all=len(names),
            parts=_missing_parts(folder),
        )
    return {name: results[name] for name in names}


def _missing_parts(folder: Path) -> str:
    """Say which parts left no results."""
    began = [re.fullmatch(r"(\d+)-of-(\d+)", file.stem) for file in (folder / PARTS).glob("*-of-*.*")]
    counts = sorted({int(match[2]) for match in began if match})
    if not counts:
        return "no part was run (--part i/n)"
    parts = [Part(number, of) for of in counts for number in range(1, of + 1)]
    missing = [str(part) for part in parts if not part.record_in(folder).is_file()]
    more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
    named = ", ".join(missing[:MAX_NAMED])
    return f"part {named}{more} did not finish" if missing else "the list has grown since"
