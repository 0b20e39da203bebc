"""Ranks that torchrun or SLURM starts side by side: how they learn what rank 0 chose, before they are a group."""

import os
from collections.abc import Callable
from typing import Any

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed.rendezvous import rendezvous

_stores: list[Any] = []  # rank 0 serves the others for as long as its store lives


def chosen_by_rank_0(choose: Callable[[], str]) -> str:
    """What rank 0 chooses, on every rank; in a process that nothing started beside others, simply that.

    It goes through the store at the address that the launcher named, the one by which the process group forms later.
    """
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect() and (environment := kind()).world_size() > 1:
            url = f"tcp://{environment.main_address}:{environment.main_port}"
            store, rank, _ = next(rendezvous(url, environment.global_rank(), environment.world_size()))
            _stores.append(store)
            # torchrun keeps its store when it starts the ranks again.
            key = f"chosen_by_rank_0/{len(_stores)}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
            if rank == 0:
                store.set(key, choose())
            return str(store.get(key).decode())
    return choose()
