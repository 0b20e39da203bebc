"""Checkpoints of this project as they are read: weights and plain values only, of the task and size expected."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ct.refusal import Refusal
from machine.latest import through_latest
from training.checkpoint_file import load_checkpoint_file
from training.model_folder import is_model_folder, read_manifest, read_model

# Before networks and priors were chosen by class_path: the class for each name, and its arguments beside the name.
NAMED_NETWORKS = {
    "unet": ("networks.unet.UNet", "channels"),
    "deeplabv3plus": ("networks.deeplab.DeepLabV3Plus",),
    "pspnet": ("networks.pspnet.PSPNet",),
}
NAMED_PRIORS = {"phi1": ("losses.em.Phi1", "b1"), "phi2": ("losses.em.Phi2", "b2", "k2")}
BESIDE_NAMES = ("channels", "b1", "b2", "k2")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a best.ckpt, or a folder of `training.model_folder`, on the CPU without running any code that is in it.

    Raises:
        ValueError: If there is no such file, or it is no checkpoint of this project.
    """
    path = through_latest(path)
    if path.exists() and is_model_folder(path):
        return _of_today(read_model(path))
    if not path.is_file():
        stage = path.parts[-3] if len(path.parts) >= 3 and path.parts[-2] == "latest" else "<experiment>"
        raise Refusal("there is no checkpoint {path}; train it first: make train EXP={stage}", path=path, stage=stage)
    checkpoint = load_checkpoint_file(path)
    if "ground_glass" not in checkpoint:
        raise Refusal(
            "{path} is not a checkpoint of this project; expected a best.ckpt or last.ckpt of a run folder", path=path
        )
    return _of_today(checkpoint)


def _of_today(checkpoint: dict[str, Any]) -> dict[str, Any]:
    about = checkpoint["ground_glass"]
    return checkpoint | {"ground_glass": about | {"arguments": update_arguments(about.get("arguments", {}))}}


def identity(path: str | Path) -> str:
    """Return the SHA-256 by which results and calibrations name a model: that of its best.ckpt, also for a folder."""
    path = through_latest(path)
    if is_model_folder(path):
        return str(read_manifest(path)["checkpoint_sha256"])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def network_weights(checkpoint: dict[str, Any], prefix: str = "network.") -> dict[str, torch.Tensor]:
    """Return the weights of one network of a checkpoint."""
    state = checkpoint["state_dict"]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_network_weights(path: str | Path, task: str, *networks: nn.Module) -> None:
    """Copy the network of a checkpoint of a given task into networks of the same shape.

    Raises:
        ValueError: If the checkpoint is of another task or another network size.
    """
    checkpoint = read_checkpoint(path)
    about = checkpoint["ground_glass"]
    if about["task"] != task:
        raise Refusal(
            "{path} holds a model for {other!r}, this experiment starts from one for {task!r}; give it a "
            "best.ckpt of an {task} experiment",
            path=path,
            other=about["task"],
            task=task,
        )
    for network in networks:
        try:
            network.load_state_dict(network_weights(checkpoint))
        except RuntimeError as error:
            raise Refusal(
                "the network in {path} ({settings}) has another shape than this experiment's; set the same "
                "model.network and model.context in both",
                path=path,
                settings={key: about["arguments"].get(key) for key in ("network", "context")},
            ) from error


def update_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a module as they are named today; arguments of today stay as they are.

    Args:
        arguments: As a checkpoint holds them. Before, the network was a name, or the UNet where there was none, with
            `channels` beside it; the prior was a name, with `b1`, `b2` and `k2` beside it.
    """
    updated = {name: value for name, value in arguments.items() if name not in BESIDE_NAMES}
    network, prior = arguments.get("network", "unet"), arguments.get("prior")
    if isinstance(network, str):
        updated["network"] = _described(NAMED_NETWORKS, network, arguments)
    if isinstance(prior, str):
        updated["prior"] = _described(NAMED_PRIORS, prior, arguments)
    return updated


def _described(classes: Mapping[str, tuple[str, ...]], name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    class_path, *fields = classes.get(name, (name,))
    return {"class_path": class_path, "init_args": {field: arguments[field] for field in fields if field in arguments}}
