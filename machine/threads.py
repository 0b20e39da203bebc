"""The time for which OpenMP's threads spin while they wait; to be imported before torch, which reads it once.

By default libgomp's threads spin for milliseconds. Alone on a machine that is fastest; beside other processes each of
them spins away the time of the very thread that it waits for. How long they spin does not touch what they compute.
benchmarks/threads.py measures it (docs/performance.md).
"""

import os
from collections.abc import MutableMapping

from machine.cores import usable_cores

POLICY, SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"  # what libgomp reads
# The fewest that cost a training nothing on an idle machine.
FEW_SPINS = 10_000
# Processes that are ready to run, per core. A training that just ended, such as stage 1, makes it about 1.
BUSY = 1.5


def choose_spinning(environment: MutableMapping[str, str], load: float, cores: int) -> None:
    """Let threads sleep at once on a busy machine, and after a short while on any other; a user's own choice stands.

    Args:
        environment: Of this process, before torch is imported.
        load: Processes that were ready to run, a mean over the last minute.
        cores: Cores that this process may use.
    """
    if POLICY in environment or SPINS in environment:
        return
    if load > BUSY * cores:
        environment[POLICY] = "passive"
    else:
        environment[SPINS] = str(FEW_SPINS)


def load_of_last_minute() -> float:
    """Return the mean number of processes that were ready to run; 0, as of an idle machine, where nothing tells it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none, and a container may hide it
        return 0.0


choose_spinning(os.environ, load_of_last_minute(), usable_cores())
