"""Checkpoints of before networks and priors were chosen by class_path, read as those of today."""

from collections.abc import Mapping
from typing import Any

# The class of each name, and those of its arguments that stood beside the name.
NETWORKS = {
    "unet": ("networks.unet.UNet", "channels"),
    "deeplabv3plus": ("networks.deeplab.DeepLabV3Plus",),
    "pspnet": ("networks.pspnet.PSPNet",),
}
PRIORS = {"phi1": ("losses.em.Phi1", "b1"), "phi2": ("losses.em.Phi2", "b2", "k2")}
BESIDE = ("channels", "b1", "b2", "k2")


def of_today(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a module as they are named today; those of today stay.

    Args:
        arguments: As a checkpoint holds them. Before, the network was a name, or the UNet where there was none, with
            `channels` beside it; the prior was a name, with `b1`, `b2` and `k2` beside it.
    """
    today = {name: value for name, value in arguments.items() if name not in BESIDE}
    network, prior = arguments.get("network", "unet"), arguments.get("prior")
    if isinstance(network, str):
        today["network"] = _described(NETWORKS, network, arguments)
    if isinstance(prior, str):
        today["prior"] = _described(PRIORS, prior, arguments)
    return today


def _described(classes: Mapping[str, tuple[str, ...]], name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    class_path, *fields = classes.get(name, (name,))
    return {"class_path": class_path, "init_args": {field: arguments[field] for field in fields if field in arguments}}
