"""SliceBatch: the only contract between data and model."""

from typing import NotRequired, TypedDict

from torch import Tensor


class SliceBatch(TypedDict):
    """A batch of axial slices, each with its neighbours, on the prepared grid.

    HU stay int16 until they are on the device; normalising, masking and augmenting happen there. A pixel nobody
    labelled is -1 in ``target`` and counts nowhere: no loss, no metric.

    Attributes:
        image: int16 HU (B, context, H, W); the slice to segment is ``context // 2``.
        lung: bool (B, 1, H, W), inside the lungs.
        target: int8 (B, 2, H, W), channels infection and consolidation, values 0, 1 or -1 (unknown).
        weak_label: int8 (B,), the patient-level label z: 1 has consolidation, 0 has none, -1 unknown.
        slice_index: int64 (B,), a row of the SliceTable.
        x: float32 (B, context, H, W), what the network sees; made on the device from ``image`` and ``lung``.
    """

    image: Tensor
    lung: Tensor
    target: Tensor
    weak_label: Tensor
    slice_index: Tensor
    x: NotRequired[Tensor]
