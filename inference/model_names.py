"""Models by the names that a user gives them: files, folders, several in one text, or "default"."""

import glob
import shlex
from collections.abc import Sequence
from pathlib import Path

from machine.latest import through_latest
from machine.package import PROJECT

DEFAULT, BEST = "default", "best.ckpt"
DEFAULT_MODEL = PROJECT / "models" / "default" / BEST
OWN_MODULES = "modules of your own that a checkpoint's network or prior may come from; they are imported, and so run"
CHECKPOINTS = (
    "a run, its best.ckpt, or a folder that ground-glass export wrote; several make an ensemble, also in one text with "
    "blanks between them"
)


def checkpoints_in(texts: Sequence[str]) -> list[str]:
    """Return the paths in texts: a text is one path if that file exists, else it is split as a shell splits words.

    So `a b/best.ckpt` is one path where that file exists, and else the two paths `a` and `b/best.ckpt`.
    """
    words: list[str] = []
    for text in texts:
        try:
            words += [text] if text and through_latest(text).exists() else shlex.split(text)
        except ValueError:  # a quotation mark without its other half is part of a name
            words.append(text)
    paths = [[word] if through_latest(word).exists() else sorted(glob.glob(word)) or [word] for word in words]
    return [path for matches in paths for path in matches]


def place_of(model: str | Path) -> Path:
    """Return the file or folder of a model.

    Args:
        model: A best.ckpt, a run folder that holds one, a folder that `ground-glass export` wrote, or "default": the
            one that comes along, unless a file has that name.
    """
    path = through_latest(model)
    if model == DEFAULT and not path.exists():
        return DEFAULT_MODEL
    return path / BEST if (path / BEST).is_file() else path


def folder_of(place: Path) -> Path:
    """Return the folder in which a model's calibration lies: the model itself, or the one around its file."""
    return place if place.is_dir() else place.parent
