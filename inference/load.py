"""A checkpoint of a run as a module ready to segment."""

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
