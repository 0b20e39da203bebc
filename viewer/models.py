"""Runs and checkpoints that a visitor can pick."""

from datetime import datetime
from pathlib import Path

from evaluation.run_data import finished_runs
from inference.model_names import DEFAULT, DEFAULT_MODEL

TIMESTAMP, MINUTES = "%Y-%m-%d_%H-%M-%S", "%Y-%m-%d %H:%M"
TIMESTAMP_LETTERS = 19  # milliseconds follow


def experiment_place(run: Path, runs: Path) -> str:
    """Return the path of a run's experiment below the folder of all runs.

    Args:
        run: A run folder, resolved.
        runs: Folder of all runs.
    """
    return run.parent.relative_to(runs.resolve()).as_posix()


def run_label(place: str, run: Path) -> str:
    """Return the label of a run: its experiment, its study or sweep, and when it began.

    Args:
        place: Its `experiment_place`.
        run: Its folder.
    """
    if place == DEFAULT:
        return "the default model, trained on synthetic scans"
    *above, experiment = place.split("/")
    group = f" ({', '.join(above)})" if above else ""
    try:
        began = datetime.strptime(run.name[:TIMESTAMP_LETTERS], TIMESTAMP).strftime(MINUTES)
    except ValueError:  # a renamed folder
        began = run.name
    return f"{experiment}{group}, run of {began}"


def checkpoints(runs: Path) -> dict[str, Path]:
    """Return best.ckpt of every experiment's newest finished run, by `experiment_place`, and the default model.

    Args:
        runs: Folder of all runs.
    """
    newest = newest_runs(runs)
    own = {place: run / "best.ckpt" for place, run in newest.items() if (run / "best.ckpt").is_file()}
    return own | {DEFAULT: DEFAULT_MODEL}


def newest_runs(runs: Path) -> dict[str, Path]:
    """Return the newest finished run of every experiment, by its `experiment_place`; newer ones first.

    Experiments directly below the folder come before those of studies and sweeps.

    Args:
        runs: Folder of all runs.
    """
    # Not by the folders' names, which are local time and may go backwards.
    by_time = sorted(finished_runs(runs), key=_begun_ns, reverse=True)
    newest = {experiment_place(run, runs): run for run in by_time}
    return {place: newest[place] for place in sorted(newest, key=lambda place: place.count("/"))}


def _begun_ns(run: Path) -> int:
    return (run / "config.yaml").stat().st_mtime_ns  # written once; a test of the run writes other files again
