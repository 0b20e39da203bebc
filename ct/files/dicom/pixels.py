"""HU of the frames of DICOM files, one slice at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ct.checks import AIR_HU
from ct.files.dicom.decoder import stored_frames, stored_frames_of_child
from ct.files.dicom.frames import Frame
from ct.refusal import Refusal
from ct.wrapped_hu import touching_border


def decode_frames(frames: Sequence[Frame]) -> Iterator[tuple[Frame, npt.NDArray[np.float64], int]]:
    """Decode frames one after the other, each file once.

    Args:
        frames: Frames of any files, in any order.

    Yields:
        A frame, its HU (rows, columns), and the number of its padding pixels that were set to air; all frames of a file
        in a row.

    Raises:
        ValueError: Pixels cannot be decoded, are cut off, or are no whole numbers.
    """
    by_file: dict[Path, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_file[frame.file].append(frame)
    selection = [(file, [frame.index for frame in group]) for file, group in by_file.items()]
    decode = stored_frames_of_child if any(frame.needs_gdcm for frame in frames) else stored_frames
    in_order = [frame for group in by_file.values() for frame in group]
    for frame, stored in zip(in_order, decode(selection), strict=True):
        if stored.shape != (frame.rows, frame.columns) or stored.dtype.kind not in "iu":
            raise Refusal(
                "{file}: the pixels are {dtype} of shape {shape}; expected whole numbers of shape {expected}; export "
                "it again",
                file=frame.file,
                dtype=stored.dtype,
                shape=stored.shape,
                expected=(frame.rows, frame.columns),
            )
        hu = stored * frame.slope + frame.intercept
        yield frame, hu, _pad_with_air(stored, hu, frame)


def _pad_with_air(stored: npt.NDArray[Any], hu: npt.NDArray[np.float64], frame: Frame) -> int:
    """Set padding to air in place; return the number of pixels changed."""
    if frame.padding is None:
        return 0
    mask = (stored >= frame.padding[0]) & (stored <= frame.padding[1]) & (hu != AIR_HU)
    if not mask.any():
        return 0
    # The declared value may be tissue, or metal that was wrapped around, inside the body; padding lies at the border.
    mask = touching_border(mask)
    hu[mask] = AIR_HU
    return int(mask.sum())
