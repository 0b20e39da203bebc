"""Batch norm over all ranks on CPUs, where PyTorch's own SyncBatchNorm refuses to run."""

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.autograd import Function


class _SumOverRanks(Function):
    """The sum of a tensor over the ranks. Each rank's loss depends on it, so its gradient is summed over them too."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """What nn.SyncBatchNorm computes, for tensors (B, C, H, W) on the CPU; every rank has the same number of values."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        # In two passes: the mean of squares minus the squared mean would lose digits.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _summed(wide) / count
        centred = wide - mean[:, None, None]
        variance = _summed(centred.square()) / count
        with torch.no_grad():
            self._remember(mean, variance * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        momentum = self.momentum or 0.0
        for running, of_batch in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(of_batch, momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)


def _summed(x: Tensor) -> Tensor:
    """Sum (B, C, H, W) over all but the channels and over all ranks: (C,)."""
    total: Tensor = _SumOverRanks.apply(x.sum((0, 2, 3)))
    return total


class CpuLayerSync(LayerSync):
    """What `trainer.sync_batchnorm` does to a model that is trained on CPUs; parameters and buffers stay the same."""

    def apply(self, model: nn.Module) -> nn.Module:
        for layer in model.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = CpuSyncBatchNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for layer in model.modules():
            if type(layer) is CpuSyncBatchNorm:
                plain: nn.BatchNorm2d = layer
                plain.__class__ = nn.BatchNorm2d
        return model
