"""Lungs of a scan, from a file or from its HU, checked for plausibility."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ct.files.read import read_mask
from ct.lungs.classical import classical_lungs
from ct.lungs.lungmask import lungmask_lungs
from ct.lungs.plausibility import lung_warnings, refuse_other_body_parts
from ct.refusal import Refusal, Sentence, Word
from ct.scan import Scan

METHODS = ("classical", "lungmask")
FILE = "file"  # the source of a mask that was given


@dataclass(frozen=True, eq=False)
class Lungs:
    """A lung mask with its warnings.

    Attributes:
        mask: bool (Z, Y, X) on the scan's canonical grid.
        source: "file", "classical" or "lungmask".
        warnings: A sentence for each thing that is unusual about the mask.
        repairs: A sentence if the mask of a file was stored cropped.
    """

    mask: npt.NDArray[np.bool_]
    source: str
    warnings: tuple[Sentence, ...]
    repairs: tuple[Sentence, ...] = ()


def find_lungs(scan: Scan, lung_mask: Path | None = None, method: str = "classical") -> Lungs:
    """Read the lung mask of a scan or find the lungs, and check the result.

    Whatever the source, `lung_warnings` describes what is unusual. A mask that does not come from a file must show a
    chest by the rules of `refuse_other_body_parts`.

    Args:
        scan: The scan.
        lung_mask: A mask on the scan's grid or a part of it, nonzero inside the lungs; then `method` does not matter.
        method: "classical" (thresholds and shapes) or "lungmask" (the network R231CovidWeb, as in paper EM; needs
            `pip install .[lungmask]`).

    Returns:
        The lungs, never empty.

    Raises:
        ValueError: The mask's file cannot be used or is empty; the method is unknown or not installed; or the scan
            shows no chest.
    """
    if method not in METHODS:
        raise Refusal(
            "the lung method is {method!r}; expected one of {methods}", method=method, methods=Word(", ".join(METHODS))
        )
    if lung_mask is not None:
        repairs: list[Sentence] = []
        mask = read_mask(lung_mask, scan, repairs, "lung mask") != 0
        if not mask.any():
            raise Refusal(
                "{mask}: no lung voxels; expected values above 0 inside the lungs; give another mask",
                mask=lung_mask,
            )
        return Lungs(mask, FILE, lung_warnings(scan, mask), tuple(repairs))
    if method == "lungmask":
        mask = lungmask_lungs(scan)
    else:
        mask = classical_lungs(scan.hu, scan.spacing_mm if scan.spacing_known else None)
    refuse_other_body_parts(scan, mask)
    return Lungs(mask, method, lung_warnings(scan, mask))
