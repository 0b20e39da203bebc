"""CT severity score of the five lobes, with the interval that follows from what is uncertain about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import LOBE_SCORES, SCORES, SUM, score_of
from ct.lungs.lobes import DRAWN_MM, LEAST_VOXELS, Lobes, find_lobes
from ct.refusal import Sentence
from ct.resample import coarser_grid
from ct.scan import Scan
from inference.flags import cut_ends
from inference.result import Measurements
from inference.volume_intervals import unit_ml

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COVERAGE = 0.9
# A lung whose height is less shows no lobes that could be told apart.
LEAST_HEIGHT_MM = 100.0
# Share of the lungs that may lie in another lobe, above which the lobes are not trusted. Masks alone have 0.12, real
# scans of 4 mm slices, which hardly show fissures, 0.09, and 24 realistic phantoms 0.03 to 0.10.
MOST_DOUBT = 0.08
KEYS = tuple(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high"))


def lobes_of(scan: Scan, lung: BoolArray) -> tuple[Lobes | None, tuple[Sentence, ...]]:
    """Find the lobes of a scan, or say why it has none, and where they are not to be trusted.

    Args:
        scan: The scan.
        lung: bool (Z, Y, X), its lungs, not empty.
    """
    if not scan.spacing_known:
        return None, (Sentence("no lobes: the size of a pixel is unknown"),)
    slices = np.flatnonzero(lung.any((1, 2)))
    height_mm = float(slices[-1] - slices[0] + 1) * scan.spacing_mm[0]
    if height_mm < LEAST_HEIGHT_MM:
        text = "no lobes: the scan shows {height:.0f} mm of lung; expected at least {least:.0f} mm of height"
        return None, (Sentence(text, height=height_mm, least=LEAST_HEIGHT_MM),)
    if ends := cut_ends(lung):
        text = "no lobes: the scan cuts the lungs at the {ends}, and lobes are told by where they lie in whole lungs"
        return None, (Sentence(text, ends=" and the ".join(ends)),)
    lobes = find_lobes(lung, scan.spacing_mm, scan.hu)
    if lobes is None:
        text = (
            "no lobes: one of the two lungs is missing or has fewer than {least} voxels of the lattice on which "
            "fissures are sought, too few to divide"
        )
        return None, (Sentence(text, least=LEAST_VOXELS),)
    if not lobes.doubt <= MOST_DOUBT:
        text = (
            "the lobes are uncertain: {doubt:.0%} of the lungs may lie in another lobe, since the scan hardly shows "
            "the fissures; look at lobes.nii.gz"
        )
        return lobes, (Sentence(text, doubt=lobes.doubt),)
    return lobes, ()


def measure_scores(
    scan: Scan,
    lobes: Lobes | None,
    opacity: BoolArray,
    shares: Sequence[float],
    measured: Mapping[str, float | None],
    finding: str,
) -> Measurements:
    """Score the lobes, and give every score a 90 % interval.

    What is uncertain: where the fissures lie (`Lobes.draws`), and how much opacity there is: by the model's calibration
    where there is one, else by how much the answers differ that were averaged. An error of the volume is divided among
    the lobes by how much opacity they have, and by their size (`unit_ml`).

    Args:
        scan: The scan.
        lobes: Its lobes; None where there are none.
        opacity: bool (Z, Y, X), all opacities.
        shares: Their share of the lungs in every answer that was averaged.
        measured: What `inference.measure` returned, with the calibrated interval of their volume where there is one.
        finding: Their key.

    Returns:
        `<lobe>_score`, `ct_severity_score`, each with `_low` and `_high`, and `lobe_doubt`; None without lobes, and for
        an empty lobe and the sum with it.
    """
    if lobes is None:
        return dict.fromkeys((*KEYS, "lobe_doubt"))
    # nan where a lobe is empty.
    involved = np.array([measured[f"{lobe}_{finding}_share"] for lobe in LOBES], np.float64)
    grid = coarser_grid(scan.hu.shape, scan.spacing_mm, (DRAWN_MM,) * 3)
    there = np.flatnonzero(lobes.draws[0])
    marked = grid.apply_mask(opacity).take(there) > 0
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    errors_ml = _errors_ml(np.random.default_rng(0), len(lobes.draws), shares, measured, finding)
    drawn = np.empty((len(lobes.draws), len(LOBES)))
    for number, (labels, error_ml) in enumerate(zip(lobes.draws, errors_ml, strict=True)):
        lobe = labels.take(there)
        size_ml, ml = (np.bincount(each, minlength=len(LOBES) + 1)[1:] * voxel_ml for each in (lobe, lobe[marked]))
        unit = np.array([unit_ml(a, b) for a, b in zip(ml, size_ml, strict=True)])
        drawn[number] = (ml + error_ml * unit / max(unit.sum(), 1e-9)) / np.maximum(size_ml, 1e-9)
    scores, found = score_of(drawn.clip(0, 1)), score_of(involved)
    scored: Measurements = dict.fromkeys(KEYS)
    for column, key in enumerate(LOBE_SCORES.values()):
        if not np.isnan(involved[column]):
            scored |= _with_interval(key, int(found[column]), scores[:, column])
    if not np.isnan(involved).any():
        scored |= _with_interval(SUM, int(found.sum()), scores.sum(1))
    return scored | {"lobe_doubt": lobes.doubt}


def _errors_ml(
    rng: np.random.Generator,
    count: int,
    shares: Sequence[float],
    measured: Mapping[str, float | None],
    finding: str,
) -> FloatArray:
    """Draw errors of the opacities' volume in ml."""
    ml, high, coverage = (measured.get(key) for key in (f"{finding}_ml", f"{finding}_ml_high", "interval_coverage"))
    if ml is not None and high is not None and coverage is not None:
        return rng.normal(0, (high - ml) / float(norm.ppf((1 + coverage) / 2)), count)
    if len(shares) < 2:
        return np.zeros(count)
    lung_ml = measured["lung_ml"] or 0.0
    return rng.choice(np.asarray(shares, np.float64) - float(np.mean(shares)), count) * lung_ml


def _with_interval(key: str, score: int, drawn: NDArray[np.int64]) -> Measurements:
    """Return a score with the interval of what was drawn, which holds the score itself."""
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return {key: float(score), f"{key}_low": float(min(low, score)), f"{key}_high": float(max(high, score))}
