"""Several real processes that run train.py together over gloo, as several GPUs would."""

import multiprocessing
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_only

# A server that has imported everything forks each rank: a start costs no import, and the processes are real.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ranks", "train"])
TIMEOUT_S = 400


@dataclass
class Command:
    """A command of train.py.

    Attributes:
        args: Its arguments.
        run: The run folder of a fit, the same for every rank.
        environment: Further variables.
    """

    args: list[str]
    run: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


def run_ranks(world_size: int, commands: list[Command], first_ends_with: int = 0) -> None:
    """Run commands of train.py one after the other, each in `world_size` processes.

    All must end well, but the first rank with the exit code that is given.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for command in commands:
        if command.run is not None:  # as the first rank does for those that it starts
            command.run.mkdir(parents=True)
            (command.run / ".run").write_text("0a1b2c3d")
    more = [f"--trainer.devices={world_size}", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    ranks = [CONTEXT.Process(target=_rank, args=(rank, port, commands, more)) for rank in range(world_size)]
    for process in ranks:
        process.start()
    try:
        _all_end(ranks, [first_ends_with] + [0] * (world_size - 1))
    finally:
        for process in ranks:
            process.kill()


def _all_end(ranks: Sequence[BaseProcess], codes: list[int]) -> None:
    for rank, (process, code) in enumerate(zip(ranks, codes, strict=True)):
        process.join(TIMEOUT_S)
        assert process.exitcode == code, f"rank {rank}: {process.exitcode} (None: it hangs)"


def _rank(rank: int, port: int, commands: list[Command], more: list[str]) -> None:
    from train import main  # the tests import this module, the server imports train

    torch.set_num_threads(1)
    rank_zero_only.rank = rank  # type: ignore[attr-defined]  # Lightning keeps it on the function
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    for command in commands:
        os.environ.pop("GROUND_GLASS_RUN", None)
        os.environ |= command.environment | ({"GROUND_GLASS_RUN": str(command.run)} if command.run else {})
        main([*command.args, *more])
