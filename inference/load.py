"""A checkpoint of a run as a module ready to segment."""

import glob
import shlex
from collections.abc import Sequence
from pathlib import Path

from ct.training_set import TrainingSet
from lightning_modules.base import SegmentationModule
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.infection import InfectionModule
from lightning_modules.opacity import OpacityModule
from lightning_modules.weights import read_checkpoint

MODULES: dict[str, type[SegmentationModule]] = {
    module.task: module for module in (InfectionModule, ConsolidationModule, OpacityModule)
}

CHECKPOINTS = "best.ckpt of a run; several make an ensemble, also in one text with blanks between them"


def checkpoints_in(texts: Sequence[str]) -> list[str]:
    """Return the paths that texts name: one where there is such a file, else several as the words of a shell are.

    So `a b/best.ckpt` is one path where that file exists, and else the two paths `a` and `b/best.ckpt`.
    """
    words: list[str] = []
    for text in texts:
        try:
            words += [text] if Path(text).is_file() else shlex.split(text)
        except ValueError:  # a quotation mark without its other half is part of a name
            words.append(text)
    return [path for word in words for path in ([word] if Path(word).is_file() else sorted(glob.glob(word)) or [word])]


def load_module(path: str | Path) -> SegmentationModule:
    """The module of a checkpoint with its weights, in eval mode on the CPU.

    Raises:
        ValueError: If the file is missing, is no checkpoint of this project, or holds an unknown task.
    """
    checkpoint = read_checkpoint(path)
    about = checkpoint["ground_glass"]
    task = about["task"]
    if task not in MODULES:
        raise ValueError(f"{path} holds a model for '{task}'; this version can run {sorted(MODULES)}")
    module = MODULES[task](**about["arguments"])
    module.load_state_dict(checkpoint["state_dict"])
    module.size = about["size"]
    return module.eval()


def load_training_set(path: str | Path) -> TrainingSet | None:
    """What a checkpoint says of the scans that it was trained on; None where it is older than that.

    Raises:
        ValueError: If the file is missing or is no checkpoint of this project.
    """
    described = read_checkpoint(path)["ground_glass"].get("training")
    return None if described is None else TrainingSet.from_dict(described)
