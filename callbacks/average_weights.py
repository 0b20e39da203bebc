"""A running mean of the network's weights, which is validated, kept and tested in place of the last step's."""

import itertools
from typing import Any

import torch
from pytorch_lightning import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from batch import SliceBatch
from ct.refusal import Refusal

OWN_KEY = "averaged_weights"  # in a checkpoint: the weights that training goes on with


class AverageWeights(Callback):
    """Average the network over the last steps, with weights that fall by `decay` a step (Polyak averaging).

    With few validation slices the best epoch is mostly luck; the mean over the last hundred steps needs no choice.
    Training, and with it the E-step, goes on with the weights of the last step; validation and every checkpoint have
    the mean, with BatchNorm's running statistics.

    Lightning's `EMAWeightAveraging` averages the whole module: UNet-1, which does not change, and the thresholds that
    validation picks, which are NaN until then and stay so in any mean. This one averages `network` alone.

    Args:
        decay: Weight of the mean so far in a step, in (0, 1): the mean is over about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 < decay < 1:
            raise Refusal("decay of AverageWeights is {decay}; expected a number between 0 and 1", decay=decay)
        self.decay = decay
        self._average: AveragedModel | None = None
        self._steps = 0  # of the optimizer, at the last update
        self._restored: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        mean = get_ema_multi_avg_fn(self.decay)  # of all weights at once
        self._average = AveragedModel(pl_module.network, multi_avg_fn=mean, use_buffers=True)
        if self._restored is not None:  # the checkpoint's own weights are the mean
            self._average.n_averaged.copy_(self._restored["count"])
            pl_module.network.load_state_dict(self._restored["network"])
            self._restored = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._steps = trainer.global_step  # of a run that goes on, Lightning restores it after `on_fit_start`

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: SliceBatch, batch_idx: int) -> None:
        if trainer.global_step > self._steps:  # several batches may make a step
            self._steps = trainer.global_step
            self._mean().update_parameters(pl_module.network)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self._average is None:
            return
        if trainer.world_size > 1:  # without SyncBatchNorm each rank has averaged statistics of other batches
            for buffer in self._average.module.buffers():  # not the count, which is on the CPU and the same everywhere
                torch.distributed.broadcast(buffer, 0)
        self._swap(pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._average is not None:
            self._swap(pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        own, mean = pl_module.network.state_dict(), self._mean()
        checkpoint[OWN_KEY] = {"network": own, "count": mean.n_averaged}
        averaged = {f"network.{name}": value for name, value in mean.module.state_dict().items()}
        checkpoint["state_dict"] = checkpoint["state_dict"] | averaged

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get(OWN_KEY)

    def _mean(self) -> AveragedModel:
        assert self._average is not None
        return self._average

    @torch.no_grad()
    def _swap(self, module: Any) -> None:
        mean, network = self._mean().module, module.network
        pairs = (mean.parameters(), network.parameters()), (mean.buffers(), network.buffers())
        for averaged, own in itertools.chain.from_iterable(zip(*pair, strict=True) for pair in pairs):
            kept = averaged.clone()
            averaged.copy_(own)
            own.copy_(kept)
