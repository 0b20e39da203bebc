"""Measurement shared by all benchmarks: repeats that take turns, and one JSON line."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time functions in turns and return the seconds of every call, by name.

    In turns, other load of the machine slows all of them alike. A first call of each is not counted: caches, compilers
    and pools start then.

    Args:
        functions: The functions to time.
        repeats: Counted calls of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def median(values: list[float]) -> float:
    """Return the median of the repeats."""
    return statistics.median(values)


def peak_mb() -> float:
    """Return the largest resident size of this process so far, in MB (Linux)."""
    # ru_maxrss would be that of the process that started this one, where that was larger.
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000


def line(name: str, ours: float, other: float, unit: str, n: int, **details: Any) -> None:
    """Print the one JSON line of a benchmark: `ratio` is ours / other.

    Args:
        name: The claim.
        ours: Our figure.
        other: The figure it is compared with.
        unit: Unit of both.
        n: Counted repeats.
        details: Further figures, such as those of every peer.
    """
    figures = {"name": name, "ours": ours, "other": other, "ratio": ours / other, "unit": unit, "n": n}
    print(json.dumps(figures | details))
