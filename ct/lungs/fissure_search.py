"""Search for the fissures of a lung: the surfaces with the most evidence, given how fissures lie in real lungs.

Surfaces are drawn from what is known before; the best of them settle by expectation-maximization, in which every
column says where near the surface the fissure is likely to be, and the surface is fitted to that; what is left are a
few candidates, each with its evidence. Of the right lung's two fissures the pair with the most evidence counts, and
bumps that the polynomial cannot follow are fitted last. Where the evidence is no more than noise would give, the
fissures that a lung of this shape usually has are likelier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct.lungs.fissure_evidence import COLUMN_MM, SAMPLE_MM, Columns, Samples, evidence
from ct.lungs.fissure_shapes import (
    MIDDLE_LOBE_BACK,
    OF_X,
    OF_Y,
    STATISTICS,
    USUAL_SHARES,
    BoolArray,
    FissureName,
    FloatArray,
    LungBox,
    LungShape,
    Side,
    expected_fissure,
    polynomials,
)

# Samples above and below the expected surface, and around the surface that was found.
REACH, NEAR_REACH = 60, 20
EVERY = 2  # of the columns along y and x are enough for the search
DRAWS, POOL, STARTS, APART_MM = 2500, 1200, 30, 15.0
CANDIDATES, CANDIDATES_APART_MM = 8, 3.75
# Blur of the evidence along the columns where surfaces are drawn, and where candidates are compared.
DRAWN_MM, COMPARED_MM = 3.0, 1.5
# How far from the surface a column looks for the fissure, standard deviations in mm, step by step.
WIDTHS_MM = (6.0, 5.0, 4.0, 3.0, 2.5, 2.0)
NEAR_WIDTHS_MM = (4.0, 3.0, 2.5, 2.0, 1.5, 1.5)
# Evidence is shared by columns closer than this.
COMMON_MM = 14.0
# The horizontal fissure ends where it meets the oblique one.
GAP_MM = 6.0
# The left oblique fissure may be so steep that it is sought around two surfaces.
STEEPER = (-0.8, 0.8)
# Surfaces vary this much more than their precision says. With it, 90 % intervals of lobes' volumes hold 90 % of the
# true ones on 24 realistic phantoms.
SPREAD = 4.0
# The score that is found where there is no fissure to be seen, by the square root of the columns: with noise in place
# of the HU of eight realistic phantoms 1.1 to 1.6 (mean 1.3) in right lungs and 0.6 to 1.05 (0.8) in left ones.
CHANCE: dict[Side, float] = {"right": 1.45, "left": 0.85}
LEANS_NEAR = (-0.1, 0.0, 0.1)
WAVES = tuple((i, j) for i, j in product(range(5), repeat=2) if 3 <= i + j <= 6)

Bonus = Callable[[Samples], FloatArray]  # of heights (N, C) in mm above the middle of the lung's box, (N,)
Allowed = Callable[[Samples], BoolArray]  # where of heights (..., C) the fissure can exist


# A term is a factor of y times a factor of x: which of `_factors`.
FACTORS_Y = (*OF_Y, *(3 + i for i, _ in WAVES))
FACTORS_X = (*OF_X, *(3 + j for _, j in WAVES))


def _factors(share: npt.ArrayLike) -> FloatArray:
    """Return what terms are products of, (..., 8): the polynomials of up to second degree, then cosines."""
    waves = np.cos(np.pi * np.arange(5) * (np.asarray(share, np.float64)[..., None] + 0.5))
    return np.concatenate([polynomials(share), waves], axis=-1)


def surface_terms(y: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
    """Return the terms of a fissure with bumps, (..., 6 + waves); places as for `fissure_shapes.terms`."""
    return _factors(y)[..., FACTORS_Y] * _factors(x)[..., FACTORS_X]


@dataclass(frozen=True, eq=False)
class Surface:
    """A fissure.

    Attributes:
        box: The box of its lung.
        coefficients: (6 + waves,) of `surface_terms`.
        spread: (6 + waves, 6 + waves), their covariance.
    """

    box: LungBox
    coefficients: FloatArray
    spread: FloatArray

    def height_mm(self, y_mm: FloatArray, x_mm: FloatArray) -> FloatArray:
        """Return its height above the scan's corner at places (Y,) and (X,), as (Y, X)."""
        by_factor = np.zeros((8, 8))
        by_factor[FACTORS_Y, FACTORS_X] = self.coefficients
        y, x = _factors(self.box.share(y_mm, 1)), _factors(self.box.share(x_mm, 2))
        return self.box.place_mm(y @ by_factor @ x.T, 0)

    def moved(self, rng: np.random.Generator) -> Surface:
        """Draw a surface that differs from this one by its spread."""
        deviation = rng.multivariate_normal(np.zeros(len(self.coefficients)), self.spread, method="cholesky")
        return replace(self, coefficients=self.coefficients + deviation)


