"""Plausibility of a lung mask, and refusal of scans that show no chest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ct.lungs.rib_cage import BODY_ABOVE_HU
from ct.lungs.sides import LEFT, RIGHT, left_right
from ct.refusal import Refusal, Sentence, Word
from ct.scan import Scan

BoolArray = npt.NDArray[np.bool_]

# Sinuses, mastoid cells and bowel stay below this area in one slice; a chest shows it even where one lung is collapsed.
CHEST_CM2 = 40.0
# Less lung than this, in less than half of the slices, is the edge of a scan of the abdomen or the neck.
BASES_LITRES = 1.0
VISIBLE_CM2 = 5.0
# Gas is -1000 HU; lungs, even emphysematous ones, have vessels and walls.
GAS_BELOW_HU = -950
# What a whole chest shows; values outside of it are worth a warning.
LITRES = (1.0, 9.0)
HEIGHT_MM = 120.0
SMALLER_LUNG_SHARE = 0.2
BODY_SHARE = (0.08, 0.65)
MOST_SIDES = 2
MEDIAN_HU = (-970.0, -500.0)
# Finer voxels do not improve the sizes of the sides.
SIDES_GRID_MM = 3.0


def refuse_other_body_parts(scan: Scan, mask: BoolArray) -> None:
    """Refuse a scan in which no chest was found.

    A chest shows at least 40 cm2 of lung in one slice (sinuses and mastoid cells do not), is not just gas (median below
    -950 HU: bowel), and has lung in half of its slices or 1 litre of it (an abdomen or a neck shows some lung at
    its edge). Without spacing, some lung is all that can be asked for.

    Args:
        scan: The scan.
        mask: bool (Z, Y, X), the lungs that were found.

    Raises:
        ValueError: The scan shows no chest; the sentence says which rule failed.
    """
    if not mask.any():
        raise Refusal(
            "{scan}: no chest: 0 ml of air-like lung; expected a chest CT in HU; give a lung mask if it is one",
            scan=scan.scan_id,
        )
    if not scan.spacing_known:
        return
    slice_cm2 = mask.sum(axis=(1, 2)) * scan.spacing_mm[1] * scan.spacing_mm[2] / 100
    litres = np.count_nonzero(mask) * scan.voxel_ml / 1000
    visible = int((slice_cm2 >= VISIBLE_CM2).sum())
    extent = Sentence(
        "{scan}: no chest: {ml:.0f} ml of air-like lung in {visible} of {slices} slices, at most {cm2:.0f} cm2 in one",
        scan=scan.scan_id,
        ml=1000 * litres,
        visible=visible,
        slices=len(mask),
        cm2=slice_cm2.max(),
    )
    hint = Word("give a lung mask if it is a chest CT")
    if slice_cm2.max() < CHEST_CM2:
        raise Refusal("{extent}; expected at least {least:.0f} cm2; {hint}", extent=extent, least=CHEST_CM2, hint=hint)
    if litres < BASES_LITRES and 2 * visible < len(mask):
        raise Refusal(
            "{extent}; expected lung in half of the slices or at least {least:.0f} litre; {hint}",
            extent=extent,
            least=BASES_LITRES,
            hint=hint,
        )
    median = float(np.median(scan.hu[mask]))
    if median < GAS_BELOW_HU:
        raise Refusal(
            "{extent}, of {median:.0f} HU, which is gas; expected {least} HU or more; {hint}",
            extent=extent,
            median=median,
            least=GAS_BELOW_HU,
            hint=hint,
        )


def lung_warnings(scan: Scan, mask: BoolArray) -> tuple[Sentence, ...]:
    """Describe what is unusual about a lung mask, whatever its source.

    Without spacing, only the share of the body, the image's sides and the density can be judged.

    Args:
        scan: The scan.
        mask: bool (Z, Y, X), not empty.

    Returns:
        A sentence for each finding; none for a whole chest with two lungs.
    """
    warnings = _size_warnings(scan, mask) if scan.spacing_known else []
    share = _share_of_body(scan.hu, mask)
    if not BODY_SHARE[0] <= share <= BODY_SHARE[1]:
        low, high = BODY_SHARE
        text = "the lungs fill {share:.0%} of the body in their slices; expected {low:.0%} to {high:.0%}"
        warnings.append(Sentence(text, share=share, low=low, high=high))
    sides = _sides_touched(mask)
    if sides > MOST_SIDES:
        text = "the lungs touch {sides} of the image's 4 sides; expected at most {most}"
        warnings.append(Sentence(text, sides=sides, most=MOST_SIDES))
    median = float(np.median(scan.hu[mask]))
    if not MEDIAN_HU[0] <= median <= MEDIAN_HU[1]:
        low, high = MEDIAN_HU
        text = "the lungs have a median of {median:.0f} HU; expected {low:.0f} to {high:.0f}"
        warnings.append(Sentence(text, median=median, low=low, high=high))
    return tuple(warnings)


def _size_warnings(scan: Scan, mask: BoolArray) -> list[Sentence]:
    warnings = []
    litres = np.count_nonzero(mask) * scan.voxel_ml / 1000
    if not LITRES[0] <= litres <= LITRES[1]:
        low, high = LITRES
        text = "the lungs measure {litres:.2f} litres; a whole chest has {low:.0f} to {high:.0f}"
        warnings.append(Sentence(text, litres=litres, low=low, high=high))
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    height_mm = float(slices[-1] - slices[0] + 1) * scan.spacing_mm[0]
    if height_mm < HEIGHT_MM:
        text = "the lungs are seen over {height:.0f} mm of height; a whole chest has {least:.0f} or more"
        warnings.append(Sentence(text, height=height_mm, least=HEIGHT_MM))
    steps = [max(1, round(SIDES_GRID_MM / mm)) for mm in scan.spacing_mm]
    coarse = mask[:: steps[0], :: steps[1], :: steps[2]]
    z_mm, y_mm, x_mm = (mm * step for mm, step in zip(scan.spacing_mm, steps, strict=True))
    sides = left_right(coarse, (z_mm, y_mm, x_mm))
    right, left = int((sides == RIGHT).sum()), int((sides == LEFT).sum())
    if min(right, left) < SMALLER_LUNG_SHARE * max(right, left):
        name, other = (Word("right"), Word("left")) if right < left else (Word("left"), Word("right"))
        share = min(right, left) / max(right, left)
        text = "the {name} lung has {share:.0%} of the {other} lung's size; expected {least:.0%} or more"
        warnings.append(Sentence(text, name=name, share=share, other=other, least=SMALLER_LUNG_SHARE))
    return warnings


def _share_of_body(hu: npt.NDArray[np.int16], mask: BoolArray) -> float:
    """Return the share of lung among lung and tissue, in the slices that show lung."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    body = sum(np.count_nonzero((hu[z] > BODY_ABOVE_HU) | mask[z]) for z in slices)
    return np.count_nonzero(mask) / body


def _sides_touched(mask: BoolArray) -> int:
    edges = (mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    return sum(bool(edge.any()) for edge in edges)
