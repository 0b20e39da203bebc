"""How far the volumes of a model may be off, as validation scans with truth have shown (split conformal prediction)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ct.refusal import Refusal, Sentence, Word
from inference.result import Measurements, ModelCard
from machine.whole_file import write_json

NAME = "calibration.json"
# An error is judged against the predicted volume and this share of the lungs: what is not found has an interval too.
LUNG_SHARE = 0.01
AGAIN = "delete it, or make it again: python -m inference.calibrate"
OTHER_USE = Sentence(
    "volumes have no interval: the calibration of this checkpoint is for other members, flips or kinds of lung mask"
)


@dataclass(frozen=True)
class Calibration:
    """Intervals of volumes.

    In exchange for one assumption, that a new patient could have been one of the validation set (same kind of scanner,
    disease and lung mask), the true volume of a finding lies in its interval with at least the stated probability,
    whatever the model (Vovk et al. 2005; Lei et al., J. Am. Stat. Assoc. 2018). It holds for each finding by itself.

    Attributes:
        checkpoints_sha256: Of the models that were calibrated.
        flips: As in `ModelCard`.
        lung_source: How the lungs were found.
        coverage: Share of new patients whose interval holds the truth, at least.
        patients: Validation patients behind it.
        error: By finding, the largest error to allow for, in units of `unit_ml`.
    """

    checkpoints_sha256: tuple[str, ...]
    flips: int
    lung_source: str
    coverage: float
    patients: int
    error: Mapping[str, float]

    def fits(self, model: ModelCard, lung_source: str) -> bool:
        """Whether a scan was segmented as the validation scans were."""
        used = (model.checkpoints_sha256, model.flips, lung_source)
        return used == (self.checkpoints_sha256, self.flips, self.lung_source)

    def interval(self, finding: str, ml: float, lung_ml: float) -> tuple[float, float]:
        """(low, high) in ml of a predicted volume in lungs of a size; never below 0."""
        reach = self.error[finding] * unit_ml(ml, lung_ml)
        return max(ml - reach, 0.0), ml + reach

    def intervals(self, measured: Mapping[str, float | None]) -> Measurements:
        """`<finding>_ml_low` and `_high` of a scan's measurements, and `interval_coverage`.

        Volumes that are None, since the spacing is unknown, have intervals that are None.
        """
        found: Measurements = {}
        for finding in self.error:
            ml, lung_ml = measured[f"{finding}_ml"], measured["lung_ml"]
            known = ml is not None and lung_ml is not None
            low, high = self.interval(finding, ml, lung_ml) if known else (None, None)  # type: ignore[arg-type]
            found |= {f"{finding}_ml_low": low, f"{finding}_ml_high": high}
        return found | {"interval_coverage": self.coverage}


def unit_ml(ml: float, lung_ml: float) -> float:
    """What an error is measured in: larger lesions are misjudged by more."""
    return ml + LUNG_SHARE * lung_ml


def conformal_quantile(scores: Sequence[float], coverage: float) -> float:
    """The score that a new one exceeds with probability 1 - coverage at most.

    Args:
        scores: Of the validation patients, exchangeable with the new one.
        coverage: Between 0 and 1.

    Returns:
        The ceil((n + 1) coverage)-th smallest.

    Raises:
        ValueError: There are too few scores for this coverage.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        least, most = math.ceil(coverage / (1 - coverage) - 1e-9), len(scores) / (len(scores) + 1)
        raise Refusal(
            "{count} validation patients with truth cannot show a coverage of {coverage:.0%}, which needs "
            "{least}; give more of them, or ask for --coverage {possible}",
            count=len(scores),
            coverage=coverage,
            least=least,
            possible=math.floor(100 * most) / 100,
        )
    return sorted(scores)[rank - 1]


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write calibration.json, whole or not at all."""
    write_json(asdict(calibration), path)


def read_calibration(path: Path, model: ModelCard) -> Calibration:
    """Read the calibration beside the first checkpoint of a model.

    Raises:
        ValueError: The file cannot be read, or it is of another checkpoint.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**found | {"checkpoints_sha256": tuple(found["checkpoints_sha256"])})
        _check_numbers(calibration)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            "{path} is no calibration ({error}); {again}", path=path, error=error, again=Word(AGAIN)
        ) from error
    if model.checkpoints_sha256[0] not in calibration.checkpoints_sha256:
        raise Refusal(
            "{path} is of another checkpoint than the one beside it, so its intervals are wrong; {again}",
            path=path,
            again=Word(AGAIN),
        )
    return calibration


def _check_numbers(calibration: Calibration) -> None:
    """Refuse what a hand has changed to something else than numbers, before it stops a batch in its midst."""
    if not 0 < calibration.coverage < 1:
        raise Refusal("its coverage is {coverage!r}, expected a share between 0 and 1", coverage=calibration.coverage)
    for finding, error in calibration.error.items():
        if not 0 <= error < math.inf:
            raise Refusal(
                "its error of {finding} is {error!r}, expected a number of at least 0", finding=finding, error=error
            )
