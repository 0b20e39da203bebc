"""Realistic phantoms: determinism, truth, look-alikes, and the sizes of what was measured on real scans."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from ct.classes import L3
from phantom.realistic.build import DEPTH_MM, DOME_MM, HEIGHT_MM, RANGES_MM, WIDTH_MM, draw_build
from phantom.realistic.fields import Grid
from phantom.realistic.lesions import infect, lesion_volumes
from phantom.realistic.patient import RealisticPhantom, make_realistic
from phantom.realistic.thorax import shape_thorax


def coarse(seed: int, kind: str) -> RealisticPhantom:
    return make_realistic((3, seed), kind, size=48, slice_mm=10.0)


@pytest.fixture(scope="module")
def patients() -> dict[str, RealisticPhantom]:
    return {kind: coarse(1, kind) for kind in ("clear", "infected", "severe")}


def test_a_seed_gives_the_same_patient_and_another_seed_another(patients: dict[str, RealisticPhantom]) -> None:
    again, other = coarse(1, "infected"), coarse(2, "infected")
    first = patients["infected"]
    for name in ("hu", "lungs", "drawn_lungs", "patterns", "mimics"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert other.hu.shape != first.hu.shape or (other.hu != first.hu).any()


def test_infection_changes_nothing_but_the_lungs_contents(patients: dict[str, RealisticPhantom]) -> None:
    clear, severe = patients["clear"], patients["severe"]
    np.testing.assert_array_equal(clear.lungs, severe.lungs)
    assert not clear.infection.any()
    assert severe.infection_ml > patients["infected"].infection_ml > 0
    # Motion and the reconstruction blur what is near; far from the lungs nothing differs.
    far = ~binary_dilation(clear.lungs > 0, np.ones((5, 13, 13)))
    assert far.mean() > 0.3
    np.testing.assert_array_equal(clear.hu[far], severe.hu[far])


def test_truth_lies_in_the_lungs_and_no_look_alike_belongs_to_it(patients: dict[str, RealisticPhantom]) -> None:
    for patient in patients.values():
        assert set(np.unique(patient.patterns)) <= {0, *L3.codes_of("infection")}
        assert not (patient.infection & (patient.lungs == 0)).any()
        assert not (patient.infection & (patient.drawn_lungs == 0)).any()
        assert (patient.infection & patient.mimics).sum() <= 0.02 * max(patient.mimics.sum(), 50)
    assert patients["clear"].mimics.any()


def test_infected_lung_is_denser_than_the_rest(patients: dict[str, RealisticPhantom]) -> None:
    severe = patients["severe"]
    rest = (severe.lungs > 0) & ~severe.infection & ~severe.mimics
    assert np.median(severe.hu[severe.infection]) > np.median(severe.hu[rest]) + 60
    assert -960 < np.median(severe.hu[rest]) < -740


def test_builds_have_the_measured_statistics() -> None:
    builds = [draw_build(np.random.default_rng(seed)) for seed in range(600)]
    measured = {"height": HEIGHT_MM, "depth": DEPTH_MM, "width": WIDTH_MM, "dome": DOME_MM}
    for name, (mean, deviation) in measured.items():
        drawn = np.array([getattr(build, f"{name}_mm") for build in builds])
        assert drawn.mean() == pytest.approx(mean, abs=0.25 * deviation), name
        assert drawn.std() == pytest.approx(deviation, rel=0.2), name
        assert drawn.min() >= RANGES_MM[name][0]
        assert drawn.max() <= RANGES_MM[name][1]


def test_lungs_have_the_measured_volumes_and_extents() -> None:
    """Right 2645 +- 875 ml, left 2354 +- 827 ml; shares of the lobes .20, .09, .24, .25, .22 (see build)."""
    volumes, lobes = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        build = draw_build(rng)
        grid = Grid((int(build.height_mm / 6) + 4, 64, 64), (6, 5.5, 5.5), (-6, -173.25, -173.25))
        thorax = shape_thorax(rng, grid, build)
        lung = thorax.lung_mm > 0
        volumes.append([(lung & side).sum() * 6 * 5.5**2 / 1000 for side in (~thorax.left, thorax.left)])
        lobes.append([((thorax.lobe == lobe) & lung).sum() / lung.sum() for lobe in range(1, 6)])
        extent = np.ptp(np.nonzero(lung), axis=1) * (6, 5.5, 5.5) / (build.height_mm, build.depth_mm, build.width_mm)
        assert ((extent > 0.85) & (extent < 1.12)).all(), extent
    right, left = np.mean(volumes, 0)
    assert abs(right - 2645) < 875 / 2
    assert abs(left - 2354) < 827 / 2
    np.testing.assert_allclose(np.mean(lobes, 0), (0.20, 0.09, 0.24, 0.25, 0.22), atol=0.06)


def test_lesions_have_the_measured_number_and_volume() -> None:
    """Medians of MosMedData: 7 components above .5 ml, 66 ml; quartiles 26 and 109 ml."""
    drawn = [lesion_volumes(np.random.default_rng(seed), severe=False) for seed in range(500)]
    totals, counts = np.array([v.sum() for v in drawn]), np.array([(v > 0.5).sum() for v in drawn])
    assert 4 <= np.median(counts) <= 9
    low, middle, high = np.percentile(totals, (25, 50, 75))
    assert 13 < low < 45
    assert 45 < middle < 95
    assert 80 < high < 180


@pytest.mark.parametrize("volume_ml", [3.0, 40.0])
def test_a_lesion_has_the_volume_that_was_asked_for(volume_ml: float) -> None:
    errors = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        build = draw_build(rng)
        grid = Grid((110, 110, 110), (3.0, 3.0, 3.0), (-6.0, -163.0, -163.0))
        thorax = shape_thorax(rng, grid, build)
        state = infect(rng, grid, build, thorax, np.full(grid.shape, -870, np.float32), np.array([volume_ml]))
        inside = thorax.lung_mm > 0
        errors.append((state.occupancy * inside).sum() * 0.027 / volume_ml)
        assert (state.content_hu[inside & (state.occupancy > 0.9)] > -870).all()
    assert np.median(errors) == pytest.approx(1, abs=0.25)


def test_an_unknown_kind_and_too_few_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'ill'; expected one of clear, infected, severe"):
        make_realistic(0, "ill")
    with pytest.raises(ValueError, match="size is 16 columns"):
        make_realistic(0, "clear", size=16)
