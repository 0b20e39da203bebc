"""A run by the name that a user gives it: its folder, or its experiment."""

from pathlib import Path


def find_run(name: str, runs: Path) -> Path:
    """The folder of a run, unresolved.

    Args:
        name: A run folder, the folder of an experiment, or the name of an experiment below `runs`; an experiment stands
            for the newest of its runs that finished.
        runs: Folder of all runs.

    Raises:
        ValueError: There is no such run.
    """
    for folder in (Path(name), runs / name):
        if (folder / "latest").is_dir():
            return folder / "latest"
        if (folder / "config.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in runs.glob("*/latest"))
    raise ValueError(
        f"{name!r} is neither a run folder nor an experiment with a finished run in {runs}; "
        f"expected a folder or one of: {', '.join(known) or 'none yet (make train EXP=<experiment>)'}"
    )
