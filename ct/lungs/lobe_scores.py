"""CT severity score: of each of the five lobes by the share of it that is involved, and their sum for both lungs.

Pan et al., "Time course of lung changes at chest CT during recovery from coronavirus disease 2019 (COVID-19)",
Radiology 295 (2020): a lobe's score is 0 without involvement, 1 for less than 5 % of the lobe, 2 for 5 to 25 %, 3 for
26 to 49 %, 4 for 50 to 75 %, and 5 for more; the score of both lungs is their sum.
"""

import numpy as np
from numpy.typing import NDArray

from ct.lungs.fissure_shapes import LOBES

# Limits of the involved share of a lobe between its scores; to which of both a limit itself belongs, `score_of` says.
# Below the first there are specks only.
LIMITS = (0.001, 0.05, 0.25, 0.50, 0.75)
DEFINITION = "0 none (< {0}), 1 below {1}, 2 up to {2}, 3 below {3}, 4 up to {4}, 5 above {4} of the lobe".format(
    *(f"{100 * limit:g} %" for limit in LIMITS)
)
# Keys of measurements: of the sum, of the score of each lobe, and of all.
SUM = "ct_severity_score"
LOBE_SCORES = {lobe: f"{lobe}_score" for lobe in LOBES}
SCORES = (*LOBE_SCORES.values(), SUM)
HIGHEST_OF_LOBE = len(LIMITS)
HIGHEST = {SUM: HIGHEST_OF_LOBE * len(LOBES)} | dict.fromkeys(LOBE_SCORES.values(), HIGHEST_OF_LOBE)


def score_of(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the score 0 to 5 of involved shares of lobes (Pan et al., Radiology 2020; see `DEFINITION`).

    A share of exactly 5 % scores 2, of 25 % 2, of 50 % 4, of 75 % 4.
    """
    from_here = np.array([LIMITS[0], LIMITS[1], np.nextafter(LIMITS[2], 1), LIMITS[3], np.nextafter(LIMITS[4], 1)])
    return np.searchsorted(from_here, share, side="right")
