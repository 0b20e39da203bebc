"""Readers of the phantom: hard contours drawn from the fuzzy truth, by people who disagree in border and in class."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ct.classes import L3
from phantom.grid import Frame, Volume, smooth_noise
from phantom.lesions import EFFUSION, LYMPH_NODE

# A reader draws smooth outlines: the occupancy is blurred by this much in plane before it is cut.
HAND_SMOOTHNESS_MM = 3.4
INFECTION_CUT = 0.36
CONSOLIDATION_CUT = 0.42


class Hand(NamedTuple):
    """Manner in which a reader draws.

    Attributes:
        bias: Generosity: reduction of the filled fraction from which a voxel is outlined.
        wobble: Standard deviation of the bias from place to place (over 30 mm).
        taste: Standard deviation of the logarithm of the preference for a pattern over another.
    """

    bias: float = 0.0
    wobble: float = 0.05
    taste: float = 0.25


CAREFUL = Hand()


def read_contours(
    truth: dict[int, Volume], lungs: NDArray[np.uint8], frame: Frame, seed: int, manner: Hand = CAREFUL
) -> NDArray[np.int8]:
    """Draw one reader's pattern map, which includes vessels and bronchograms inside a lesion, as people draw.

    Args:
        truth: Fraction of each voxel per pattern code, (Z, Y, X).
        lungs: (Z, Y, X) 1 = left, 2 = right lung, 0 elsewhere.
        frame: The voxel grid.
        seed: The reader; the same seed draws the same contours.
        manner: Manner of drawing.

    Returns:
        int8 (Z, Y, X) class codes of paper L3: 0, 1, 2 (lungs), 3, 4 and 5..10.
    """
    rng = np.random.default_rng([seed, 0x5EAD])
    smooth = {code: _by_hand(frame, truth[code]) for code in truth}
    hand = manner.wobble * smooth_noise(rng, frame, 30) + rng.normal(0, 0.02) + manner.bias
    zero = np.zeros(frame.shape, np.float32)
    infection = sum((smooth[code] for code in L3.codes_of("infection")), zero)
    dense = sum((smooth[code] for code in L3.codes_of("consolidation")), zero)
    is_dense = (dense + hand > CONSOLIDATION_CUT) & (dense > 0.05) & (lungs > 0)
    is_infected = ((infection + hand > INFECTION_CUT) & (infection > 0.05) & (lungs > 0)) | is_dense

    codes = lungs.astype(np.int8)
    # Fluid and nodes lie beside the lungs, so they never compete with the infection.
    codes[(smooth[EFFUSION] > 0.5) & (lungs == 0)] = EFFUSION
    codes[(smooth[LYMPH_NODE] > 0.5) & (lungs == 0)] = LYMPH_NODE
    faint = tuple(code for code in L3.codes_of("infection") if code not in L3.codes_of("consolidation"))
    for group, region in ((faint, is_infected & ~is_dense), (L3.codes_of("consolidation"), is_dense)):
        codes[region] = _favourite(rng, frame, smooth, group, manner.taste)[region]
    return codes


def _by_hand(frame: Frame, occupancy: Volume) -> Volume:
    sigma = [0.0, HAND_SMOOTHNESS_MM / frame.spacing_mm[1], HAND_SMOOTHNESS_MM / frame.spacing_mm[2]]
    return gaussian_filter(occupancy.astype(np.float32), sigma)


def _favourite(
    rng: np.random.Generator, frame: Frame, smooth: dict[int, Volume], group: tuple[int, ...], taste: float
) -> NDArray[np.int8]:
    """Return the pattern of a group that the reader names at each voxel: taste differs by reader and by place."""
    scores = [
        smooth[code] * np.exp(rng.normal(0, 0.8 * taste) + taste * smooth_noise(rng, frame, 50)) for code in group
    ]
    return np.array(group, np.int8)[np.argmax(np.stack(scores), axis=0)]
