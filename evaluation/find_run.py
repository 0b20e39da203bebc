"""A run by the name that a user gives it: its folder, or its experiment."""

from pathlib import Path

from machine.latest import LATEST, latest_run, through_latest


def find_run(name: str, runs: Path) -> Path:
    """The folder of a run, unresolved.

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
    known = sorted(path.parent.name for path in runs.glob(f"*/{LATEST}"))
    raise ValueError(
        f"{name!r} is neither a run folder nor an experiment with a finished run in {runs}; "
        f"expected a folder or one of: {', '.join(known) or 'none yet (make train EXP=<experiment>)'}"
    )
