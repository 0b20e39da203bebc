"""Is this lung mask plausible, and does the scan show a chest at all?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ct.lung_sides import LEFT, RIGHT, left_right
from ct.rib_cage import BODY_ABOVE_HU
from ct.scan import Scan

BoolArray = npt.NDArray[np.bool_]

# Sinuses, mastoid cells and bowel stay below this area in one slice; a chest shows it even where one lung is collapsed.
CHEST_CM2 = 40.0
# Less lung than this, in less than half of the slices, is the edge of a scan of the abdomen or the neck.
BASES_LITRES = 1.0
VISIBLE_CM2 = 5.0
# Gas is -1000 HU; lungs, even emphysematous ones, have vessels and walls.
GAS_BELOW_HU = -950
# What a whole chest shows; outside of it a sentence is due.
LITRES = (1.0, 9.0)
HEIGHT_MM = 120.0
SMALLER_LUNG_SHARE = 0.2
BODY_SHARE = (0.08, 0.65)
MOST_SIDES = 2
MEDIAN_HU = (-970.0, -500.0)
# Finer voxels tell no more about the sides' sizes.
SIDES_GRID_MM = 3.0


def refuse_other_body_parts(scan: Scan, mask: BoolArray) -> None:
    """Refuse a scan in which no chest was found.

    A chest shows at least 40 cm2 of lung in one slice (sinuses and mastoid cells do not), is not just gas (median below
    -950 HU: bowel), and has lung in half of its slices or 1 litre of it (an abdomen or a neck shows some lung at
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
    litres = np.count_nonzero(mask) * scan.voxel_ml / 1000
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
    """Say what is unusual about a lung mask, whatever its source.

    Without spacing, only the share of the body, the image's sides and the density can be judged.

    Args:
        scan: The scan.
        mask: bool (Z, Y, X), not empty.

    Returns:
        A sentence for each finding; none for a whole chest with two lungs.
    """
    found = _size_warnings(scan, mask) if scan.spacing_known else []
    share = _share_of_body(scan.hu, mask)
    if not BODY_SHARE[0] <= share <= BODY_SHARE[1]:
        found.append(f"the lungs fill {share:.0%} of the body in their slices; expected {_between(BODY_SHARE, '.0%')}")
    sides = _sides_touched(mask)
    if sides > MOST_SIDES:
        found.append(f"the lungs touch {sides} of the image's 4 sides; expected at most {MOST_SIDES}")
    median = float(np.median(scan.hu[mask]))
    if not MEDIAN_HU[0] <= median <= MEDIAN_HU[1]:
        found.append(f"the lungs have a median of {median:.0f} HU; expected {_between(MEDIAN_HU, '.0f')}")
    return tuple(found)


def _size_warnings(scan: Scan, mask: BoolArray) -> list[str]:
    found = []
    litres = np.count_nonzero(mask) * scan.voxel_ml / 1000
    if not LITRES[0] <= litres <= LITRES[1]:
        found.append(f"the lungs measure {litres:.2f} litres; a whole chest has {_between(LITRES, '.0f')}")
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    height_mm = float(slices[-1] - slices[0] + 1) * scan.spacing_mm[0]
    if height_mm < HEIGHT_MM:
        found.append(f"the lungs are seen over {height_mm:.0f} mm of height; a whole chest has {HEIGHT_MM:.0f} or more")
    steps = [max(1, round(SIDES_GRID_MM / mm)) for mm in scan.spacing_mm]
    coarse = mask[:: steps[0], :: steps[1], :: steps[2]]
    z_mm, y_mm, x_mm = (mm * step for mm, step in zip(scan.spacing_mm, steps, strict=True))
    sides = left_right(coarse, (z_mm, y_mm, x_mm))
    right, left = int((sides == RIGHT).sum()), int((sides == LEFT).sum())
    if min(right, left) < SMALLER_LUNG_SHARE * max(right, left):
        name, other = ("right", "left") if right < left else ("left", "right")
        share = min(right, left) / max(right, left)
        found.append(
            f"the {name} lung has {share:.0%} of the {other} lung's size; expected {SMALLER_LUNG_SHARE:.0%} or more"
        )
    return found


def _share_of_body(hu: npt.NDArray[np.int16], mask: BoolArray) -> float:
    """Return the share of lung among lung and tissue, in the slices that show lung."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    body = sum(np.count_nonzero((hu[z] > BODY_ABOVE_HU) | mask[z]) for z in slices)
    return np.count_nonzero(mask) / body


def _sides_touched(mask: BoolArray) -> int:
    edges = (mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    return sum(bool(edge.any()) for edge in edges)


def _between(limits: tuple[float, float], style: str) -> str:
    return f"{limits[0]:{style}} to {limits[1]:{style}}"
