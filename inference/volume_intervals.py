"""Intervals of a model's volumes by split conformal prediction on validation scans with truth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ct.refusal import Refusal, Sentence, Word
from inference.result import Measurements, ModelCard
from machine.whole_file import write_json
from training.model_folder import CALIBRATION

NAME = CALIBRATION
# The unit of an error is the predicted volume and this share of the lungs, so that a volume of 0 has an interval too.
LUNG_SHARE = 0.01
REMEDY = "delete it, or make it again: python -m inference.calibrate"
OTHER_SETTINGS = Sentence(
    "volumes have no interval: the calibration of this checkpoint is for other members, flips or kinds of lung mask"
)


@dataclass(frozen=True)
class Calibration:
    """Intervals of volumes.

    Assume that a new patient is exchangeable with the validation patients (same kind of scanner, disease and lung
    mask). Then the true volume of a finding lies in its interval with at least the stated probability, whatever the
    model (Vovk et al. 2005; Lei et al., J. Am. Stat. Assoc. 2018). This holds for each finding by itself.

    Attributes:
        checkpoints_sha256: Hashes of the calibrated checkpoints.
        flips: As in `ModelCard`.
        lung_source: As in `Result`.
        coverage: Share of new patients whose interval holds the truth, at least.
        patients: Number of validation patients.
        error: By finding, the half-width of the interval in units of `unit_ml`.
    """

    checkpoints_sha256: tuple[str, ...]
    flips: int
    lung_source: str
    coverage: float
    patients: int
    error: Mapping[str, float]

    def fits(self, model: ModelCard, lung_source: str) -> bool:
        """Tell whether a scan was segmented with the settings of the calibration."""
        settings = (model.checkpoints_sha256, model.flips, lung_source)
        return settings == (self.checkpoints_sha256, self.flips, self.lung_source)

    def interval(self, finding: str, ml: float, lung_ml: float) -> tuple[float, float]:
        """Return (low, high) in ml of a predicted volume in lungs of `lung_ml`; never below 0."""
        half_width = self.error[finding] * unit_ml(ml, lung_ml)
        return max(ml - half_width, 0.0), ml + half_width

    def intervals(self, measured: Mapping[str, float | None]) -> Measurements:
        """Return `<finding>_ml_low` and `_high` of a scan's measurements, and `interval_coverage`.

        Without a known spacing, volumes and their intervals are None.
        """
        ends: Measurements = {}
        for finding in self.error:
            ml, lung_ml = measured[f"{finding}_ml"], measured["lung_ml"]
            low, high = (None, None) if ml is None or lung_ml is None else self.interval(finding, ml, lung_ml)
            ends |= {f"{finding}_ml_low": low, f"{finding}_ml_high": high}
        return ends | {"interval_coverage": self.coverage}


def unit_ml(ml: float, lung_ml: float) -> float:
    """Return the unit of an error, which grows with the lesion as errors do."""
    return ml + LUNG_SHARE * lung_ml


def conformal_quantile(scores: Sequence[float], coverage: float) -> float:
    """Return the bound that a new patient's score exceeds with probability at most 1 - coverage.

    Args:
        scores: Scores of the validation patients, exchangeable with the new one.
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
        values = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**values | {"checkpoints_sha256": tuple(values["checkpoints_sha256"])})
        _check_numbers(calibration)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            "{path} is no calibration ({error}); {remedy}", path=path, error=error, remedy=Word(REMEDY)
        ) from error
    if model.checkpoints_sha256[0] not in calibration.checkpoints_sha256:
        raise Refusal(
            "{path} is of another checkpoint than the one beside it, so its intervals are wrong; {remedy}",
            path=path,
            remedy=Word(REMEDY),
        )
    return calibration


def _check_numbers(calibration: Calibration) -> None:
    """Refuse values that are no valid numbers, as edits by hand leave them, before they stop a batch midway."""
    if not 0 < calibration.coverage < 1:
        raise Refusal("its coverage is {coverage!r}, expected a share between 0 and 1", coverage=calibration.coverage)
    for finding, error in calibration.error.items():
        if not 0 <= error < math.inf:
            raise Refusal(
                "its error of {finding} is {error!r}, expected a number of at least 0", finding=finding, error=error
            )
