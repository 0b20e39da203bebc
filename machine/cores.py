"""The cores that this process may use, on systems that know a limit for a process and on those that do not."""

import os


def usable_cores() -> int:
    """Return how many cores this process may use; all of the machine's where the system sets no limit of its own.

    Linux alone tells what a batch system or a container leaves to a process (`sched_getaffinity`).
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1
