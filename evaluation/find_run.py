"""Runs by the names that a user gives them: their folders, or their experiments."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.run_data import finished_runs
from machine.latest import LATEST, latest_run, through_latest

SWEEPS = "sweeps"


def selected_runs(names: Sequence[str], runs: Path) -> list[Path]:
    """Return the named runs, or all finished ones but the trials of sweeps, which have a report of their own.

    Raises:
        ValueError: There is no such run.
    """
    if names:
        return [find_run(name, runs).resolve() for name in names]
    trials = (runs / SWEEPS).resolve()
    return [folder for folder in finished_runs(runs) if trials not in folder.parents]


def find_run(name: str, runs: Path) -> Path:
    """Return the folder of a run, unresolved.

    Args:
        name: A run folder, the folder of an experiment, or the name of an experiment below `runs`; an experiment stands
            for that of its runs that finished last.
        runs: Folder of all runs.

    Raises:
        ValueError: There is no such run.
    """
    for folder in (through_latest(name), runs / name):
        newest = latest_run(folder)
        if newest is not None:
            return newest
        if (folder / "config.yaml").is_file():
            return folder
    experiments = sorted(path.parent.name for path in runs.glob(f"*/{LATEST}"))
    raise ValueError(
        f"{name!r} is neither a run folder nor an experiment with a finished run in {runs}; "
        f"expected a folder or one of: {', '.join(experiments) or 'none yet (make train EXP=<experiment>)'}"
    )
