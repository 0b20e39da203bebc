"""`latest` of an experiment: the run that finished last, named by a link, or by a file where there are no links."""

import sys
from functools import cache
from pathlib import Path

from machine.whole_file import whole_file

LATEST = "latest"


def mark_latest(run: Path) -> None:
    """Let `latest` beside a run folder name it, in one step.

    Where the file system has no symbolic links (exFAT, SMB, some FUSE), `latest` is a file with the run's name.

    Raises:
        OSError: Neither can be written.
    """
    with whole_file(run.with_name(LATEST)) as temporary:
        temporary.unlink()
        try:
            temporary.symlink_to(run.name)
        except OSError as error:
            temporary.write_text(f"{run.name}\n", encoding="utf-8")
            _say_no_links(run.parent, error.strerror or type(error).__name__)


@cache
def _say_no_links(home: Path, reason: str) -> None:
    print(f"{home} has no symbolic links ({reason}): the file {LATEST} there names the run", file=sys.stderr)


def through_latest(path: str | Path) -> Path:
    """Follow a file `latest` in a path, as the system itself follows a link of that name.

    Args:
        path: For example runs/unet_em/latest/best.ckpt.

    Returns:
        For example runs/unet_em/2026-01-31_12-00-00-000/best.ckpt; the path itself where `latest` is no file.
    """
    path = Path(path)
    for place in (path, *path.parents):
        if place.name == LATEST and place.is_file():
            return place.with_name(place.read_text(encoding="utf-8").strip()) / path.relative_to(place)
    return path


def followed(argument: str) -> str:
    """Return an option of a command line, such as --ckpt=runs/x/latest/best.ckpt, with `latest` followed."""
    name, sign, value = argument.rpartition("=")
    path = through_latest(value)
    return argument if path == Path(value) else f"{name}{sign}{path}"


def latest_run(home: Path) -> Path | None:
    """Return the run folder that `latest` in an experiment's folder names, under its own name; None without any."""
    place = home / LATEST
    run = home / place.readlink() if place.is_symlink() else through_latest(place)
    return run if run.is_dir() else None
