"""Flags of unusual scans and lungs, for which a result may be wrong although nothing failed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ct.grey_window import unusual_windows
from ct.lungs.classical import COARSE_MM
from ct.lungs.dense import dense_lung
from ct.lungs.plausibility import HEIGHT_MM, LITRES
from ct.lungs.sides import left_right
from ct.refusal import Sentence
from ct.resample import coarser_grid
from ct.scan import Scan
from training.training_set import TrainingSet

BoolArray = NDArray[np.bool_]

UNASKED = Sentence(
    "the HU are an estimate: a slice image has grey values only, and nobody declared what they stand for; "
    "a cohort.csv can, in grey_low_hu and grey_high_hu"
)

NO_TRAINING_SET = Sentence(
    "the checkpoint does not say what it was trained on, so nobody knows whether this scan is unlike that; "
    "one trained by this version does"
)
# Lung area at a border of the scan, as a share of the largest section in that direction. Whole chests show 2 %
# (patients) to 42 % (phantoms, which are blunt, in thick slices) at their last slices, and none at their sides.
CUT_SHARE = {"z": 0.5, "y": 0.1, "x": 0.1}
BORDERS = (
    ("z", 0, "foot"),
    ("z", -1, "head"),
    ("y", 0, "front"),
    ("y", -1, "back"),
    ("x", 0, "right"),
    ("x", -1, "left"),
)
# Dense tissue beside the mask, as a share of it: up to 3.6 % at hilum and diaphragm of 46 good masks (by readers or
# algorithms, phantoms and patients); 6.5 to 22 % in seven of 8 masks without their dense tissue, 3.4 % in the eighth.
LEFT_OUT_SHARE = 0.05
GAS_BELOW_HU = -900


def beyond_lungs(called: BoolArray, found: BoolArray) -> Iterator[Sentence]:
    """Warn of findings outside the lungs that were found, which a model that learned on whole images may have.

    Args:
        called: bool (Z, Y, X), the lungs of the answer.
        found: bool (Z, Y, X), those that were found or given.
    """
    beyond = np.count_nonzero(called & ~found)
    if beyond:
        yield Sentence(
            "the model learned on whole images, and {percent} % of what is called lung are its findings outside the "
            "lungs that were found; give a lung mask to have it answer inside that alone",
            percent=round(100 * beyond / np.count_nonzero(called), 1),
        )


def find_flags(
    scan: Scan,
    lung: BoolArray,
    histogram: NDArray[np.int64],
    features: NDArray[np.floating],
    training: TrainingSet | None,
) -> tuple[str, ...]:
    """Flag what is unusual about a scan, whatever a model answers.

    Args:
        scan: The scan.
        lung: bool (Z, Y, X), the lungs on its canonical grid, not empty.
        histogram: `training.training_set.lung_histogram` of the prepared scan.
        features: (N, C), deepest features of its slices with lung by the (first) model.
        training: The training set of that model; None where its checkpoint has none (see `NO_TRAINING_SET`).

    Returns:
        A sentence for each: volume of the lungs out of range, little lung, field of view that cuts the lungs, opacity
        outside the lungs' mask, and HU or features far from training. Sizes are judged where the spacing is known.
    """
    sizes = [*_unusual_size(scan, lung), *_left_out(scan, lung)] if scan.spacing_known else []
    return (*sizes, *_cut(lung), *_far(histogram, features, training))


def grey_flags(scan: Scan, asked: bool) -> tuple[str, ...]:
    """Flag HU that were estimated without anybody asking for it, and unusual estimates.

    Args:
        scan: The scan.
        asked: Whether the user declared what its grey values are, be it by `auto`.
    """
    return ((UNASKED,) if scan.estimated_windows and not asked else ()) + unusual_windows(scan.grey_windows)


def _unusual_size(scan: Scan, lung: BoolArray) -> Iterator[str]:
    litres = np.count_nonzero(lung) * scan.voxel_ml / 1000
    if not LITRES[0] <= litres <= LITRES[1]:
        yield (
            f"the lungs measure {litres:.2f} litres, outside the {LITRES[0]:.0f} to {LITRES[1]:.0f} of a whole chest: "
            "look at their mask"
        )
    slices = np.flatnonzero(lung.any((1, 2)))
    height_mm = float(slices[-1] - slices[0] + 1) * scan.spacing_mm[0]
    if height_mm < HEIGHT_MM:
        yield f"little lung: {height_mm:.0f} mm of height, less than {HEIGHT_MM:.0f}; shares are those of a part only"


def _cut(lung: BoolArray) -> Iterator[str]:
    """Flag borders of the scan that cut through the lungs."""
    for axis, side, share in _cut_borders(lung):
        yield (
            f"the field of view is partial: the scan's border at the {side} shows {share:.0%} of the lungs' "
            f"largest section, more than {CUT_SHARE[axis]:.0%}; volumes are of what is seen"
        )


def cut_ends(lung: BoolArray) -> list[str]:
    """Return at which ends of the body, "foot" and "head", the scan's border cuts through the lungs (Z, Y, X)."""
    return [side for axis, side, _ in _cut_borders(lung) if axis == "z"]


def _cut_borders(lung: BoolArray) -> Iterator[tuple[str, str, float]]:
    """Yield axis, side and share of the largest section of each border that cuts through the lungs."""
    for axis, name in enumerate("zyx"):
        if lung.shape[axis] == 1:  # one slice alone cannot show a border of the lungs
            continue
        areas = lung.sum(tuple({0, 1, 2} - {axis}))
        for letter, index, side in BORDERS:
            share = float(areas[index] / areas.max()) if letter == name else 0.0
            if share > CUT_SHARE[name]:
                yield name, side, share


def _left_out(scan: Scan, lung: BoolArray) -> Iterator[str]:
    """Flag tissue beside the mask that looks like opaque lung, by the method of the classical lungs."""
    grid = coarser_grid(scan.hu.shape, scan.spacing_mm, COARSE_MM)
    inside = grid.apply_mask(lung) > 0  # nearest neighbours, which need no copy of the whole mask
    if not inside.any():
        return
    hu = grid.apply_hu(scan.hu)
    gas = (hu < GAS_BELOW_HU) & ~inside
    opaque = dense_lung(hu, left_right(inside, grid.spacing_mm), gas, grid.spacing_mm) > 0
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    ml, lung_ml = float(opaque.sum()) * voxel_ml, float(inside.sum()) * voxel_ml
    if ml > LEFT_OUT_SHARE * lung_ml:
        yield (
            f"opacity outside the lungs: about {ml:.0f} ml of dense tissue lie where lung should be but outside of its "
            "mask, and were not looked at; give a lung mask that holds them"
        )


def _far(histogram: NDArray[np.int64], features: NDArray[np.floating], training: TrainingSet | None) -> Iterator[str]:
    if training is None:
        return
    distances = {
        "the HU in the lungs": (training.hu_distance(histogram), training.hu_distances, " HU"),
        "the network's features": (training.feature_distance(features), training.feature_distances, ""),
    }
    for label, (distance, (usual, most), unit) in distances.items():
        if distance > most:
            yield (
                f"unlike the {training.scans} training scans: {label} are {distance:.3g}{unit} away from theirs, which "
                f"differ from each other by {usual:.3g}{unit} usually and {most:.3g}{unit} at most; look at the masks"
            )
