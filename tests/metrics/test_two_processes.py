"""Two real processes; apart from the other tests, since each process imports this file and should import little."""

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from metrics.hu_histogram import HuHistogram
from metrics.scan_confusion import ScanConfusion

SLICES = 7


def tables(batches: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Both accumulators after these batches of slices."""
    rng = torch.Generator().manual_seed(0)
    prediction, where = (torch.rand(SLICES, 13, 9, generator=rng) < 0.6 for _ in range(2))
    target = torch.randint(-1, 2, (SLICES, 13, 9), generator=rng)
    hu = torch.randint(-1100, 300, (SLICES, 13, 9), generator=rng)
    confusion, histogram = ScanConfusion(SLICES), HuHistogram(SLICES)
    for batch in batches:
        i = torch.tensor(batch)
        confusion.update(prediction[i], target[i], where[i], i)
        histogram.update(hu[i], target[i], prediction[i], where[i], i)
    return confusion.compute(), histogram.compute()


def _rank(rank: int, port: int, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    # 7 slices on 2 ranks, one rank padded with a duplicate; the ranks run 2 and 3 batches.
    result = tables([[[0, 2], [4, 6]], [[1], [3, 5], [0]]][rank])
    torch.save(result, Path(out) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_unequal_batches_and_a_duplicate_give_the_tables_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server imports the slow packages once for both ranks.
    multiprocessing.set_forkserver_preload(["metrics.hu_histogram"])
    arguments = (port, str(tmp_path))
    start_processes(_rank, arguments, nprocs=2, start_method="forkserver")
    alone = tables([list(range(SLICES))])
    assert all(table.sum((1, 2)).min() > 0 for table in alone)
    for rank in range(2):
        together = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(together[0], alone[0])
        assert torch.equal(together[1], alone[1])
