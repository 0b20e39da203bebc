"""The E-step gives a slice the same label whoever does it; no process group is there, so nobody can wait for one."""

from pathlib import Path

import pytest
import torch
from e_step import labels_of_rank

from datamodules.infection_data import InfectionData
from inference.load import load_module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world_size", "batch_size", "workers"), [(1, 5, 0), (1, 1, 2), (2, 32, 2), (3, 32, 0), (3, 7, 2)]
)
def test_labels_depend_on_the_weights_alone(
    cohort: Path, work: Path, em_run: Path, world_size: int, batch_size: int, workers: int
) -> None:
    module = load_module(em_run / "best.ckpt")
    data = InfectionData(
        str(cohort), str(work / "prepared"), 32, batch_size=batch_size, weakly_labelled=True, num_workers=workers
    )
    alone = labels_of_rank(module, data, 0, 1)
    slices = len(data.train_indices(0))
    assert alone.any(torch.arange(32)).sum() > 3
    count = 0
    for rank in range(world_size):
        mine = labels_of_rank(module, data, rank, world_size, batch_size)
        rows = torch.from_numpy(data.train_indices(0)).unique()
        assert torch.equal(mine.get(rows), alone.get(rows))
        count += len(rows)
    assert count == slices // world_size * world_size
