"""Checkpoints of runs as modules ready to segment."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ct.classes import EM, L3, ClassSet, class_set
from ct.refusal import Refusal, Word
from inference.model_names import place_of
from inference.result import Member
from lightning_modules.base import SegmentationModule
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.infection import InfectionModule
from lightning_modules.opacity import OpacityModule
from training.class_paths import class_of
from training.model_folder import learned_on_whole_images
from training.training_set import TrainingSet
from training.weights import read_checkpoint

MODULES: dict[str, type[SegmentationModule]] = {
    module.task: module for module in (InfectionModule, ConsolidationModule, OpacityModule)
}
DICE = "/dice_mean"  # suffix of a finding's validation figure; its number of scans has _n behind it


def load_module(path: str | Path, modules: Sequence[str] = ()) -> SegmentationModule:
    """Return the module of a model with its weights, in eval mode on the CPU.

    Args:
        path: A best.ckpt, a folder that `ground-glass export` wrote, or "default".
        modules: Modules that its network and prior may come from, beside those of this project: importing one runs it.

    Raises:
        ValueError: If the file is missing, is no checkpoint of this project, or holds an unknown task, or a network or
            prior that may not be imported.
    """
    return module_of(read_checkpoint(place_of(path)), path, modules)


def module_of(checkpoint: dict[str, Any], path: str | Path, modules: Sequence[str] = ()) -> SegmentationModule:
    """Return the module of a checkpoint that was read from a path, as `load_module` does."""
    metadata = checkpoint["ground_glass"]
    task = metadata["task"]
    if task not in MODULES:
        raise Refusal(
            "{path} holds a model for {task!r}; this version can run {modules}",
            path=path,
            task=task,
            modules=Word(", ".join(sorted(MODULES))),
        )
    module = MODULES[task].restore(metadata["arguments"], partial(class_of, modules=modules, path=Path(path)))
    module.load_state_dict(checkpoint["state_dict"])
    module.size, module.whole_image = metadata["size"], learned_on_whole_images(metadata)
    return module.eval()


def training_set_of(checkpoint: dict[str, Any]) -> TrainingSet | None:
    """Return the description of a checkpoint's training set; None for an older checkpoint without one."""
    values = checkpoint["ground_glass"].get("training")
    return None if values is None else TrainingSet.from_dict(values)


def classes_of(metadata: dict[str, Any]) -> ClassSet:
    """Return the class set of a checkpoint; an older one without has that of its paper."""
    values = metadata["arguments"].get("classes")
    return class_set(values) if values else L3 if metadata["task"] == OpacityModule.task else EM


def member_of(checkpoint: dict[str, Any]) -> Member:
    """Return the training counts and validation figures of a checkpoint, as far as it has them."""
    metadata = checkpoint["ground_glass"]
    counts, figures = metadata.get("trained_on", {}), metadata.get("validation", {})
    findings, classes = [key.removesuffix(DICE) for key in figures if key.endswith(DICE)], classes_of(metadata)
    return Member(
        training_scans=counts.get("scans"),
        training_patients=counts.get("patients"),
        training_sites=counts.get("sites"),
        validation_dice={finding: figures[finding + DICE] for finding in findings},
        validation_scans={finding: figures[f"{finding}{DICE}_n"] for finding in findings},
        names={finding: classes.name_of(finding) for finding in findings},
    )
