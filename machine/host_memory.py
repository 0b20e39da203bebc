"""The allocator's settings: freed memory stays with the process, for the next step or scan."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
DEFAULTS = {M_MMAP_MAX: 65_536, M_TRIM_THRESHOLD: 128 * 1024}


def keep_freed_memory(keep: bool = True) -> None:
    """Tell glibc to keep freed memory; on other systems nothing happens.

    By default every tensor above 32 MB is mapped anew and given back when it is freed, and the system clears each of
    its pages again: a third of a training step on a CPU, a seventh of a new scan. The price is that what was needed
    once stays taken.

    Args:
        keep: False returns to glibc's defaults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in (KEEPING if keep else DEFAULTS).items():
            mallopt(parameter, value)
