"""Runs and checkpoints that a visitor can pick."""

from datetime import datetime
from pathlib import Path

from evaluation.run_data import finished_runs

TIMESTAMP, MINUTES = "%Y-%m-%d_%H-%M-%S", "%Y-%m-%d %H:%M"
TIMESTAMP_LETTERS = 19  # milliseconds follow


def experiment_place(run: Path, runs: Path) -> str:
    """Where the experiment of a run lies below the folder of all runs.

    Args:
        run: A run folder, resolved.
        runs: Folder of all runs.
    """
    return run.parent.relative_to(runs.resolve()).as_posix()


def run_label(place: str, run: Path) -> str:
    """A run as pages call it: its experiment, the study or sweep that it belongs to, and when it began.

    Args:
        place: Its `experiment_place`.
        run: Its folder.
    """
    *above, experiment = place.split("/")
    group = f" ({', '.join(above)})" if above else ""
    try:
        began = datetime.strptime(run.name[:TIMESTAMP_LETTERS], TIMESTAMP).strftime(MINUTES)
    except ValueError:  # a folder that somebody renamed
        began = run.name
    return f"{experiment}{group}, run of {began}"


def checkpoints(runs: Path) -> dict[str, Path]:
    """best.ckpt of the newest finished run of every experiment below a folder, by the experiment's place in it.

    Args:
        runs: Folder of all runs.
    """
    places = newest_runs(runs)
    return {name: run / "best.ckpt" for name, run in places.items() if (run / "best.ckpt").is_file()}


def newest_runs(runs: Path) -> dict[str, Path]:
    """The newest finished run of every experiment, by its experiment's place; newer ones first.

    Those right below the folder come before those of studies and sweeps.

    Args:
        runs: Folder of all runs.
    """
    # Not by the folders' names: these are local time, which is set back now and then.
    by_time = sorted(finished_runs(runs), key=_begun_ns, reverse=True)
    found = {experiment_place(run, runs): run for run in by_time}
    return {name: found[name] for name in sorted(found, key=lambda name: name.count("/"))}


def _begun_ns(run: Path) -> int:
    return (run / "config.yaml").stat().st_mtime_ns  # written once; a test of the run writes other files again
