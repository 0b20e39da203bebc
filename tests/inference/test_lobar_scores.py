"""CT severity score of the lobes and its interval."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import LOBE_SCORES, SUM, score_of
from ct.lungs.lobes import DRAWN_MM, Lobes
from ct.resample import coarser_grid
from ct.scan import Grid, Scan
from inference.lobar_scores import COVERAGE, KEYS, MOST_DOUBT, lobes_of, measure_scores

SPACING_MM = 3.0
SHAPE = (50, 40, 40)


def a_scan() -> Scan:
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    return Scan(np.full(SHAPE, -850, np.int16), affine, Grid(SHAPE[::-1], affine), "s")


def five_lobes(*draws: NDArray[np.int8]) -> Lobes:
    """Lobes of 10 slices each, and other draws of them."""
    labels = np.repeat(np.arange(1, 6, dtype=np.int8), 10)[:, None, None] + np.zeros(SHAPE, np.int8)
    grid = coarser_grid(SHAPE, (SPACING_MM,) * 3, (DRAWN_MM,) * 3)
    assert grid.shape == SHAPE, "draws lie on the scan's own grid here"
    return Lobes(labels, np.stack(draws or (labels,)), 0.0)


def involved(*shares: float) -> NDArray[np.bool_]:
    """Mark the first voxels of every lobe, as many as a share of it."""
    size = 10 * SHAPE[1] * SHAPE[2]
    marks = [np.arange(size) < round(share * size) for share in shares]
    return np.concatenate(marks).reshape(SHAPE)


def measured_of(labels: NDArray[np.int8], opacity: NDArray[np.bool_]) -> dict[str, float | None]:
    """What `inference.measure` says of the lobes' shares, counted by hand."""
    counts = [(int((labels == lobe).sum()), int(opacity[labels == lobe].sum())) for lobe in range(1, 6)]
    shares = {
        f"{name}_infection_share": part / whole if whole else None
        for name, (whole, part) in zip(LOBES, counts, strict=True)
    }
    return shares | {"lung_ml": int((labels > 0).sum()) * SPACING_MM**3 / 1000}


def test_a_limit_is_a_limit_whatever_the_size_of_a_voxel() -> None:
    lobes, opacity = five_lobes(), involved(0.05, 0.25, 0.5, 0.75, 0.001)
    for size_mm in (3.0, 3.3, 2.7182, 3.14159):
        scan = replace(a_scan(), affine=np.diag([-size_mm, -size_mm, 1.7 * size_mm, 1.0]))
        grid = coarser_grid(SHAPE, scan.spacing_mm, (DRAWN_MM,) * 3)
        here = replace(lobes, draws=grid.apply_mask(lobes.labels)[None])
        measured = measure_scores(scan, here, opacity, [], measured_of(here.labels, opacity), "infection")
        assert [measured[key] for key in LOBE_SCORES.values()] == [2, 2, 4, 4, 1], size_mm


def test_an_empty_lobe_has_no_score() -> None:
    lobes = five_lobes()
    two = replace(lobes, labels=np.where(lobes.labels == 2, 1, lobes.labels).astype(np.int8))
    opacity = involved(0, 0, 0, 0, 1)
    measured = measure_scores(a_scan(), two, opacity, [], measured_of(two.labels, opacity), "infection")
    assert measured["right_middle_lobe_score"] is None
    assert measured[SUM] is None
    assert measured["left_lower_lobe_score"] == 5


def test_the_sum_is_that_of_the_lobes() -> None:
    lobes, opacity = five_lobes(), involved(0, 0.02, 0.1, 0.6, 0.9)
    measured = measure_scores(a_scan(), lobes, opacity, [], measured_of(lobes.labels, opacity), "infection")
    assert [measured[key] for key in LOBE_SCORES.values()] == [0, 1, 2, 4, 5]
    assert measured[SUM] == 12
    # Nothing is uncertain here: one way to divide the lungs, one answer, no calibration.
    assert (measured[f"{SUM}_low"], measured[f"{SUM}_high"]) == (12, 12)


def test_where_lobes_may_end_elsewhere_scores_have_an_interval() -> None:
    lobes = five_lobes()
    moved = np.roll(lobes.labels, 3, 0)
    moved[:3] = 1
    several = replace(lobes, draws=np.stack([lobes.labels] * 6 + [moved] * 4))
    # A plate of opacity at the border: lobe 2 has 24 % of it, or 6 % of it where the border lies three slices higher.
    opacity = np.zeros(SHAPE, np.bool_)
    opacity[10:13, :, :32] = True
    measured = measure_scores(a_scan(), several, opacity, [], measured_of(several.labels, opacity), "infection")
    assert [measured[f"right_middle_lobe_score{end}"] for end in ("", "_low", "_high")] == [2, 0, 2]
    assert [measured[f"right_upper_lobe_score{end}"] for end in ("", "_low", "_high")] == [0, 0, 2]
    assert measured["left_lower_lobe_score_high"] == 0


