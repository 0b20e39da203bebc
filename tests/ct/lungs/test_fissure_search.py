from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ct.lungs.fissure_search import WAVES, Landscape, Surface, surface_terms, usual_fissures
from ct.lungs.fissure_shapes import STATISTICS, LungBox, LungShape, expected_fissure, terms

FloatArray = NDArray[np.float64]
HEIGHT_MM, COLUMN_MM, SAMPLES = 200.0, 5.0, 121
SD = np.array([0.1, 0.3, 0.15, 0.3, 0.1, 0.1])
MEAN = np.array([0.0, 0.8, 0.0, -0.2, 0.2, 0.0])
TRUE = MEAN + SD * [1.0, -0.8, 0.7, 0.5, -0.6, 0.4]
BOX = LungBox(np.array([10.0, 20.0, 5.0]), np.array([210.0, 180.0, 105.0]))


def places() -> FloatArray:
    y, x = (np.arange(count) / count - 0.5 for count in (32, 24))
    return terms(y[:, None], x[None]).reshape(-1, 6)


def landscape(surface: FloatArray | None, strength: float = 4.0, seed: int = 0) -> Landscape:
    """Return noise of deviation 1 with a ridge at a surface, if there is one, around the expected surface."""
    at = places()
    found = np.random.default_rng(seed).normal(0, 1, (len(at), SAMPLES))
    if surface is not None:
        away = np.arange(SAMPLES) - SAMPLES // 2 - (at @ (surface - MEAN) * HEIGHT_MM)[:, None]
        found += strength * np.exp(-0.5 * away**2)
    return Landscape(at, found.astype(np.float32), MEAN, MEAN, SD, HEIGHT_MM, COLUMN_MM)


