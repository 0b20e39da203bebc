"""The run folder: which one a training uses, which process owns it, and when it becomes the latest."""

import errno
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed.rendezvous import rendezvous

from ct.refusal import Refusal
from machine.file_lock import FileLock, try_lock
from machine.latest import mark_latest
from machine.whole_file import whole_folder, write_json

VARIABLE = "GROUND_GLASS_RUN"  # processes that DDP starts again inherit the folder that the first one chose
DIVERGED = "diverged.txt"  # says why a run ended that would end there again
OWNER = ".run"  # holds the run's id, and the lock of the process that writes the folder
STATE = ".state.json"  # its number among the runs of the experiment, and whether it is finished


@dataclass(frozen=True)
class Run:
    """A run folder that this process may write to.

    Attributes:
        folder: runs/<experiment>/<timestamp>; the time is a name and decides nothing, since clocks are set.
        lock: Keeps other processes away for as long as it is open; None in ranks other than the first.
        resumed: Whether it was there before.
    """

    folder: Path
    lock: FileLock | None
    resumed: bool = False

    @property
    def id(self) -> str:
        """Eight characters that name the run for ever, wherever its folder goes."""
        return (self.folder / OWNER).read_text()

    @property
    def checkpoints(self) -> list[Path]:
        """Where training left off, newest first; they need not exist."""
        return [self.folder / "last.ckpt", self.folder / "previous.ckpt"]


_open: list[Run] = []
_stores: list[Any] = []  # rank 0 serves the others for as long as its store lives


def open_run(runs: str | Path, experiment: str, config: str, *, fresh: bool) -> Run:
    """Return the newest unfinished run of the configuration that no process works on, or a new one with config.yaml.

    Args:
        runs: Folder of all runs.
        experiment: Its name.
        config: The resolved configuration, YAML.
        fresh: Never continue a run.

    Raises:
        ValueError: If the same configuration diverged before, and none of its runs is finished or can go on.
    """
    if VARIABLE in os.environ:
        return Run(Path(os.environ[VARIABLE]), None)

    def choose() -> str:
        home = Path(runs) / experiment
        again = not fresh and "WANDB_SWEEP_ID" not in os.environ  # a trial is never another's
        run = (_unfinished(home, config) if again else None) or _new(home, config)
        os.environ[VARIABLE] = str(run.folder)
        _open.append(run)
        return str(run.folder)

    folder = _chosen_by_rank_0(choose)
    return _open[-1] if _open else Run(Path(folder), None)


def _chosen_by_rank_0(choose: Callable[[], str]) -> str:
    """Return what rank 0 chooses, on every rank; in a process that nothing started beside others, simply that.

    torchrun and SLURM start ranks side by side, before they are a group: it goes through the store at the address that
    the launcher named, the one by which the process group forms later.
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


def mark_finished(folder: Path) -> None:
    """Let runs/<experiment>/latest name a run whose results are all written, and note that it is finished."""
    mark_latest(folder)
    write_json(_state(folder) | {"finished": True}, folder / STATE, alone=True)
    (folder / "previous.ckpt").unlink(missing_ok=True)


def close_run() -> None:
    """Give the folder back, so that others may use it and this process make another run."""
    while _open:
        lock = _open.pop().lock
        assert lock is not None
        lock.close()
        os.environ.pop(VARIABLE, None)


def discard_run() -> None:
    """Remove the folder of a run that cannot begin; that of one which would have gone on stays."""
    for run in _open:
        if not run.resumed:
            shutil.rmtree(run.folder)


def _unfinished(home: Path, config: str) -> Run | None:
    folders = sorted(_runs(home), key=lambda folder: (_number(folder), folder.name), reverse=True)
    diverged = []
    for folder in folders:
        if _finished(folder) or not _same(folder, config):
            continue
        if (folder / DIVERGED).is_file():
            diverged.append(folder)
        elif (lock := _lock(folder)) is not None:
            return Run(folder, lock, resumed=True)
        else:
            print(f"{folder} has the same configuration and is still running: this is another run", file=sys.stderr)
    if diverged and not any(_finished(folder) and _same(folder, config) for folder in folders):
        reason = (diverged[0] / DIVERGED).read_text(encoding="utf-8")
        raise Refusal(
            "{folder} has the same configuration and diverged: {reason}; FRESH=1 tries it again",
            folder=diverged[0],
            reason=reason,
        )
    return None


def _new(home: Path, config: str) -> Run:
    """Make a folder with its id and config.yaml, whole or not at all."""
    home.mkdir(parents=True, exist_ok=True)
    moment = datetime.now()
    while True:
        folder = home / moment.strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
        try:
            with whole_folder(folder) as temporary:
                (temporary / OWNER).write_text(secrets.token_hex(4))
                (temporary / "config.yaml").write_text(config)
                number = 1 + max(map(_number, _runs(home)), default=0)
                write_json({"number": number, "finished": False}, temporary / STATE)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another process made a folder in this very millisecond, or the clock went back to it, or stands still.
            moment += timedelta(milliseconds=1)
            continue
        lock = _lock(folder)
        if lock is not None:  # else somebody who looked for a run to go on with was faster
            return Run(folder, lock)


def _runs(home: Path) -> list[Path]:
    """Return the folders of runs, but for parts of folders that are being made."""
    return [path.parent for path in home.glob(f"[!.]*/{OWNER}") if not path.parent.is_symlink()]


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return json.loads(path.read_text()) if path.is_file() else {}


def _number(folder: Path) -> int:
    """Return the number of a run among those of its experiment, which rises; 0 for a run of before there was one."""
    return int(_state(folder).get("number", 0))


def _finished(folder: Path) -> bool:
    """Tell whether a run was tested and marked as the latest: a kill between the two leaves it to be finished."""
    return bool(_state(folder).get("finished", (folder / "metrics.json").is_file()))


def _same(folder: Path, config: str) -> bool:
    return bool(yaml.safe_load((folder / "config.yaml").read_text()) == yaml.safe_load(config))


def _lock(folder: Path) -> FileLock | None:
    """Return the folder's lock, or None where another process has it."""
    lock = try_lock(folder / OWNER)
    if lock is not None:
        lock.keep_from_children()  # loader workers outlive a killed trainer by seconds
    return lock
