"""Batch of slices: the only contract between data and model."""

from typing import NotRequired, TypedDict

from torch import Tensor


class SliceBatch(TypedDict):
    """Batch of axial slices, each with its neighbours, on the prepared grid.

    HU stay int16 until they are on the device; normalising, masking and augmenting happen there. An unlabelled pixel is
    -1 in ``target`` and enters neither loss nor metrics.

    Attributes:
        image: int16 HU (B, context, H, W); the slice to segment is ``context // 2``.
        lung: bool (B, 1, H, W), inside the lungs.
        target: int8. For paper EM's stages (B, 2, H, W), channels infection and consolidation, values 0, 1 or -1
            (unknown). For the multi-class task (B, 1, H, W), group codes -1 (unlabelled) .. 4.
        weak_label: int8 (B,), the patient-level label z: 1 has consolidation, 0 has none, -1 unknown.
        slice_index: int64 (B,), a row of the SliceTable.
        border: uint8 (B, 2, H, W), multi-class task: the group across the nearest border, and half mm to that border.
        votes: uint8 (B, 5, H, W), multi-class task: readers who chose each group; all 0 where one reader labelled.
        allowed: int16 (B, 1, H, W), any-label task: a bit for each leaf that masks and patient-level labels allow.
        latent: uint8 (B, bytes), latent labels of the slices as their store packs them; joined before the transfer.
        bits: int8 (B, K), any-label task: patient-level labels of the K findings and leaves of `ClassSet.unions`.
        x: float32 (B, context, H, W), input of the network; made on the device from ``image`` and ``lung``.
        mean: float32 (B, 5, H, W), multi-class task: probability of each group by the readers; made on the device.
        deviation: float32 (B, 5, H, W), its standard deviation.
    """

    image: Tensor
    lung: Tensor
    target: Tensor
    weak_label: Tensor
    slice_index: Tensor
    border: NotRequired[Tensor]
    votes: NotRequired[Tensor]
    allowed: NotRequired[Tensor]
    latent: NotRequired[Tensor]
    bits: NotRequired[Tensor]
    x: NotRequired[Tensor]
    mean: NotRequired[Tensor]
    deviation: NotRequired[Tensor]
