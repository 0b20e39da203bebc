"""Implausible answers are flagged, by the sentence that says why, and plausible ones are not."""

import math

import numpy as np
import pytest

from ct.classes import EM, L3
from ct.grey_window import GreyWindow
from ct.scan import Grid, Scan
from inference.answer_flags import answer_flags
from inference.measure import measure
from inference.result import Masks

GLASS, DENSE, AERATED = -550, -100, -850


def chest(spacing_mm: float = 4.0, windows: tuple[GreyWindow, ...] = ()) -> tuple[Scan, np.ndarray]:
    """Aerated lungs of 40 x 40 x 40 voxels without a body."""
    hu = np.full((40, 40, 40), AERATED, np.int16)
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    return Scan(hu, affine, Grid(hu.shape, affine), "x", grey_windows=windows), np.ones(hu.shape, bool)


def flags_of(
    scan: Scan,
    infection: np.ndarray,
    consolidation: np.ndarray | None = None,
    entropy: float = 0.02,
    shares: dict[str, list[float]] | None = None,
) -> tuple[str, ...]:
    masks: Masks = {"lungs": np.ones(scan.hu.shape, bool), "infection": infection}
    masks |= {} if consolidation is None else {"consolidation": consolidation}
    measured = measure(scan, masks, EM) | {"entropy_in_lungs_bits": entropy}
    return answer_flags(scan, masks, EM, measured, shares or {})


def block(*sides: slice) -> np.ndarray:
    mask = np.zeros((40, 40, 40), bool)
    mask[sides or (slice(10, 22),) * 3] = True
    return mask


def test_a_lesion_of_ground_glass_with_a_dense_core_is_plausible() -> None:
    scan, _ = chest()
    lesion, core = block(), block(*(slice(13, 19),) * 3)
    scan.hu[lesion], scan.hu[core] = GLASS, DENSE
    assert flags_of(scan, lesion, core) == ()


def test_nothing_found_is_plausible() -> None:
    scan, lung = chest()
    assert flags_of(scan, ~lung, ~lung) == ()


def test_nearly_all_of_the_lungs_is_implausible_whatever_its_density() -> None:
    scan, lung = chest()
    scan.hu[:] = GLASS
    (flag,) = flags_of(scan, lung)
    assert "100% of the lungs is called infected, more than 90%" in flag


@pytest.mark.parametrize(
    ("hu", "sentence"),
    [
        (-821, "the HU of aerated lung, -821 on average; expected at least -700"),
        (-701, "the HU of aerated lung"),
        (-699, None),
    ],
)
def test_infection_of_aerated_lung_is_implausible(hu: int, sentence: str | None) -> None:
    scan, _ = chest()
    scan.hu[block()] = hu
    flags = flags_of(scan, block())
    assert len(flags) == (sentence is not None)
    assert all(sentence in flag for flag in flags if sentence)


@pytest.mark.parametrize(("rest", "flagged"), [(-649, True), (-651, False)])
def test_infection_must_be_denser_than_the_rest(rest: int, flagged: bool) -> None:
    scan, _ = chest()
    scan.hu[:] = rest
    scan.hu[block()] = GLASS
    flags = flags_of(scan, block())
    assert len(flags) == flagged
    assert all(f"hardly denser than the rest of the lungs, -550 HU on average against {rest}" in flag for flag in flags)


@pytest.mark.parametrize(("hu", "flagged"), [(-401, True), (-399, False)])
def test_consolidation_must_be_denser_than_ground_glass(hu: int, flagged: bool) -> None:
    scan, _ = chest()
    core = block(*(slice(12, 20),) * 3)
    scan.hu[block()] = GLASS
    scan.hu[core] = hu
    flags = flags_of(scan, block(), core)
    assert len(flags) == flagged
    assert all(f"called consolidation has the HU of ground glass, {hu} on average" in flag for flag in flags)


def test_the_densest_group_is_judged_as_consolidation() -> None:
    scan, lung = chest()
    core = block(*(slice(12, 20),) * 3)
    scan.hu[block()] = GLASS
    masks: Masks = {"lungs": lung, "infection": block(), "groups": lung.astype(np.uint8) + block() + np.uint8(2) * core}
    measured = measure(scan, masks, L3) | {"entropy_in_lungs_bits": 0.9}
    (flag,) = answer_flags(scan, masks, L3, measured, {})  # soft labels leave a network undecided
    assert "called consolidation has the HU of ground glass, -550" in flag


def test_too_little_to_have_a_density_or_a_shape_is_not_judged() -> None:
    scan, _ = chest()
    assert flags_of(scan, block(slice(0, 4), slice(0, 4), slice(0, 4))) == ()  # 0.1 % of the lungs, at -850 HU


@pytest.mark.parametrize("error_hu", [None, 35.0])
def test_grey_values_have_no_hu_to_judge(error_hu: float | None) -> None:
    scan, _ = chest(windows=(GreyWindow(-1100.0, 260.0, error_hu),))
    assert flags_of(scan, block()) == ()


def test_specks_and_shells_are_implausible_and_a_large_lesion_beside_them_is_not() -> None:
    scan, _ = chest()
    rng = np.random.default_rng(0)
    specks = np.zeros((40, 40, 40), bool)
    specks[1::4, 1::4, 1::4] = rng.random((10, 10, 10)) < 0.9
    shell = block(slice(5, 7))
    for infection in (specks, shell):
        scan.hu[infection] = GLASS
        (flag,) = flags_of(scan, infection)
        assert "100% of what is called infected lies in" in flag
    lesion = block(*(slice(8, 32),) * 3)
    scan.hu[lesion] = GLASS
    assert flags_of(scan, lesion | specks) == ()


@pytest.mark.parametrize(
    ("shares", "flagged"),
    [
        ([0.20, 0.22, 0.19, 0.21], False),  # flips of a good model
        ([0.05, 0.40], True),
        ([0.001, 0.010], False),  # less than a hundredth of the lungs
        ([0.2], False),
        ([math.nan, 0.2], True),
        ([0.2, math.nan], True),
    ],
)
def test_answers_that_disagree_are_flagged(shares: list[float], flagged: bool) -> None:
    scan, _ = chest()
    scan.hu[block()] = GLASS
    flags = flags_of(scan, block(), shares={"infection": shares})
    assert len(flags) == flagged
    assert all("disagree: infection is" in flag for flag in flags)


@pytest.mark.parametrize(("entropy", "flagged"), [(0.071, False), (0.142, True), (math.nan, True)])
def test_an_undecided_model_is_flagged(entropy: float, flagged: bool) -> None:
    scan, _ = chest()
    scan.hu[block()] = GLASS
    flags = flags_of(scan, block(), entropy=entropy)
    assert len(flags) == flagged
    assert all("the model is undecided" in flag for flag in flags)


def test_what_is_not_a_number_is_flagged() -> None:
    scan, lung = chest()
    measured: dict[str, float | None] = {
        "severity_score": math.nan,
        "entropy_in_lungs_bits": math.nan,
        "lung_mean_hu": math.nan,
    }
    measured |= {"infection_mean_hu": math.nan, "consolidation_mean_hu": None, "consolidation_score": 0.0}
    flags = answer_flags(scan, {"lungs": lung, "infection": lung}, EM, measured, {"infection": [math.nan]})
    assert any("nan% of the lungs" in flag for flag in flags)
    assert any("HU of aerated lung, nan" in flag for flag in flags)