def front_only(heights: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.broadcast_to(places()[:, 1] <= 0, heights.shape)


def away_mm(first: FloatArray, second: FloatArray) -> float:
    return float(np.abs(places() @ (first - second)).mean() * HEIGHT_MM)


def test_terms_of_a_surface_with_bumps() -> None:
    y, x = 0.2, -0.3
    waves = [np.cos(np.pi * i * 0.7) * np.cos(np.pi * j * 0.2) for i, j in WAVES]
    np.testing.assert_allclose(surface_terms(y, x), [*terms(y, x), *waves])
    assert surface_terms(np.zeros((4, 1)), np.zeros((1, 3))).shape == (4, 3, 6 + len(WAVES))


def test_the_heights_of_a_surface_are_the_sum_of_its_terms() -> None:
    coefficients = np.random.default_rng(0).normal(0, 0.1, 6 + len(WAVES))
    surface = Surface(BOX, coefficients, np.eye(6 + len(WAVES)))
    y_mm, x_mm = np.array([20.0, 71.0, 180.0, 190.0]), np.array([5.0, 33.0])
    heights = surface.height_mm(y_mm, x_mm)
    assert heights.shape == (4, 2)
    for row, y in enumerate(y_mm):
        for column, x in enumerate(x_mm):
            at = surface_terms((y - 20) / 160 - 0.5, (x - 5) / 100 - 0.5)
            assert heights[row, column] == pytest.approx(110 + 200 * float(at @ coefficients))


def test_a_moved_surface_differs_by_its_spread() -> None:
    count = 6 + len(WAVES)
    mixed = np.random.default_rng(1).normal(0, 1, (count, count))
    surface = Surface(BOX, np.arange(count, dtype=float), mixed @ mixed.T)
    rng = np.random.default_rng(2)
    moved = np.array([surface.moved(rng).coefficients for _ in range(6000)]) - surface.coefficients
    sd = np.sqrt(np.diag(surface.spread))
    np.testing.assert_allclose(moved.mean(axis=0) / sd, 0, atol=0.06)
    np.testing.assert_allclose(np.cov(moved.T) / np.outer(sd, sd), surface.spread / np.outer(sd, sd), atol=0.06)


def test_usual_fissures_are_the_expected_ones() -> None:
    for shape, names in (
        (LungShape("right", -0.25, 0.6), {"right oblique", "right horizontal"}),
        (LungShape("left", -0.3, 0.5), {"left oblique"}),
    ):
        fissures = usual_fissures(BOX, shape)
        assert len(fissures.surfaces) == len(fissures.scores) == 1
        assert set(fissures.surfaces[0]) == names
        for name, surface in fissures.surfaces[0].items():
            mean, sd = expected_fissure(name, shape)
            np.testing.assert_allclose(surface.coefficients, [*mean, *np.zeros(len(WAVES))])
            np.testing.assert_allclose(np.sqrt(np.diag(surface.spread))[:6], sd, atol=1e-5)
            assert STATISTICS[name].sd == tuple(sd)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_search_finds_the_ridge(seed: int) -> None:
    found = landscape(TRUE, seed=seed).search(np.random.default_rng(seed), 5, None, None)
    assert 1 <= len(found) <= 5
    scores = [score for score, _ in found]
    assert scores == sorted(scores, reverse=True)
    assert away_mm(found[0][1], TRUE) < 0.7
    for number, (_, surface) in enumerate(found):
        assert all(away_mm(surface, other) > 1.5 for _, other in found[:number]), "candidates differ"


def test_what_is_known_before_decides_between_two_ridges() -> None:
    farther = TRUE - SD * [2.2, 0, 0, 0, 0, 0]
    two = landscape(TRUE)
    two = replace(two, evidence=two.evidence + landscape(farther).evidence)
    for side, expected in ((1.0, TRUE), (-1.0, farther)):

        def bonus(heights: NDArray[np.float32], side: float = side) -> FloatArray:
            return (0.5 * side * heights.mean(-1)).astype(np.float64)

        found = two.search(np.random.default_rng(0), 2, bonus, None)
        assert away_mm(found[0][1], expected) < 1.0


def test_without_evidence_a_surface_settles_at_the_expected_one() -> None:
    flat = replace(landscape(None), evidence=np.zeros((len(places()), SAMPLES), dtype=np.float32))
    settled, precision = flat.settle(MEAN + 0.5 * SD, (4.0, 2.0), None)
    np.testing.assert_allclose(settled, MEAN, atol=1e-3)
    np.testing.assert_allclose(np.diag(precision), 1 / SD**2, rtol=1e-3)


def test_a_surface_settles_at_a_ridge_near_it_and_becomes_precise() -> None:
    near = TRUE + SD * [0.2, 0.1, -0.1, 0, 0, 0]
    settled, precision = landscape(TRUE).settle(near, (6.0, 4.0, 2.0), None)
    assert away_mm(settled, TRUE) < 0.5 < away_mm(near, TRUE)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert (sd < 0.4 * SD).all()
    faint = landscape(TRUE, 2.5).settle(near, (6.0, 4.0, 2.0), None)[1]
    assert np.linalg.slogdet(faint)[1] < np.linalg.slogdet(precision)[1]


def test_columns_where_the_fissure_cannot_exist_do_not_count() -> None:
    """Behind, where the fissure is not allowed, something else lies 7 mm below it."""
    in_front = front_only(np.zeros(len(places()), dtype=np.float32))
    below = landscape(TRUE - 7 / HEIGHT_MM * np.eye(6)[0], strength=6.0)
    mixed = replace(below, evidence=np.where(in_front[:, None], landscape(TRUE).evidence, below.evidence))
    errors = []
    for allowed in (front_only, None):
        settled, _ = mixed.settle(TRUE, (4.0, 3.0, 2.0), allowed)
        errors.append(np.abs(places()[in_front] @ (settled - TRUE)).mean() * HEIGHT_MM)
    assert errors[0] < 0.5
    assert errors[1] > 2 * errors[0]
    scores = [below.score(TRUE[None], 1.5, None, allowed)[0] for allowed in (front_only, None)]
    behind = replace(below, at=below.at[~in_front], evidence=below.evidence[~in_front])
    prior = -0.5 * float((((TRUE - MEAN) / SD) ** 2).sum())
    assert scores[1] - scores[0] == pytest.approx(behind.score(TRUE[None], 1.5, None, None)[0] - prior, abs=1e-3)


def test_beyond_the_samples_the_fissure_hardly_lies() -> None:
    """A surface near the last sample, with nothing to be seen, moves away from the edge."""
    even = replace(landscape(None), evidence=np.zeros((len(places()), SAMPLES), dtype=np.float32))
    for side in (-1, 1):
        at_the_edge = MEAN + side * (SAMPLES // 2 - 2) / HEIGHT_MM * np.eye(6)[0]
        settled, _ = even.settle(at_the_edge, (4.0, 3.0, 2.0), None)
        inwards_mm = side * (places() @ (at_the_edge - settled)) * HEIGHT_MM
        assert inwards_mm.min() > 1.0


def test_a_score_is_evidence_with_what_is_known_before() -> None:
    """Where all evidence is the same, only the prior and the bonus differ."""
    even = replace(landscape(None), evidence=np.ones((len(places()), SAMPLES), dtype=np.float32))
    surfaces = np.stack([MEAN, MEAN + SD * [0, 0, 1, 0, 0, 0], MEAN + SD * [0, 0, 0, 0, 1, -1]])
    scores = even.score(surfaces, 1.0, None, None)
    np.testing.assert_allclose(scores - scores[0], [0, -0.5, -1], atol=1e-3)
    with_bonus = even.score(surfaces, 1.0, lambda heights: np.arange(0.0, 2 * len(heights), 2), None)
    np.testing.assert_allclose(with_bonus - scores, [0, 2, 4], atol=1e-3)
    far = even.score(np.stack([MEAN + 10.0 * np.eye(6)[0]]), 1.0, None, None)
    assert far[0] == pytest.approx(-0.5 * 100**2, rel=1e-3), "beyond the samples there is no evidence"
