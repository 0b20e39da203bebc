"""Labels of the pixels of the training slices, kept where the model is."""

import math
import zlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch import SliceBatch

# A pass of the E-step: its title, the rows it reads, and what it does with a batch of which so many slices count.
Pass = tuple[str, NDArray[np.int64], Callable[[SliceBatch, int], Tensor | None]]
ROWS_AT_ONCE = 4096  # 32 MB of masks of 256 x 256


class PixelStore:
    """Bytes for the pixels of every slice of a table, addressed by `slice_index`.

    The latent labels live here and join their batch on the device. They never travel through loader workers, which
    prefetch before an epoch's E-step and would hand out the labels of the epoch before.

    Args:
        num_slices: Rows of the SliceTable.
        width: Bytes a slice.
        device: Where they are kept.
    """

    def __init__(self, num_slices: int, width: int, device: torch.device) -> None:
        self.width = width
        self._bytes = torch.zeros(num_slices, width, dtype=torch.uint8, device=device)

    def exchange(self, rows: Tensor, own: Tensor) -> None:
        """Give every rank the labels of some rows, each as the rank has it whose own it is; every rank must call it.

        Args:
            rows: int64 (n,), the same on every rank.
            own: bool (n,), which of them are this rank's; no two ranks own the same row.
        """
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            values = self._bytes[rows[part]] * own[part, None]
            torch.distributed.all_reduce(values)  # the sum, of which all terms but one are 0
            self._bytes[rows[part]] = values

    def packed(self) -> Tensor:
        """Return everything as uint8 (n,), compressed: most of it is empty."""
        return torch.frombuffer(bytearray(zlib.compress(self._bytes.cpu().numpy().tobytes(), 1)), dtype=torch.uint8)

    def unpack(self, packed: Tensor) -> None:
        """Put back what `packed` gave, for a table of the same size."""
        values = bytearray(zlib.decompress(packed.cpu().numpy().tobytes()))
        self._bytes.copy_(torch.frombuffer(values, dtype=torch.uint8).view_as(self._bytes))

    def any(self, slice_index: Tensor) -> Tensor:
        """Tell which rows have a pixel set, bool (B,)."""
        return (self._bytes[slice_index] > 0).any(1)


class MaskStore(PixelStore):
    """One bit per pixel.

    Args:
        num_slices: Rows of the SliceTable.
        shape: (H, W) of a slice.
        device: Where the masks are kept.
    """

    def __init__(self, num_slices: int, shape: tuple[int, int], device: torch.device) -> None:
        super().__init__(num_slices, -(-shape[0] * shape[1] // 8), device)
        self.shape = shape
        self._powers = 2 ** torch.arange(8, dtype=torch.uint8, device=device)
        self.known = torch.zeros(num_slices, dtype=torch.bool, device=device)

    def set(self, slice_index: Tensor, masks: Tensor) -> None:
        """Store bool masks (B, 1, H, W) at rows slice_index (B,)."""
        flat = masks.reshape(len(masks), -1)
        flat = torch.nn.functional.pad(flat, (0, self._bytes.shape[1] * 8 - flat.shape[1]))
        self._bytes[slice_index] = (flat.view(len(masks), -1, 8) * self._powers).sum(-1, dtype=torch.uint8)
        self.known[slice_index] = True

    def get(self, slice_index: Tensor) -> Tensor:
        """Return bool masks (B, 1, H, W) of rows slice_index (B,); rows never set are empty."""
        bits = (self._bytes[slice_index][:, :, None] & self._powers) > 0
        height, width = self.shape
        return bits.flatten(1)[:, : height * width].view(-1, 1, height, width)


class LeafStore(PixelStore):
    """The latent leaf of every pixel that has one: the likeliest in one byte, or the probability of each in a byte.

    Args:
        num_slices: Rows of the SliceTable.
        leaves: C.
        shape: (H, W) of a slice.
        soft: Whether probabilities are kept, in steps of 1/255.
        device: Where they are kept.
    """

    def __init__(self, num_slices: int, leaves: int, shape: tuple[int, int], soft: bool, device: torch.device) -> None:
        self.shape, self.leaves, self.soft = (leaves if soft else 1, *shape), leaves, soft
        super().__init__(num_slices, math.prod(self.shape), device)

    def set(self, slice_index: Tensor, q: Tensor, known: Tensor) -> None:
        """Store distributions q, float (B, C, H, W), at rows slice_index (B,) where known, bool (B, 1, H, W)."""
        values = (q * 255).round() if self.soft else q.argmax(1, keepdim=True) + 1
        self._bytes[slice_index] = (values * known).to(torch.uint8).flatten(1)

    def get(self, slice_index: Tensor) -> tuple[Tensor, Tensor]:
        """Return q, float32 (B, C, H, W), and known, bool (B, 1, H, W), of rows slice_index (B,)."""
        values = self._bytes[slice_index].view(-1, *self.shape)
        if self.soft:
            total = values.sum(1, keepdim=True, dtype=torch.float32)
            return values / total.clamp(min=1), total > 0
        places = torch.arange(1, self.leaves + 1, device=values.device).view(1, -1, 1, 1)
        return (values == places).float(), values > 0

    def likeliest(self, slice_index: Tensor) -> Tensor:
        """Return the likeliest leaf, int64 (B, H, W), -1 where there is none, of rows slice_index (B,)."""
        values = self._bytes[slice_index].view(-1, *self.shape)
        if not self.soft:
            return values[:, 0].long() - 1
        # Leaf by leaf, which on bytes is ten times as fast as argmax.
        best, leaf = values[:, 0], torch.zeros(values[:, 0].shape, dtype=torch.int8, device=values.device)
        for number in range(1, self.leaves):
            leaf = torch.where(values[:, number] > best, number, leaf)
            best = torch.maximum(best, values[:, number])
        return torch.where(best > 0, leaf, -1).long()
