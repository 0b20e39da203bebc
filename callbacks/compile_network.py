"""torch.compile for the network of a training: an option, since on a CPU it gains nothing (docs/performance.md)."""

from typing import Any

from pytorch_lightning import Callback


class CompileNetwork(Callback):
    """Compile the network in place: the names of its weights, and so its checkpoints, stay what they are.

    A network is compiled once for training and once for evaluation, a minute each on a CPU; all batches have one shape.
    """

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.network.compile(dynamic=False)
