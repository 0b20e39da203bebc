"""A model and all that surrounds it, as one PyTorch module of tensor operations alone, so that it can be exported.

It does what `ct.resample`, `cohort.prepare.prepare_scan` and `inference.scan_masks` do, with dense weights that are
computed from the scan's size and spacing inside the graph. A test holds it against them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ct.resample import AIR_HU, SAME_SIZE, TARGET_SLICE_MM, THIN_SLICE_MM
from lightning_modules.base import SegmentationModule

Axis = tuple[int, Tensor, int, Tensor, Tensor]  # as ct.resample.AxisMap


class WholeScan(nn.Module):
    """Probabilities of a scan on its own grid, from its HU, lungs and spacing.

    Args:
        module: A trained module, in eval mode on the CPU.
    """

    def __init__(self, module: SegmentationModule) -> None:
        super().__init__()
        self.module, self.size = module, module.size
        self.context = int(module.hparams["context"])
        self.everywhere = bool(module.classes.outside)

    def forward(self, hu: Tensor, lungs: Tensor, spacing_mm: Tensor) -> dict[str, Tensor]:
        """Segment a scan.

        Args:
            hu: int16 (Z, Y, X), in canonical orientation: from feet to head, front to back, right to left.
            lungs: bool (Z, Y, X).
            spacing_mm: float64 (3,): z, y, x.

        Returns:
            By name, outermost first, float32 (Z, Y, X): probabilities as `SegmentationModule.segment` names them.
        """
        z, y, x = self._axes(hu, spacing_mm)
        prepared = _resampled(hu.float() - AIR_HU, forward_weights(z), forward_weights(y), forward_weights(x))
        prepared = torch.round(prepared + AIR_HU)
        lung = _nearest(lungs, z, y, x)
        rows = torch.arange(prepared.shape[0])
        around = rows[:, None] + torch.arange(-(self.context // 2), self.context // 2 + 1)
        stack = prepared[around.clamp(min=0).minimum(rows.max())]
        answer = self.module.segment(self.module.network_input(stack, lung[:, None]))
        seen = torch.ones(lung.shape[0], dtype=torch.bool) if self.everywhere else lung.flatten(1).any(1)
        back = backward_weights(z), backward_weights(y), backward_weights(x)
        return {name: _resampled((p[:, 0] * seen[:, None, None]).float(), *back) for name, p in answer.items()}

    def _axes(self, hu: Tensor, spacing_mm: Tensor) -> tuple[Axis, Axis, Axis]:
        """Lay the prepared grid over the scan, as `ct.resample.plan_transform`."""
        depth, height, width = hu.shape
        z_mm, y_mm, x_mm = spacing_mm[0], spacing_mm[1], spacing_mm[2]
        side = torch.maximum(height * y_mm, width * x_mm)
        extent, none = depth * z_mm, torch.zeros((), dtype=torch.float64)
        thin = z_mm < THIN_SLICE_MM * (1 - SAME_SIZE)
        slices = torch.where(thin, torch.round(extent / TARGET_SLICE_MM).clamp(min=1), torch.full_like(z_mm, depth))
        count: Any = slices.to(torch.int64).item()  # in an export, a size that the data decide
        torch._check(count >= 1)
        z = (depth, z_mm, count, torch.where(thin, extent / slices, z_mm), none)
        return z, self._in_plane(height, y_mm, side), self._in_plane(width, x_mm, side)

    def _in_plane(self, count: int, mm: Tensor, side: Tensor) -> Axis:
        padding = torch.floor((side - count * mm) / 2 / mm + 1e-6).clamp(min=0)
        return count, mm, self.size, side / self.size, padding * mm


def forward_weights(axis: Axis) -> Tensor:
    """Return float32 (count, source_count): the weights that bring an axis to the prepared grid."""
    return _weights(*axis)


def backward_weights(axis: Axis) -> Tensor:
    """Return float32 (source_count, count): the weights that bring a prepared axis back to the scan."""
    source_count, source_mm, count, spacing_mm, offset_mm = axis
    return _weights(count, spacing_mm, source_count, source_mm, -offset_mm)


def _weights(source_count: int, source_mm: Tensor, count: int, spacing_mm: Tensor, offset_mm: Tensor) -> Tensor:
    """Return `ct.resample.overlap_matrix`: area averaging to coarser voxels, linear to finer ones."""
    sources = torch.arange(source_count, dtype=torch.float64)
    targets = torch.arange(count, dtype=torch.float64)[:, None]
    low, target = sources * source_mm + offset_mm, targets * spacing_mm
    overlap = torch.minimum(target + spacing_mm, low + source_mm) - torch.maximum(target, low)
    area = torch.where(overlap > 1e-6 * source_mm, overlap, torch.zeros_like(overlap)) / spacing_mm
    position = ((targets + 0.5) * spacing_mm - offset_mm) / source_mm - 0.5
    inside = (position > -0.5 - 1e-6) & (position < source_count - 0.5 + 1e-6)
    clipped = position.clamp(min=0).minimum(sources.max())
    linear = torch.where(inside, (1 - (clipped - sources).abs()).clamp(min=0), torch.zeros_like(overlap))
    return torch.where(spacing_mm >= source_mm * (1 - SAME_SIZE), area, linear).float()


def _resampled(volume: Tensor, along_z: Tensor, along_y: Tensor, along_x: Tensor) -> Tensor:
    """Apply weights (to, from) along z, y and x of (Z, Y, X)."""
    planes = along_y @ volume @ along_x.T
    return torch.einsum("nz,zyx->nyx", along_z, planes)


def _nearest(mask: Tensor, z: Axis, y: Axis, x: Axis) -> Tensor:
    """Resample a mask by nearest neighbour, as `ct.resample.Transform.apply_mask`: bool (Z', size, size)."""
    for dim, (source_count, source_mm, count, spacing_mm, offset_mm) in enumerate((z, y, x)):
        centre = ((torch.arange(count, dtype=torch.float64) + 0.5) * spacing_mm - offset_mm) / source_mm
        index = torch.floor(centre + 1e-6).to(torch.int64)
        valid = (index >= 0) & (index < source_count)
        index = torch.where(valid, index, torch.zeros_like(index))
        shape = [1, 1, 1]
        shape[dim] = -1
        mask = mask.index_select(dim, index) & valid.reshape(shape)
    return mask
