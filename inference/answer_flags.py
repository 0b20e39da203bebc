"""Flags of implausible answers: findings whose density, extent or shape does not fit their name.

The figures behind the limits are of `unet_em` on 28 phantoms of four sites and five scans of patients (good answers),
of stage 1 after 3 epochs and stage 2 after 2 (poor ones), and of readers' masks of COVID-19 (50 of MosMedData, whole
volumes; 6 patients of COVID-19-CT-Seg and 50 slices of MedSeg, in HU as far as grey values tell them).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ct.classes import ClassSet
from ct.lungs.classical import COARSE_MM
from ct.mask_shapes import open_by_ball
from ct.refusal import Sentence
from ct.resample import coarser_grid
from ct.scan import Scan
from inference.measure import consolidation_key
from inference.result import Masks

DECLARED_GREYS = Sentence("HU are declared greys, so the density of the findings was not judged")
ESTIMATED_GREYS = Sentence("HU are estimated from grey values, so the density of the findings was not judged")

Measured = Mapping[str, float | None]

# Infected share of the lungs: 0.30 at most in good answers, 0.36 on 28 further phantoms; 0.29 in readers' masks.
MOST_SHARE = 0.9
# Share of the lungs below which a finding has too few voxels to judge its density.
JUDGED_SHARE = 0.005
# Well-aerated lung is -950 to -700 HU (Colombi et al., Radiology 2020). Means of infection: -156 to -556 HU in good
# answers, -341 to -650 in readers' masks of patients.
AERATED_HU = -700
# Mean HU of infection above that of the rest of the lungs: 192 HU at least in readers' masks, 218 in good answers.
LEAST_CONTRAST_HU = 100
# Means of consolidation: -102 to -278 HU in good answers, -279 to -495 after 2 epochs, which was -400 and lighter where
# there was none at all. Ground glass of the phantom is -650 to -420 HU.
DENSE_HU = -400
# Pieces of infection nowhere as thick as twice this radius, as a share of all of it where that is a hundredth of the
# lungs or more: 0.24 at most in 31 whole readers' masks, 0.05 in good answers; 0.32 in a healthy patient, where shells
# of chest wall and liver were called infected.
LEAST_RADIUS_MM, MOST_THIN, SHAPED_SHARE = 5.0, 0.3, 0.01
# Mean bits of entropy in the lungs, of a network trained on hard labels: 0.003 to 0.033 in good answers (0.041 on 28
# further phantoms), 0.071 at most where four flips are averaged; 0.142 to 0.218 in poor ones. Networks
# trained on soft labels are undecided on purpose, so those are not judged.
MOST_ENTROPY = 0.1
# Range of the averaged answers' shares of the lungs, as a share of their mean; less than a hundredth of the lungs does
# not matter. Flips of a good model: 0.08 for infection.
MOST_RANGE, LEAST_RANGE = 0.5, 0.01


def answer_flags(
    scan: Scan, masks: Masks, classes: ClassSet, measured: Measured, shares: Mapping[str, Sequence[float]]
) -> tuple[str, ...]:
    """Flag what makes an answer implausible.

    Args:
        scan: The scan.
        masks: Its masks, as in `inference.result.Result`.
        classes: The model's class set.
        measured: Its measurements, with the entropy. Mean HU are not judged where HU come from grey values.
        shares: By finding, the share of the lungs in every single answer that was averaged.

    Returns:
        A sentence for each: nearly all of the lungs infected, infection as light as aerated lung or hardly denser than
        the rest, consolidation no denser than ground glass, infection in specks and shells, answers that differ, and a
        network that is undecided.
    """
    densities = (
        ()
        if scan.grey_windows
        else (
            *_infection_hu(measured, classes),
            *_consolidation_hu(measured, consolidation_key(classes, "groups" in masks)),
        )
    )
    shapes = _thin(scan, masks[classes.findings[0].key], measured) if scan.spacing_known else ()
    return (*_nearly_all(measured), *densities, *shapes, *_disagreement(shares, classes), *_undecided(masks, measured))


def _nearly_all(measured: Measured) -> Iterator[str]:
    share = measured["severity_score"]
    if share is not None and not share <= MOST_SHARE:
        yield f"implausible: {share:.0%} of the lungs is called infected, more than {MOST_SHARE:.0%}; look at the masks"


def _infection_hu(measured: Measured, classes: ClassSet) -> Iterator[str]:
    outermost = f"{classes.findings[0].key}_mean_hu"
    share, hu, lung_hu = (measured[key] for key in ("severity_score", outermost, "lung_mean_hu"))
    if share is None or hu is None or lung_hu is None or share < JUDGED_SHARE:
        return
    if not hu >= AERATED_HU:
        yield (
            f"implausible: what is called infected has the HU of aerated lung, {hu:.0f} on average; expected at least "
            f"{AERATED_HU}; look at the masks"
        )
    elif share <= MOST_SHARE:
        rest_hu = (lung_hu - share * hu) / (1 - share)
        if not hu - rest_hu >= LEAST_CONTRAST_HU:
            yield (
                f"implausible: what is called infected is hardly denser than the rest of the lungs, {hu:.0f} HU on "
                f"average against {rest_hu:.0f}; expected {LEAST_CONTRAST_HU} more at least; look at the masks"
            )


def _consolidation_hu(measured: Measured, key: str) -> Iterator[str]:
    share, hu = measured.get("consolidation_score"), measured.get(f"{key}_mean_hu")
    if share is not None and hu is not None and share >= JUDGED_SHARE and not hu >= DENSE_HU:
        yield (
            f"implausible: what is called consolidation has the HU of ground glass, {hu:.0f} on average; expected at "
            f"least {DENSE_HU}; look at the masks"
        )


def _thin(scan: Scan, infected: NDArray[Any], measured: Measured) -> Iterator[str]:
    """Flag infection in pieces nowhere as thick as a lesion: specks, and shells along the lungs' border."""
    share = measured["severity_score"]
    if share is None or share < SHAPED_SHARE:
        return
    grid = coarser_grid(scan.hu.shape, scan.spacing_mm, COARSE_MM)
    infection = grid.apply_mask(infected) > 0
    components, count = ndimage.label(infection, np.ones((3, 3, 3)))
    thick = np.unique(components[open_by_ball(infection, LEAST_RADIUS_MM, grid.spacing_mm)])
    thin = float((infection & ~np.isin(components, thick)).sum() / max(1, int(infection.sum())))
    if not thin <= MOST_THIN:
        yield (
            f"implausible: {thin:.0%} of what is called infected lies in {count - len(thick)} specks and shells that "
            f"are nowhere {2 * LEAST_RADIUS_MM:.0f} mm thick; expected {MOST_THIN:.0%} at most; look at the masks"
        )


def _disagreement(shares: Mapping[str, Sequence[float]], classes: ClassSet) -> Iterator[str]:
    for finding, values in shares.items():
        low, high = np.min(values), np.max(values)  # unlike Python's, NaN if any is NaN
        if not high - low <= max(LEAST_RANGE, MOST_RANGE * float(np.mean(values))):
            yield (
                "the answers that were averaged (of members or flips) disagree: "
                f"{classes.name_of(finding)} is {low:.1%} to {high:.1%} of the lungs; expected a range of at most "
                f"{MOST_RANGE:.0%} of the mean"
            )


def _undecided(masks: Masks, measured: Measured) -> Iterator[str]:
    entropy = measured["entropy_in_lungs_bits"]
    if "groups" not in masks and entropy is not None and not entropy <= MOST_ENTROPY:
        yield (
            f"the model is undecided: {entropy:.2f} bits of entropy on average in the lungs, more than {MOST_ENTROPY}, "
            "as after too short a training"
        )
