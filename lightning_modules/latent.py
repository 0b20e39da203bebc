"""Labels of the pixels of the training slices, kept in files beside the run: memory does not grow with the cohort."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from batch import SliceBatch

# A pass of the E-step: its title, the rows it reads, and what it does with a batch of which so many slices count.
Pass = tuple[str, NDArray[np.int64], Callable[[SliceBatch, int], Tensor | None]]
ROWS_AT_ONCE = 4096  # 32 MB of masks of 256 x 256


class PixelStore:
    """Bytes for the pixels of every slice of a table, addressed by `slice_index`.

    The latent labels live here and join their batch on the device. They never travel through loader workers, which
    prefetch before an epoch's E-step and would hand out the labels of the epoch before.

    With a file, which takes room for the slices alone that are labelled, the operating system keeps in memory what is
    in use. Processes of one machine share it; and it is still there when a run that was cut off goes on.

    Args:
        num_slices: Rows of the SliceTable.
        width: Bytes a slice.
        device: Where labels are wanted.
        file: Where they are kept, made if it is not there; in memory by default.
    """

    def __init__(self, num_slices: int, width: int, device: torch.device, file: Path | None = None) -> None:
        self.width, self.device, self.is_shared = width, device, file is not None
        self._bytes = torch.from_numpy(_rows(file, (num_slices, width), np.uint8))
        # The epoch from 1 on in which a slice was labelled last, and how many of its pixels changed then.
        changes = file.with_name(f"{file.name}.changes") if file else None
        self._changes = torch.from_numpy(_rows(changes, (num_slices, 2), np.int32))

    def join(self, batch: SliceBatch) -> None:
        """Add the bytes of a batch that is not on the device yet: they travel with it, and no step waits for them."""
        packed = self._bytes[batch["slice_index"]]
        batch["latent"] = packed.pin_memory() if self.device.type == "cuda" else packed

    def read(self, slice_index: Tensor) -> Tensor:
        """Return the bytes of rows slice_index (B,), on the device: uint8 (B, width)."""
        return self._bytes[slice_index.cpu()].to(self.device)

    def write(self, slice_index: Tensor, values: Tensor) -> None:
        """Keep bytes, uint8 (B, width), of rows slice_index (B,)."""
        self._bytes[slice_index.cpu()] = values.cpu()

    def note_changes(self, slice_index: Tensor, changed: Tensor, epoch: int) -> Tensor:
        """Take down how many pixels of slices changed in the E-step of an epoch, int64 (B,), and return it.

        Of a slice that this epoch has labelled before, as when a run goes on that was cut off, it is what it was then.
        """
        rows = slice_index.cpu()
        before = self._changes[rows]
        counted = torch.where(before[:, 0] == epoch + 1, before[:, 1], changed.cpu().int())
        self._changes[rows] = torch.stack([torch.full_like(counted, epoch + 1), counted], 1)
        return counted.long().to(changed.device)

    def exchange(self, rows: Tensor, own: Tensor, writes: bool = True) -> None:
        """Give every rank the labels of some rows, each as the rank has it whose own it is; every rank must call it.

        Args:
            rows: int64 (n,), the same on every rank.
            own: bool (n,), which of them are this rank's; no two ranks own the same row.
            writes: Whether this rank keeps what it gets: not where another one has the same file.
        """
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            values = self.read(rows[part]) * own[part, None].to(self.device)
            torch.distributed.all_reduce(values)  # the sum, of which all terms but one are 0
            if writes:
                self.write(rows[part], values)

    def any(self, slice_index: Tensor) -> Tensor:
        """Tell which rows have a pixel set, bool (B,)."""
        rows = slice_index.cpu()
        return torch.cat([(self._bytes[part] > 0).any(1) for part in rows.split(ROWS_AT_ONCE)])


def _rows(file: Path | None, shape: tuple[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros, or what a file holds; a new one is sparse, and takes room for what is written alone.

    Raises:
        OSError: The file cannot be made or mapped.
    """
    if file is None or 0 in shape:
        return np.zeros(shape, dtype)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not file.is_file() or file.stat().st_size != size:
        with file.open("wb") as new:
            new.truncate(size)
    return np.memmap(file, dtype, "r+", shape=shape)


