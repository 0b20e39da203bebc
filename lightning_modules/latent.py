"""Pixel masks of the training slices, kept where the model is."""

import zlib

import torch
from torch import Tensor

ROWS_AT_ONCE = 4096  # 32 MB of masks of 256 x 256


class MaskStore:
    """One bit per pixel for every slice of a table, addressed by `slice_index`.

    The latent labels live here and join their batch on the device. They never travel through loader workers, which
    prefetch before an epoch's E-step and would hand out the labels of the epoch before.

    Args:
        num_slices: Rows of the SliceTable.
        shape: (H, W) of a slice.
        device: Where the masks are kept.
    """

    def __init__(self, num_slices: int, shape: tuple[int, int], device: torch.device) -> None:
        self.shape = shape
        width = -(-shape[0] * shape[1] // 8)
        self._bits = torch.zeros(num_slices, width, dtype=torch.uint8, device=device)
        self._powers = 2 ** torch.arange(8, dtype=torch.uint8, device=device)
        self.known = torch.zeros(num_slices, dtype=torch.bool, device=device)

    def set(self, slice_index: Tensor, masks: Tensor) -> None:
        """Store bool masks (B, 1, H, W) at rows slice_index (B,)."""
        flat = masks.reshape(len(masks), -1)
        flat = torch.nn.functional.pad(flat, (0, self._bits.shape[1] * 8 - flat.shape[1]))
        self._bits[slice_index] = (flat.view(len(masks), -1, 8) * self._powers).sum(-1, dtype=torch.uint8)
        self.known[slice_index] = True

    def get(self, slice_index: Tensor) -> Tensor:
        """Return bool masks (B, 1, H, W) of rows slice_index (B,); rows never set are empty."""
        bits = (self._bits[slice_index][:, :, None] & self._powers) > 0
        height, width = self.shape
        return bits.flatten(1)[:, : height * width].view(-1, 1, height, width)

    def exchange(self, rows: Tensor, own: Tensor) -> None:
        """Give every rank the masks of some rows, each as the rank has it whose own it is; every rank must call it.

        Args:
            rows: int64 (n,), the same on every rank.
            own: bool (n,), which of them are this rank's; no two ranks own the same row.
        """
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            bits = self._bits[rows[part]] * own[part, None]
            torch.distributed.all_reduce(bits)  # the sum, of which all terms but one are 0
            self._bits[rows[part]] = bits

    def packed(self) -> Tensor:
        """Return all masks as uint8 (n,), compressed: they are mostly empty."""
        return torch.frombuffer(bytearray(zlib.compress(self._bits.cpu().numpy().tobytes(), 1)), dtype=torch.uint8)

    def unpack(self, packed: Tensor) -> None:
        """Put back what `packed` gave, for a table of the same size."""
        bits = bytearray(zlib.decompress(packed.cpu().numpy().tobytes()))
        self._bits.copy_(torch.frombuffer(bits, dtype=torch.uint8).view_as(self._bits))

    def any(self, slice_index: Tensor) -> Tensor:
        """Tell which rows have a pixel set, bool (B,)."""
        return (self._bits[slice_index] > 0).any(1)
