"""The interface of all engines: work on named items, results as they are done, closing cancels the rest."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ct.refusal import Sentence, Word

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """The end of an item's process without a result.

    Attributes:
        how: For example "killed by SIGKILL" or "ended with exit code 3".
    """

    how: Word


@dataclass(frozen=True)
class NotBegun:
    """The answer of a process that cannot read what it was handed, for example because a module or a model is missing.

    Attributes:
        cause: Why.
    """

    cause: Sentence


class Engine(Protocol):
    """A way to work on items."""

    def run(self, items: Mapping[str, Item], work: Callable[[Item], Result]) -> Generator[tuple[str, Result | Died]]:
        """Do the work of every item, each apart from the others where the engine can.

        Args:
            items: What to work on, by name.
            work: A function of one item that raises nothing; another process may import it.

        Yields:
            Each name with its result, as they are done. Closing the generator ends what still runs.
        """


class InTurn:
    """Engine that works in this process, one item after the other."""

    def run(self, items: Mapping[str, Item], work: Callable[[Item], Result]) -> Generator[tuple[str, Result | Died]]:
        """Do the work; see `Engine.run`."""
        for name, item in items.items():
            yield name, work(item)


def work_on(
    items: Mapping[str, Item], work: Callable[[Item], Result], engine: Engine
) -> Generator[tuple[str, Result | Died]]:
    """Do the work of every item; one whose process died is tried once more, alone, when all others are done.

    So what becomes of an item does not depend on what ran beside it, and memory that two need at once is no fault of
    either.

    Yields:
        Each name with its result, as they are done; `Died` only where the process died both times.
    """
    dead = []
    for name, result in engine.run(items, work):
        if isinstance(result, Died):
            dead.append(name)
        else:
            yield name, result
    for name in dead:
        yield from engine.run({name: items[name]}, work)