@dataclass(frozen=True, eq=False)
class Landscape:
    """Evidence for one fissure, and what is known of it before.

    Attributes:
        at: (C, K), terms of the fissure's height at every column.
        evidence: (C, S), from below a surface to above it.
        around: (K,), coefficients of that surface.
        mean: (K,), what is expected.
        sd: (K,), its standard deviations.
        height_mm: Of the lung's box.
        column_mm: Distance of the columns.
    """

    at: FloatArray
    evidence: Samples
    around: FloatArray
    mean: FloatArray
    sd: FloatArray
    height_mm: float
    column_mm: float

    @cached_property
    def _heights_of_terms(self) -> Samples:
        return np.ascontiguousarray(self.at.T * self.height_mm, dtype=np.float32)

    @cached_property
    def _likelihood(self) -> Samples:
        """Return how likely the fissure is at every sample; before the first and after the last it hardly is."""
        return np.exp(np.pad(self.evidence, ((0, 0), (1, 1)), constant_values=-5.0))

    @cached_property
    def _weight(self) -> float:
        return (self.column_mm / COMMON_MM) ** 2

    def heights(self, coefficients: FloatArray) -> Samples:
        """Return heights (..., C) in mm above the middle of the box of surfaces (..., K)."""
        return coefficients.astype(np.float32) @ self._heights_of_terms

    def _samples(self, surfaces: FloatArray) -> npt.NDArray[np.intp]:
        """Return the samples at which surfaces (..., K) lie, (..., C): numbers, also of samples that do not exist."""
        away = np.rint(self.heights(surfaces - self.around) / np.float32(SAMPLE_MM))
        return away.astype(np.intp) + self.evidence.shape[1] // 2

    def _blurred(self, blur_mm: float) -> Samples:
        """Return the evidence, blurred along the columns, with nothing before the first and after the last sample."""
        blurred = ndimage.gaussian_filter1d(self.evidence, blur_mm / SAMPLE_MM, axis=1, mode="constant")
        return np.pad((blurred * np.sqrt(max(blur_mm, 1.0))).astype(np.float32), ((0, 0), (1, 1)))

    def score(self, surfaces: FloatArray, blur_mm: float, bonus: Bonus | None, allowed: Allowed | None) -> FloatArray:
        """Return evidence and prior of surfaces (N, K) together, (N,)."""
        values, heights = self._blurred(blur_mm), self.heights(surfaces)
        count, samples = values.shape
        index = (self._samples(surfaces) + 1).clip(0, samples - 1)
        found = values.ravel().take(index + np.arange(count) * samples)
        if allowed:
            found *= allowed(heights)
        prior = -0.5 * (((surfaces - self.mean) / self.sd) ** 2).sum(1)
        return found.sum(1) * self._weight + prior + (bonus(heights) if bonus else 0.0)

    def settle(
        self, start: FloatArray, widths_mm: tuple[float, ...], allowed: Allowed | None
    ) -> tuple[FloatArray, FloatArray]:
        """Move a surface (K,) to the evidence around it; return it and its precision (K, K)."""
        surface, precision = start, np.diag(1 / self.sd**2)
        count = self.evidence.shape[1]
        rows = np.arange(len(self.evidence))[:, None] * (count + 2) + 1
        for width in widths_mm:
            reach = int(np.ceil(2.5 * width))
            step = np.arange(-reach, reach + 1.0)
            nearness = np.exp(-0.5 * (step / width) ** 2)
            powers = (nearness * [step**0, step, step**2]).T
            seen = self._likelihood.take(
                (self._samples(surface)[:, None] + step.astype(np.intp)).clip(-1, count) + rows
            )
            total, first, second = (seen @ powers.astype(np.float32)).T.astype(np.float64)
            shift = first / total
            variance = second / total - shift**2
            # A column in which nothing is to be seen says nothing.
            told = np.clip(1 - variance / (powers[:, 2].sum() / nearness.sum()), 0, 1)
            weight = told / (variance + 2.0) * self._weight * self.height_mm**2
            if allowed:
                weight = weight * allowed(self.heights(surface))
            target = self.at @ surface + shift * SAMPLE_MM / self.height_mm
            weighted = self.at.T * weight
            precision = weighted @ self.at + np.diag(1 / self.sd**2)
            surface = np.linalg.solve(precision, weighted @ target + self.mean / self.sd**2)
        return surface, precision

    def search(
        self, rng: np.random.Generator, count: int, bonus: Bonus | None, allowed: Allowed | None
    ) -> list[tuple[float, FloatArray]]:
        """Return the best surfaces that differ, at most `count`, each with its score, the best first."""
        drawn = rng.normal(self.mean, self.sd, (DRAWS, len(self.mean)))
        drawn[0] = self.mean
        drawn = drawn[np.argsort(-self.score(drawn, DRAWN_MM, bonus, allowed))[:POOL]]
        starts = drawn[self._apart(drawn, APART_MM, STARTS)]
        settled = np.stack([self.settle(start, WIDTHS_MM, allowed)[0] for start in starts])
        scores = self.score(settled, COMPARED_MM, bonus, allowed)
        order = np.argsort(-scores)
        settled, scores = settled[order], scores[order]
        return [(float(scores[best]), settled[best]) for best in self._apart(settled, CANDIDATES_APART_MM, count)]

    def _apart(self, surfaces: FloatArray, least_mm: float, most: int) -> list[int]:
        """Keep the first of surfaces that are closer to each other, root mean square, than a distance."""
        # In these coordinates surfaces are as far from each other as their heights.
        places = surfaces @ np.asarray(np.linalg.qr(self.at, mode="r")).T * (self.height_mm / np.sqrt(len(self.at)))
        kept: list[int] = []
        left = np.arange(len(surfaces))
        while len(left) and len(kept) < most:
            kept.append(int(left[0]))
            left = left[np.linalg.norm(places[left] - places[left[0]], axis=1) > least_mm]
        return kept


