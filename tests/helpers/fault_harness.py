"""Trainings in processes of their own that are killed at a chosen place, as tests of resuming need them."""

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from offline_run import read_offline_run
from torch import Tensor

from batch import SliceBatch
from lightning_modules.any_label import AnyLabelModule
from lightning_modules.base import SegmentationModule
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.infection import InfectionModule

# A server that has imported everything forks each training: a start costs no import, and the processes are real.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fault_harness", "train"])
# What a process that trained leaves to those it starts: its run folder, and its W&B service, which takes a run whose
# process was killed for one that is still written.
OF_A_PROCESS = ("GROUND_GLASS_RUN", "WANDB_SERVICE")
# Differ from run to run: measured times.
CLOCK = {"e_step/seconds", "train/waiting_share"}


def train(args: list[str], kill: str = "", journal: Path | None = None) -> int:
    """Run `train.py fit` with arguments in a new process.

    Args:
        args: Its arguments.
        kill: Where the process gets SIGKILL: `step 4` before the step of that number, `rename last.ckpt 2` when a file
            is about to get this name for the second time, `call test_step 1` at a method's first call; `term 4` is
            SIGTERM in the step of that number.
        journal: A file that gets a line for every step: its number, the slices, and their labels.

    Returns:
        The exit code, -9 for a killed one.
    """
    process = CONTEXT.Process(target=_train, args=(["fit", *args], kill, journal))
    process.start()
    process.join(900)
    assert process.exitcode is not None, "the training hangs"
    return process.exitcode


def _train(args: list[str], kill: str, journal: Path | None) -> None:
    from train import main  # the harness is imported by what starts the server, train by the server

    torch.set_num_threads(1)
    os.environ["WANDB_MODE"], os.environ["WANDB_SILENT"] = "offline", "true"
    for name in OF_A_PROCESS:
        os.environ.pop(name, None)
    if journal:
        _write_journal(journal)
    if kill:
        _arm(*kill.split())
    main(args)


def _arm(what: str, name: str, count: str = "1") -> None:
    if what == "rename":
        _trap(Path, "replace", lambda path, target: Path(target).name == name, int(count))
    elif what in ("step", "term"):
        number = signal.SIGTERM if what == "term" else signal.SIGKILL
        for module in (InfectionModule, ConsolidationModule, AnyLabelModule):
            _trap(module, "training_step", lambda self, *args: self.global_step == int(name), 1, number)
    else:
        for owner in (SegmentationModule, ConsolidationModule, AnyLabelModule):
            if name in vars(owner):
                _trap(owner, name, lambda *args: True, int(count))


def _trap(owner: Any, name: str, here: Callable[..., bool], count: int, number: int = signal.SIGKILL) -> None:
    original, seen = getattr(owner, name), [0]

    def trapped(*args: Any, **kwargs: Any) -> Any:
        seen[0] += here(*args)
        if seen[0] == count:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, trapped)


def _write_journal(path: Path) -> None:
    original = ConsolidationModule.training_step

    def written(self: ConsolidationModule, batch: SliceBatch, batch_idx: int) -> Tensor:
        labels = hashlib.sha256(batch["target"].numpy().tobytes()).hexdigest()
        with path.open("a") as file:
            file.write(f"{self.global_step} {batch['slice_index'].tolist()} {labels}\n")
        return original(self, batch, batch_idx)

    ConsolidationModule.training_step = written  # type: ignore[method-assign]


def only_run(home: Path) -> Path:
    """The one run folder of an experiment."""
    (folder,) = (path for path in home.iterdir() if not path.is_symlink())
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    """Two finished runs have the same weights, optimizer, figures and history, bit for bit."""
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (torch.load(run / name, weights_only=True) for run in (one, other))
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert_equal(first[key], second[key], f"{name} {key}")
    for name in ("metrics.json", "scans.csv"):
        assert (one / name).read_text() == (other / name).read_text()
    first, second = (pd.read_csv(run / "metrics.csv").drop(columns=CLOCK, errors="ignore") for run in (one, other))
    pd.testing.assert_frame_equal(first, second)
    runs = [read_offline_run(run) for run in (one, other)]
    assert len(runs[0].history) > 3
    assert numbers(runs[0].history) == numbers(runs[1].history)


def numbers(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The rows of a W&B history without pictures, tables and clocks."""
    logged = [row for row in history if not any("." in key for key in row)]
    return [
        {key: value for key, value in row.items() if key not in CLOCK and not key.startswith("_")} for row in logged
    ]


def assert_equal(one: Any, other: Any, where: str) -> None:
    """Two nested structures of tensors and values are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where} {index}")
    else:
        assert one == other, where
