"""How the benchmarks measure: repeats that take turns, and one JSON line."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call, by name.

    The functions take turns, so what else the machine does meanwhile slows all of them alike. Each is called once
    before, which is not counted: caches, compilers and pools start then.

    Args:
        functions: What to time.
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
    """Median of the repeats."""
    return statistics.median(values)


def peak_mb() -> float:
    """Largest resident size of this process so far, in MB (Linux)."""
    # ru_maxrss would be that of the process that started this one, where that was larger.
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000


def line(name: str, ours: float, other: float, unit: str, n: int, **more: Any) -> None:
    """Print the one JSON line of a benchmark: `ratio` is ours / other.

    Args:
        name: The claim.
        ours: Our figure.
        other: The figure it is compared with.
        unit: Of both.
        n: Counted repeats.
        more: What else a reader needs, such as every peer's figure.
    """
    print(json.dumps({"name": name, "ours": ours, "other": other, "ratio": ours / other, "unit": unit, "n": n} | more))
