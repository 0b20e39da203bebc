"""The run folder: which one a training uses, whose it is while it lives, and when it becomes the latest."""

import datetime
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only

from callbacks.launched_ranks import chosen_by_rank_0

VARIABLE = "GROUND_GLASS_RUN"  # processes that DDP starts again inherit the folder that the first one chose
DIVERGED = "diverged.txt"  # says why a run ended that would end there again
OWNER = ".run"  # holds the run's id, and the lock of the process that writes the folder


@dataclass(frozen=True)
class Run:
    """A run folder that this process may write to.

    Attributes:
        folder: runs/<experiment>/<timestamp>.
        lock: Keeps other processes away for as long as it is open; None in ranks other than the first.
        resumed: Whether it was there before.
    """

    folder: Path
    lock: IO[str] | None
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


def open_run(runs: str | Path, experiment: str, config: str, *, fresh: bool) -> Run:
    """The newest unfinished run of the same configuration that no process works on, or a new one with config.yaml.

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

    folder = chosen_by_rank_0(choose)
    return _open[-1] if _open else Run(Path(folder), None)


def close_run() -> None:
    """Let others have the folder, and this process make another run."""
    while _open:
        lock = _open.pop().lock
        assert lock is not None
        lock.close()
        os.environ.pop(VARIABLE, None)


def _unfinished(home: Path, config: str) -> Run | None:
    folders = [path.parent for path in home.glob(f"*/{OWNER}") if not path.parent.is_symlink()]
    diverged = []
    for folder in sorted(folders, reverse=True):
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
        raise ValueError(f"{diverged[0]} has the same configuration and diverged: {reason}; FRESH=1 tries it again")
    return None


def _new(home: Path, config: str) -> Run:
    """A folder with its id and config.yaml, whole or not at all."""
    home.mkdir(parents=True, exist_ok=True)
    while True:
        passing = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
        passing.chmod(0o755)
        (passing / OWNER).write_text(secrets.token_hex(4))
        (passing / "config.yaml").write_text(config)
        lock = _lock(passing)
        folder = home / datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
        try:
            passing.rename(folder)
        except OSError:  # another process made one in this very millisecond
            shutil.rmtree(passing)
            continue
        return Run(folder, lock)


def _finished(folder: Path) -> bool:
    """Tested, and marked as the latest then or since: a kill between the two leaves a run to finish."""
    latest = folder.parent / "latest"
    marked = latest.is_symlink() and latest.readlink().name >= folder.name
    return marked and (folder / "metrics.json").is_file()


def _same(folder: Path, config: str) -> bool:
    return bool(yaml.safe_load((folder / "config.yaml").read_text()) == yaml.safe_load(config))


def _lock(folder: Path) -> IO[str] | None:
    """The folder's lock, or None where another process has it."""
    file = (folder / OWNER).open("r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    # Loader workers outlive a killed trainer by seconds; the lock that they inherited must not.
    os.register_at_fork(after_in_child=file.close)
    return file


class KeepVerdicts(Callback):
    """Write verdicts.csv into the run folder: which scans of the cohort this run could use, and which not.

    Why not stands in the verdicts.csv of the prepared folder, which names files, and those may bear a patient's name.
    A run that goes on must find the scans that it began with.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        kept, verdicts = self.folder / "verdicts.csv", _without_reasons(Path(trainer.datamodule.verdicts_csv))
        if kept.is_file() and kept.read_text(encoding="utf-8") != verdicts:
            raise ValueError(
                f"{kept} differs from {trainer.datamodule.verdicts_csv}: the cohort has changed since this run began, "
                "so it cannot go on as it would have; start over with FRESH=1"
            )
        kept.write_text(verdicts, encoding="utf-8")


def _without_reasons(verdicts_csv: Path) -> str:
    columns = ["scan_id", "site", "split", "verdict"]
    return pd.read_csv(verdicts_csv, dtype=str, usecols=columns)[columns].to_csv(index=False)


class MarkLatest(Callback):
    """Point runs/<experiment>/latest to this run once it is finished, so that it never names a broken one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        link, new = self.folder.parent / "latest", self.folder.parent / ".latest"
        new.unlink(missing_ok=True)
        new.symlink_to(self.folder.name)
        new.replace(link)
        (self.folder / "previous.ckpt").unlink(missing_ok=True)
