"""Tables of several real processes, merged into those of one."""

import multiprocessing
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metrics.hu_histogram import HuHistogram
from metrics.reliability import SliceSums
from metrics.scan_confusion import ScanConfusion

SLICES = 7


def tables_of(rank: int, ranks: int) -> dict[str, Tensor]:
    """Enter the slices of a rank, of which two ranks have some in common, and merge."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, SLICES, 5, 5, generator=generator) > 0.5
    hu = torch.randint(-900, 100, (SLICES, 5, 5), generator=generator)
    sums = torch.randn(SLICES, 3, generator=generator).double()  # negative ones, too
    rows = torch.arange(SLICES)[[row % ranks == rank or row == 0 for row in range(SLICES)]]
    everywhere = torch.ones(SLICES, 5, 5, dtype=torch.bool)
    confusion, histogram, of_slices = ScanConfusion(SLICES), HuHistogram(SLICES), SliceSums(SLICES, 3)
    confusion.update(prediction[rows], target[rows], everywhere[rows], rows)
    histogram.update(hu[rows], target[rows], prediction[rows], everywhere[rows], rows)
    of_slices.update(sums[rows], rows)
    return {"confusion": confusion.compute(), "histogram": histogram.compute(), "sums": of_slices.compute()}


def work(rank: int, ranks: int, port: int, out: Path) -> None:
    store = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    torch.save(tables_of(rank, ranks), out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3])
def test_merged_tables_are_those_of_one_process(ranks: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, ranks, port, tmp_path)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * ranks
    alone = tables_of(0, 1)
    assert alone["sums"].min() < 0 < alone["confusion"].sum()
    for rank in range(ranks):
        merged = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert all(torch.equal(merged[name], alone[name]) for name in alone)