def test_answers_that_differ_and_calibrations_widen_the_interval() -> None:
    lobes, opacity = five_lobes(*[five_lobes().labels] * 40), involved(0.2, 0.2, 0.2, 0.2, 0.2)
    known = measured_of(lobes.labels, opacity)
    certain = measure_scores(a_scan(), lobes, opacity, [0.2], known, "infection")
    assert (certain[f"{SUM}_low"], certain[f"{SUM}_high"]) == (10, 10)
    members = measure_scores(a_scan(), lobes, opacity, [0.04, 0.2, 0.36], known, "infection")
    # Members that call a fifth and nine fifths of it: every lobe has 4 % or 36 % then.
    assert (members[f"{SUM}_low"], members[f"{SUM}_high"]) == (5, 15)
    lung_ml = opacity.size * SPACING_MM**3 / 1000
    interval = {"infection_ml": 0.2 * lung_ml, "infection_ml_high": 0.22 * lung_ml, "interval_coverage": 0.8}
    narrow = measure_scores(a_scan(), lobes, opacity, [0.04, 0.2, 0.36], known | interval, "infection")
    assert narrow[f"{SUM}_low"] == narrow[SUM] == 10, "the calibration counts, not members"


def test_intervals_of_calibrated_volumes_hold_the_true_score() -> None:
    rng = np.random.default_rng(0)
    lobes, scan = five_lobes(*[five_lobes().labels] * 40), a_scan()
    lung_ml = lobes.labels.size * SPACING_MM**3 / 1000
    held = []
    for _ in range(60):
        true = rng.uniform(0, 0.5, 5)
        factor = rng.normal(1, 0.3)
        opacity = involved(*(true * factor).clip(0, 1))
        ml = float(opacity.mean()) * lung_ml
        half_ml = 1.2816 * 0.3 * float(true.mean()) * lung_ml  # of an 80 % interval of a normal error
        interval = {"infection_ml": ml, "infection_ml_high": ml + half_ml, "interval_coverage": 0.8}
        measured = measure_scores(scan, lobes, opacity, [], measured_of(lobes.labels, opacity) | interval, "infection")
        low, high = measured[f"{SUM}_low"], measured[f"{SUM}_high"]
        assert low is not None
        assert high is not None
        held.append(low <= score_of(true).sum() <= high)
    assert np.mean(held) >= COVERAGE - 0.08


def test_without_lobes_all_keys_are_there_and_none() -> None:
    measured = measure_scores(a_scan(), None, involved(0, 0, 0, 0, 0), [], {}, "infection")
    assert set(measured) == {*KEYS, "lobe_doubt"}
    assert set(measured.values()) == {None}
    lobes, opacity = five_lobes(), involved(0, 0, 0, 0, 1)
    assert set(measure_scores(a_scan(), lobes, opacity, [], measured_of(lobes.labels, opacity), "infection")) == set(
        measured
    )


def test_a_scan_without_lobes_says_why() -> None:
    scan = a_scan()
    lung = np.zeros(SHAPE, np.bool_)
    lung[5:45, 5:35, 3:18] = lung[5:45, 5:35, 22:37] = True

    def reason(scan: Scan, lung: NDArray[np.bool_]) -> str:
        lobes, sentences = lobes_of(scan, lung)
        assert lobes is None
        (sentence,) = sentences
        return str(sentence)

    assert "size of a pixel is unknown" in reason(replace(scan, spacing_known=False), lung)
    assert "60 mm of lung" in reason(scan, lung & (np.arange(SHAPE[0]) < 25)[:, None, None])
    assert "cuts the lungs at the head" in reason(replace(scan, hu=scan.hu[:42]), lung[:42])
    right = lung & (np.arange(SHAPE[2]) < 20)
    assert "one of the two lungs is missing" in reason(scan, right)
    speck = lung & (np.indices(SHAPE) < np.reshape([14, 14, 32], (3, 1, 1, 1))).all(0)  # 9 x 9 x 10 voxels of the left
    assert "has fewer than 1000 voxels of the lattice" in reason(scan, right | speck)
    lobes, sentences = lobes_of(scan, lung)
    assert lobes is not None
    assert set(np.unique(lobes.labels)) == set(range(6))
    assert ("uncertain" in " ".join(map(str, sentences))) == (lobes.doubt > MOST_DOUBT)
