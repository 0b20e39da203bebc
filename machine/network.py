"""W&B where the network may fail: what cannot be sent stays on disk, and nothing waits long for it or fails."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import wandb

Started = TypeVar("Started")

START_TIMEOUT_S = 30
# Figures and pictures take seconds; a large artifact over a slow line may have to be sent again by `wandb sync`.
FINISH_TIMEOUT_S = 300


def is_trial() -> bool:
    """Tell whether an agent of W&B started this process: its figures are for the server, without which it fails."""
    return "WANDB_SWEEP_ID" in os.environ


def bounds() -> dict[str, Any]:
    """Return settings of W&B that bound how long a run waits for the server when it starts and when it ends."""
    at_the_end = {"finish_timeout": FINISH_TIMEOUT_S, "finish_timeout_raises": True}
    return {"init_timeout": START_TIMEOUT_S} | ({} if is_trial() else at_the_end)


def started(online: Callable[[], Started], offline: Callable[[], Started], folder: Path) -> Started:
    """Start a run online, or offline with one sentence where the server does not take it.

    Args:
        online: Starts it; with `bounds` among its settings, it fails within `START_TIMEOUT_S`.
        offline: Starts it offline.
        folder: Its directory, in which W&B makes `wandb`.

    Raises:
        ValueError: The server cannot be reached from an agent's trial.
    """
    before = set(folder.glob("wandb/run-*"))
    try:
        return online()
    except Exception as error:  # whatever W&B raises: a wrong key, no route, an answer that is none
        reason = _first_line(error)
        if is_trial():
            raise ValueError(
                f"this trial of a sweep cannot reach W&B ({reason}); mend the network or the key"
            ) from error
    wandb.teardown()  # its service still tries, and holds the run's id
    for empty in set(folder.glob("wandb/run-*")) - before:
        shutil.rmtree(empty)  # sent later, it would take the place of what is recorded offline
    print(
        f"W&B did not take this run within {START_TIMEOUT_S} s ({reason}): it is recorded offline for `wandb sync`, in "
        f"{folder / 'wandb'}; WANDB_MODE=offline saves the wait",
        file=sys.stderr,
    )
    return offline()


@contextmanager
def unhindered() -> Iterator[None]:
    """Go on with one sentence where something cannot be sent to a run that is online."""
    try:
        yield
    except Exception as error:
        if wandb.run is None or wandb.run.offline or is_trial():
            raise
        print(f"W&B did not take a part of this run ({_first_line(error)}); the run folder has all", file=sys.stderr)


def finish() -> None:
    """End the run of this process; what could not be sent within `FINISH_TIMEOUT_S` stays on disk, with a sentence."""
    folder = Path(wandb.run.dir).parent if wandb.run else None
    try:
        wandb.finish()
    except TimeoutError:
        print(
            f"W&B did not take all of this run within {FINISH_TIMEOUT_S} s; send the rest by `wandb sync {folder}`",
            file=sys.stderr,
        )
    except ConnectionError:
        # A batch system sends its signals to every process of a job, and W&B's own does not outlive SIGTERM.
        print(f"W&B's process was ended before this one; what it had recorded is in {folder}", file=sys.stderr)
        with suppress(Exception):
            wandb.teardown()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