@dataclass(frozen=True, eq=False)
class Fissures:
    """A lung's fissures, several times: as found, and as they may be instead.

    Attributes:
        surfaces: By candidate, the best first, the surface of each fissure by name.
        scores: By candidate, evidence and prior together.
    """

    surfaces: tuple[dict[FissureName, Surface], ...]
    scores: tuple[float, ...]


def usual_fissures(box: LungBox, shape: LungShape) -> Fissures:
    """Return the fissures that a lung of this shape usually has, for a mask without a CT."""
    names: tuple[FissureName, ...] = (
        ("right oblique", "right horizontal") if shape.side == "right" else ("left oblique",)
    )
    surfaces: dict[FissureName, Surface] = {}
    for name in names:
        mean, sd = expected_fissure(name, shape)
        surfaces[name] = Surface(box, _without_bumps(mean), np.diag(_without_bumps(sd) ** 2 + 1e-12))
    return Fissures((surfaces,), (0.0,))


def _without_bumps(polynomial: FloatArray) -> FloatArray:
    return np.concatenate([polynomial, np.zeros(len(WAVES))])


class LungSearch:
    """Search for the fissures of one lung.

    Args:
        hu: int16 (Z, Y, X), the scan.
        spacing_mm: Its voxels (z, y, x).
        columns: The lung's columns.
        shape: What its mask tells.
    """

    def __init__(
        self,
        hu: npt.NDArray[np.int16],
        spacing_mm: tuple[float, float, float],
        columns: Columns,
        shape: LungShape,
    ) -> None:
        self.hu, self.spacing_mm, self.columns, self.shape = hu, spacing_mm, columns, shape
        self.rng = np.random.default_rng(0)
        middle_mm = float(columns.box.place_mm(0.0, 0))
        low, high = ((mm[::EVERY, ::EVERY] - middle_mm).astype(np.float32) for mm in columns.spans_mm())
        self.used = high > low
        self.low, self.high = low[self.used], high[self.used]

    def landscape(self, name: FissureName, steeper: float = 0.0) -> Landscape:
        """Sample the scan around the expected surface of a fissure, or one that is steeper by so many deviations."""
        mean, sd = expected_fissure(name, self.shape)
        around = mean.copy()
        around[1] += steeper * sd[1]
        hu, inside = self.columns.sample(
            self.hu, self.spacing_mm, self.columns.box.place_mm(self.columns.terms @ around, 0), REACH
        )
        few = (slice(None, None, EVERY), slice(None, None, EVERY))
        return Landscape(
            self.columns.terms[few][self.used],
            evidence(hu, inside, self._steepness(around))[few][self.used],
            around,
            mean,
            sd,
            float(self.columns.box.size_mm[0]),
            EVERY * COLUMN_MM,
        )

    def _steepness(self, coefficients: FloatArray) -> float:
        """Return how much thicker a sheet with these coefficients is along a column than across."""
        height_mm, depth_mm, _ = self.columns.box.size_mm
        return float(np.hypot(1, coefficients[1] * height_mm / depth_mm))

    def left(self) -> Fissures:
        """Find the oblique fissure of the left lung."""
        upper, sd = USUAL_SHARES[2]
        usual = self._below(1 - upper, sd)
        found: list[tuple[dict[FissureName, FloatArray], float]] = []
        for steeper in STEEPER:
            landscape = self.landscape("left oblique", steeper)
            found += [({"left oblique": each}, s) for s, each in landscape.search(self.rng, CANDIDATES, usual, None)]
        return self._refined(sorted(found, key=lambda each: -each[1]))

    def right(self) -> Fissures:
        """Find the oblique and the horizontal fissure of the right lung."""
        oblique, horizontal = self.landscape("right oblique"), self.landscape("right horizontal")
        (upper, sd), (middle, _), _ = USUAL_SHARES
        usual = self._below(1 - upper - middle, sd)
        pairs: list[tuple[dict[FissureName, FloatArray], float]] = []
        for score, below in oblique.search(self.rng, CANDIDATES, usual, None):
            heights = oblique.heights(below)
            found = horizontal.search(self.rng, 1, self._between(heights), _above(heights))
            pairs += [({"right oblique": below, "right horizontal": above}, score + more) for more, above in found]
        return self._refined(sorted(pairs, key=lambda pair: -pair[1]))

    def _below(self, usual: float, sd: float) -> Bonus:
        """Return how usual the share of the lower lobe is; it varies as much as the upper lobe's."""
        total = (self.high - self.low).sum()

        def bonus(heights: Samples) -> FloatArray:
            share = (heights.clip(self.low, self.high) - self.low).sum(1) / total
            return np.asarray(-0.5 * ((share - usual) / sd) ** 2, dtype=np.float64)

        return bonus

    def _between(self, oblique: Samples) -> Bonus:
        """Return how usual the shares of the upper and the middle lobe are above the oblique fissure."""
        floor, total = oblique.clip(self.low, self.high), (self.high - self.low).sum()
        behind = self.columns.terms[::EVERY, ::EVERY][self.used][:, 1] > MIDDLE_LOBE_BACK[0]
        parts = np.stack([np.ones_like(floor), behind], 1).astype(np.float32)

        def bonus(heights: Samples) -> FloatArray:
            middle, back = ((heights.clip(floor, self.high) - floor) @ parts).T
            shares = ((self.high - floor).sum() - middle) / total, middle / total, back / np.maximum(middle, 1e-6)
            usual = zip(shares, (*USUAL_SHARES[:2], (0.0, MIDDLE_LOBE_BACK[1])), strict=True)
            return np.asarray(-0.5 * sum(((share - mean) / sd) ** 2 for share, (mean, sd) in usual), dtype=np.float64)

        return bonus

    def _refined(self, candidates: list[tuple[dict[FissureName, FloatArray], float]]) -> Fissures:
        """Fit the bumps of the best candidate; the others keep their polynomials. The usual fissures are one more."""
        best = dict(self._with_bumps(candidates[0][0]))
        others = [
            {name: replace(best[name], coefficients=_without_bumps(each)) for name, each in polynomials.items()}
            for polynomials, _ in candidates[1:]
        ]
        usual = usual_fissures(self.columns.box, self.shape).surfaces[0]
        scores = [score for _, score in candidates] + [CHANCE[self.shape.side] * float(np.sqrt(self.used.sum()))]
        order = np.argsort(-np.array(scores), kind="stable")
        surfaces = [best, *others, usual]
        return Fissures(tuple(surfaces[each] for each in order), tuple(scores[each] for each in order))

    def _with_bumps(self, polynomials: dict[FissureName, FloatArray]) -> Iterator[tuple[FissureName, Surface]]:
        box, y, x = self.columns.box, self.columns.y_mm, self.columns.x_mm
        at = surface_terms(box.share(y, 1)[:, None], box.share(x, 2)[None])
        oblique: FloatArray | None = None
        for name, polynomial in polynomials.items():
            mean, sd = expected_fissure(name, self.shape)
            start = _without_bumps(polynomial)
            height_mm = box.place_mm(at @ start, 0)
            waves = np.array([1 / (i + j) ** 2 for i, j in WAVES])
            waves *= 2 * STATISTICS[name].bumps_mm / float(box.size_mm[0]) / np.sqrt((waves**2).sum())
            hu, inside = self.columns.sample(self.hu, self.spacing_mm, height_mm, NEAR_REACH)
            used = inside.any(2)
            near = Landscape(
                at[used],
                evidence(hu, inside, self._steepness(start), LEANS_NEAR)[used],
                start,
                _without_bumps(mean),
                np.concatenate([sd, waves]),
                float(box.size_mm[0]),
                COLUMN_MM,
            )
            allowed = None if oblique is None else _above(near.heights(oblique))
            coefficients, precision = near.settle(start, NEAR_WIDTHS_MM, allowed)
            oblique = coefficients
            spread = np.asarray(SPREAD**2 * np.linalg.inv(precision), dtype=np.float64)
            yield name, Surface(box, coefficients, spread)


def _above(oblique: Samples) -> Allowed:
    """Return whether heights are those of a horizontal fissure before it meets the oblique one."""
    return lambda heights: heights > oblique + GAP_MM
