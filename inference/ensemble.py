"""An ensemble of checkpoints as one module, for the test of train.py, and the list of its members."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ct.refusal import Refusal
from inference.load import load_module
from lightning_modules.base import SegmentationModule
from lightning_modules.ensemble import averaged
from machine.latest import through_latest
from machine.whole_file import write_json
from training.weights import identity

MEMBERS = "members.json"


def load_ensemble(checkpoints: Sequence[str], flips: bool, modules: Sequence[str] = ()) -> SegmentationModule:
    """Return the module that answers with the mean of checkpoints.

    Args:
        checkpoints: best.ckpt of trainings on one training split, one at least.
        flips: Average over mirrored slices too.
        modules: Modules that networks and priors may come from, beside those of this project: importing one runs it.

    Raises:
        Refusal: One cannot be read, one is named twice, or they cannot be averaged.
    """
    paths = [through_latest(path).resolve() for path in checkpoints]
    if len(set(paths)) < len(paths):
        raise Refusal(
            "{path} is named twice; an ensemble has each checkpoint once",
            path=next(path for path in paths if paths.count(path) > 1),
        )
    return averaged([load_module(path, modules) for path in paths], flips)


def write_members(checkpoints: Sequence[str], flips: bool, folder: Path) -> None:
    """Write members.json: path and SHA-256 of each checkpoint, and whether mirrored slices were answered too."""
    paths = [through_latest(path) for path in checkpoints]
    members = [{"path": str(path), "sha256": identity(path)} for path in paths]
    write_json({"members": members, "flips": flips}, folder / MEMBERS, alone=True)


def predict_command(checkpoints: Sequence[str], flips: bool) -> str:
    """Return the command that segments a new scan with the ensemble, as a shell takes it."""
    ckpt = shlex.quote("CKPT=" + " ".join(map(shlex.quote, checkpoints)))
    return f"make predict {ckpt} SCAN=<scan> OUT=<folder>{' ARGS=--flips' if flips else ''}"
