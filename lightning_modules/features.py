"""Deepest features of a network, pooled over each slice, to tell slices unlike those of the training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from networks.contract import Network


@contextmanager
def pooled_features(network: Network) -> Iterator[list[Tensor]]:
    """Collect the deepest features of whatever runs through a network.

    Args:
        network: Any; its `deepest` part gives them.

    Yields:
        A list that grows by a float32 tensor (B, C) with every batch: features averaged over each slice, on the
        network's device.
    """
    features: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        deepest = output[-1] if isinstance(output, list | tuple) else output
        features.append(deepest.detach().float().mean((2, 3)))

    handle = network.deepest.register_forward_hook(keep)
    try:
        yield features
    finally:
        handle.remove()
