"""A segmented scan drawn by hand: every voxel, and so every number of its outputs, is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct.classes import EM
from ct.scan import Grid, Scan
from inference.result import Masks, Member, ModelCard, Result

SHAPE = (9, 40, 48)
SPACING_MM = (5.0, 2.0, 1.5)
VOXEL_ML = 5.0 * 2.0 * 1.5 / 1000
MEMBERS = Member(48, 48, 1, {"consolidation": 0.654}, {"consolidation": 6}), Member()
CARD = ModelCard("consolidation", "unet_em", ("a" * 64, "b" * 64), 2, 64, "0.1.0", MEMBERS)
# Two lungs of 8 slices; the infection lies low, at the back, in the patient's left lung.
LUNGS = (slice(1, 9), slice(8, 32), slice(6, 20)), (slice(1, 9), slice(8, 32), slice(28, 42))
INFECTION = slice(2, 4), slice(22, 30), slice(30, 40)
CONSOLIDATION = slice(3, 4), slice(24, 28), slice(32, 38)


def make_result(**changes: Any) -> Result:
    """The result, with fields of `Result` changed; its scan is different in every voxel."""
    masks: Masks = {name: np.zeros(SHAPE, bool) for name in ("lungs", "infection", "consolidation")}
    for lung in LUNGS:
        masks["lungs"][lung] = True
    masks["infection"][INFECTION] = True
    masks["consolidation"][CONSOLIDATION] = True
    z, y, x = np.indices(SHAPE)
    hu = np.where(masks["lungs"], -850, 40) + 3 * y + 2 * x + 10 * z
    hu[masks["infection"]] = -500
    result = Result(
        name="B007",
        source=Path("/secret/DOE_JANE"),
        scan=make_scan(hu.astype(np.int16)),
        masks=masks,
        measurements=measurements(masks),
        lung_source="classical",
        warnings=(),
        flags=(),
        model=CARD,
        classes=EM,
    )
    return replace(result, **changes)


def make_scan(hu: NDArray[np.int16], **changes: Any) -> Scan:
    """A scan of the grid above, or of another size."""
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    scan = Scan(hu, affine, Grid(hu.shape[::-1], affine), "DOE_JANE", "secret site")
    return replace(scan, **changes)


def measurements(masks: Masks) -> dict[str, float | None]:
    """What the masks measure, and an uncertainty that is made up."""
    voxels = {name: int(mask.sum()) for name, mask in masks.items()}
    found = {f"{name}_ml": count * VOXEL_ML for name, count in voxels.items() if name != "lungs"}
    lower = int(masks["infection"][:4, :, 24:].sum()), int(masks["lungs"][1:4, :, 24:].sum())
    return {
        "lung_ml": voxels["lungs"] * VOXEL_ML,
        **found,
        "severity_score": voxels["infection"] / voxels["lungs"],
        "consolidation_score": voxels["consolidation"] / voxels["lungs"],
        "left_infection_share": voxels["infection"] / (voxels["lungs"] / 2),
        "left_infection_ml": found["infection_ml"],
        "right_infection_share": 0.0,
        "right_infection_ml": 0.0,
        "left_lower_infection_share": lower[0] / lower[1],
        "left_lower_infection_ml": lower[0] * VOXEL_ML,
        "infection_mean_hu": -500.0,
        "infection_ml_spread": 0.25,
        "infection_ml_low": 1.5,
        "infection_ml_high": 3.25,
        "interval_coverage": 0.9,
    }
