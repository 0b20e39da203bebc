"""Is this lung mask plausible, and does the scan show a chest at all?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ct.scan import Scan

BoolArray = npt.NDArray[np.bool_]

# Sinuses, mastoid cells and bowel stay below this area in one slice; a chest shows it even where one lung is collapsed.
CHEST_CM2 = 40.0
# Less lung than this, in less than half of the slices, is the edge of a scan of the abdomen or the neck.
BASES_LITRES = 1.0
VISIBLE_CM2 = 5.0
# Gas is -1000 HU; lungs, even emphysematous ones, have vessels and walls.
GAS_BELOW_HU = -960


def refuse_other_body_parts(scan: Scan, mask: BoolArray) -> None:
    """Refuse a scan in which no chest was found.

    A chest shows at least 40 cm2 of lung in one slice (sinuses and mastoid cells do not), is not just gas (median below
    -960 HU: bowel), and has lung in half of its slices or 1 litre of it (an abdomen or a neck shows some lung at
    its edge). Without spacing, some lung is all that can be asked for.

    Args:
        scan: The scan.
        mask: bool (Z, Y, X), what was found.

    Raises:
        ValueError: The scan shows no chest; the sentence says which rule failed.
    """
    if not mask.any():
        raise ValueError(
            f"{scan.scan_id}: no chest: 0 ml of air-like lung; expected a chest CT in HU; give a lung mask if it is one"
        )
    if not scan.spacing_known:
        return
    slice_cm2 = mask.sum(axis=(1, 2)) * scan.spacing_mm[1] * scan.spacing_mm[2] / 100
    litres = float(mask.sum()) * scan.voxel_ml / 1000
    visible = int((slice_cm2 >= VISIBLE_CM2).sum())
    found = (
        f"{scan.scan_id}: no chest: {1000 * litres:.0f} ml of air-like lung in {visible} of {len(mask)} slices, "
        f"at most {slice_cm2.max():.0f} cm2 in one"
    )
    hint = "give a lung mask if it is a chest CT"
    if slice_cm2.max() < CHEST_CM2:
        raise ValueError(f"{found}; expected at least {CHEST_CM2:.0f} cm2; {hint}")
    if litres < BASES_LITRES and 2 * visible < len(mask):
        raise ValueError(f"{found}; expected lung in half of the slices or at least {BASES_LITRES:.0f} litre; {hint}")
    median = float(np.median(scan.hu[mask]))
    if median < GAS_BELOW_HU:
        raise ValueError(f"{found}, of {median:.0f} HU, which is gas; expected {GAS_BELOW_HU} HU or more; {hint}")


def lung_warnings(scan: Scan, mask: BoolArray) -> tuple[str, ...]:
    """Say what is unusual about a lung mask.

    Args:
        scan: The scan.
        mask: bool (Z, Y, X), not empty.

    Returns:
        A sentence for each finding.
    """
    return ()
