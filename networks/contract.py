"""Contract of a segmentation network: logits at the size of its input, and the place of its deepest features."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ct.refusal import Refusal


class Network(nn.Module, ABC):
    """A network that every task can train; an experiment names its class under `model.network`.

    Its first two arguments are channels that the task gives: those of the input (adjacent slices) and of the logits
    (classes). All others are the experiment's, as `init_args`: numbers, texts and lists of these, which a checkpoint
    keeps as they are.

    Attributes:
        starts_from: Arguments that choose its initial weights. A checkpoint omits them, since it brings its own
            weights; their defaults must not download any.
    """

    starts_from: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def deepest(self) -> nn.Module:
        """Return the part whose output, or the last of its outputs, is the most abstract: (B, features, h, w)."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return logits.

        Args:
            x: (B, channels of the input, H, W), as the task normalises it.

        Returns:
            (B, classes, H, W), before any sigmoid or softmax.
        """


NetworkFactory = Callable[[int, int], Network]  # channels of the input and of the logits -> a network


def check_contract(network: Network, in_channels: int, out_channels: int, size: int) -> None:
    """Run a network once on an empty slice, without a trace in its weights, and check its outputs.

    Args:
        network: The network, on any device.
        in_channels: Channels of its input.
        out_channels: Channels that its logits must have.
        size: Pixels of a side.

    Raises:
        Refusal: Its logits have another shape, or its deepest features are no maps (B, features, h, w).
    """
    outputs: list[object] = []
    handle = network.deepest.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    modes = {module: module.training for module in network.modules()}
    weight = next(network.parameters())
    try:
        # A network compiled for the batches of the training would be compiled again for this one.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            logits = network.eval()(torch.zeros(1, in_channels, size, size, device=weight.device, dtype=weight.dtype))
    finally:
        handle.remove()
        for module, training in modes.items():
            module.training = training
    name, expected = type(network).__qualname__, (1, out_channels, size, size)
    if tuple(logits.shape) != expected:
        raise Refusal(
            "the network {name} gives logits of shape {shape}; expected {expected}: one for every class and pixel of "
            "its input",
            name=name,
            shape=tuple(logits.shape),
            expected=expected,
        )
    features = outputs[-1] if outputs else None
    features = features[-1] if isinstance(features, list | tuple) else features
    if not isinstance(features, Tensor) or features.dim() != 4:
        raise Refusal(
            "the part that the network {name} calls deepest gives {what}; expected maps (B, features, h, w), once in "
            "every forward pass",
            name=name,
            what=tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__,
        )