class MaskStore(PixelStore):
    """One bit per pixel.

    Args:
        num_slices: Rows of the SliceTable.
        shape: (H, W) of a slice.
        device: Where the masks are wanted.
        file: See `PixelStore`.
    """

    def __init__(self, num_slices: int, shape: tuple[int, int], device: torch.device, file: Path | None = None) -> None:
        super().__init__(num_slices, -(-shape[0] * shape[1] // 8), device, file)
        self.shape = shape
        self._powers = 2 ** torch.arange(8, dtype=torch.uint8, device=device)
        self.known = torch.zeros(num_slices, dtype=torch.bool)

    def set(self, slice_index: Tensor, masks: Tensor) -> None:
        """Store bool masks (B, 1, H, W) at rows slice_index (B,)."""
        flat = masks.reshape(len(masks), -1)
        flat = torch.nn.functional.pad(flat, (0, self.width * 8 - flat.shape[1]))
        self.write(slice_index, (flat.view(len(masks), -1, 8) * self._powers).sum(-1, dtype=torch.uint8))
        self.known[slice_index.cpu()] = True

    def get(self, slice_index: Tensor) -> Tensor:
        """Return bool masks (B, 1, H, W) of rows slice_index (B,); rows never set are empty."""
        return self.unpack(self.read(slice_index))

    def unpack(self, packed: Tensor) -> Tensor:
        """Return the masks of bytes (B, width), as `get` does."""
        bits = (packed[:, :, None] & self._powers) > 0
        height, width = self.shape
        return bits.flatten(1)[:, : height * width].view(-1, 1, height, width)


class LeafStore(PixelStore):
    """The latent leaf of every pixel that has one: the likeliest in one byte, or the probability of each in a byte.

    Args:
        num_slices: Rows of the SliceTable.
        leaves: C.
        shape: (H, W) of a slice.
        soft: Whether probabilities are kept, in steps of 1/255.
        device: Where they are wanted.
        file: See `PixelStore`.
    """

    def __init__(
        self,
        num_slices: int,
        leaves: int,
        shape: tuple[int, int],
        soft: bool,
        device: torch.device,
        file: Path | None = None,
    ) -> None:
        self.shape, self.leaves, self.soft = (leaves if soft else 1, *shape), leaves, soft
        super().__init__(num_slices, math.prod(self.shape), device, file)

    def set(self, slice_index: Tensor, q: Tensor, known: Tensor) -> None:
        """Store distributions q, float (B, C, H, W), at rows slice_index (B,) where known, bool (B, 1, H, W)."""
        values = (q * 255).round() if self.soft else q.argmax(1, keepdim=True) + 1
        self.write(slice_index, (values * known).to(torch.uint8).flatten(1))

    def get(self, slice_index: Tensor) -> tuple[Tensor, Tensor]:
        """Return q, float32 (B, C, H, W), and known, bool (B, 1, H, W), of rows slice_index (B,)."""
        return self.unpack(self.read(slice_index))

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Return q and known of bytes (B, width), as `get` does."""
        values = packed.view(-1, *self.shape)
        if self.soft:
            total = values.sum(1, keepdim=True, dtype=torch.float32)
            return values / total.clamp(min=1), total > 0
        places = torch.arange(1, self.leaves + 1, device=values.device).view(1, -1, 1, 1)
        return (values == places).float(), values > 0

    def likeliest(self, slice_index: Tensor) -> Tensor:
        """Return the likeliest leaf, int64 (B, H, W), -1 where there is none, of rows slice_index (B,)."""
        values = self.read(slice_index).view(-1, *self.shape)
        if not self.soft:
            return values[:, 0].long() - 1
        # Leaf by leaf, which on bytes is ten times as fast as argmax.
        best, leaf = values[:, 0], torch.zeros(values[:, 0].shape, dtype=torch.int8, device=values.device)
        for number in range(1, self.leaves):
            leaf = torch.where(values[:, number] > best, number, leaf)
            best = torch.maximum(best, values[:, number])
        return torch.where(best > 0, leaf, -1).long()
