"""What is done to every slice of a batch by itself: on a CPU one after the other, so that each stays in the cache."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

import torch
from torch import Tensor


def each_slice(function: Callable[..., tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
    """`function(*batch)`, which treats every slice alike and by itself.

    A batch of stacks does not fit a CPU's cache: there every pass over it waits for memory, and every result takes new
    pages from the system. So on a CPU each thread takes one slice through all passes and writes it to its place. On
    other devices it is one call.

    Args:
        function: Gives as many rows as it gets. Gradients do not pass.
        batch: Tensors (B, ...), the same B for all.

    Returns:
        Tensors (B, ...); float images are laid out `channels_last`, as the networks want them.
    """
    if batch[0].device.type != "cpu" or len(batch[0]) == 0:
        return function(*batch)
    inference = torch.is_inference_mode_enabled()  # known to each thread by itself
    first = function(*(tensor[:1] for tensor in batch))
    results = tuple(_room(part, len(batch[0])) for part in first)

    def put(row: int, parts: tuple[Tensor, ...]) -> None:
        for result, part in zip(results, parts, strict=True):
            result[row : row + 1] = part

    def work(row: int) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(False):
            put(row, function(*(tensor[row : row + 1] for tensor in batch)))

    put(0, first)
    threads, rows = torch.get_num_threads(), range(1, len(batch[0]))
    list(map(work, rows) if threads == 1 else _pool(threads).map(work, rows))
    return results


def _room(part: Tensor, rows: int) -> Tensor:
    layout = torch.channels_last if part.dim() == 4 and part.is_floating_point() else torch.contiguous_format
    return torch.empty((rows, *part.shape[1:]), dtype=part.dtype, memory_format=layout)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """So many threads, each of which computes alone."""
    started = Barrier(threads + 1)

    def alone() -> None:
        torch.get_num_threads()  # a thread takes over the default once, at its first question, and would do so later
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, "slices", alone)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)  # a thread that sets its own number sets the default of all that come later
    return pool
