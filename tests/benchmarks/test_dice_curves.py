"""The table of time to Dice, from points whose figures are worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.dice_curves import best_peer, curves_of, draw, table


def points_of(
    method: str, fold: int, dice: list[float], seconds: list[float], budget: float = 100.0
) -> list[dict[str, Any]]:
    """The points of a training, 10 steps each."""
    training = {"method": method, "fold": fold, "budget_s": budget}
    rows = enumerate(zip(dice, seconds, strict=True), start=1)
    return [training | {"checkpoint": n, "dice_mean": d, "cpu_s": s, "steps": 10 * n} for n, (d, s) in rows]


@pytest.fixture
def points() -> list[dict[str, Any]]:
    return [
        # Means over folds: ours .3 at 11, .6 at 21, .8 at 31; BasicUNet .2 at 30, .6 at 60, .5 at 90.
        *points_of("ours", 0, [0.2, 0.5, 0.9], [10, 20, 30]),
        *points_of("ours", 1, [0.4, 0.7, 0.7], [12, 22, 32]),
        *points_of("basic_unet", 0, [0.1, 0.5, 0.4], [30, 60, 90]),
        *points_of("basic_unet", 1, [0.3, 0.7, 0.6], [30, 60, 90]),
        *points_of("dynunet", 0, [0.1, 0.2, 0.3], [40, 70, 100]),
        *points_of("dynunet", 1, [0.1, 0.2, 0.3], [40, 70, 100]),
    ]


def test_the_best_peers_best_and_who_reaches_it(points: list[dict[str, Any]]) -> None:
    ours, basic, dynunet = curves_of(points)
    np.testing.assert_allclose(ours.mean_dice, [0.3, 0.6, 0.8])
    np.testing.assert_allclose(ours.mean_cpu_s, [11, 21, 31])
    peer = best_peer([ours, basic, dynunet])
    assert peer is not None
    assert peer[0] is basic
    assert peer[1:] == pytest.approx((0.6, 60))  # its own last, .5, is not its best
    assert [curve.first_reaches(peer[1] - 1e-9) for curve in (ours, basic, dynunet)] == [21, 60, None]


def test_the_table(points: list[dict[str, Any]]) -> None:
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in table(curves_of(points)).strip().splitlines()
    ]
    assert rows[0][-2:] == ["s until 0.600", "of the peer's time"]
    assert rows[2] == ["ours, 100 s", "2", "30", "0.800", "31", "0.800", "21", "0.35"]
    assert rows[3] == ["MONAI BasicUNet, 100 s", "2", "30", "0.600", "60", "0.500", "60", "1.00"]
    assert rows[4] == ["MONAI DynUNet, 100 s", "2", "30", "0.300", "100", "0.300", "never", ""]


def test_only_folds_that_all_have_begun_are_compared(points: list[dict[str, Any]]) -> None:
    points = [point for point in points if (point["method"], point["fold"]) != ("dynunet", 0)]
    ours, basic, dynunet = curves_of(points)
    assert {curve.folds for curve in (ours, basic, dynunet)} == {(1,)}
    np.testing.assert_allclose(ours.mean_dice, [0.4, 0.7, 0.7])
    with pytest.raises(ValueError, match=r"no fold in common.*'ours, 100 s': \[0\].*expected points of one fold"):
        curves_of(points_of("ours", 0, [0.5], [1]) + points_of("dynunet", 1, [0.5], [1]))
    with pytest.raises(ValueError, match="no fold in common"):
        curves_of([])


def test_checkpoints_that_a_fold_lacks_are_left_out_of_the_mean() -> None:
    first = points_of("nnunet_2d", 0, [0.1, 0.2, 0.3], [10, 20, 30])
    second = [point for point in points_of("nnunet_2d", 1, [0.3, 0.4, 0.5], [10, 20, 30]) if point["checkpoint"] != 2]
    (curve,) = curves_of(first + second)
    np.testing.assert_allclose(curve.mean_dice, [0.2, 0.4])
    np.testing.assert_allclose(curve.steps, [[10, 30], [10, 30]])


def test_a_shorter_budget_is_a_curve_of_its_own(points: list[dict[str, Any]]) -> None:
    short = points_of("ours", 0, [0.7], [15], budget=20.0) + points_of("ours", 1, [0.7], [15], budget=20.0)
    labels = [curve.label for curve in curves_of(points + short)]
    assert labels == ["ours, 20 s", "ours, 100 s", "MONAI BasicUNet, 100 s", "MONAI DynUNet, 100 s"]


def test_ours_alone_has_nothing_to_reach() -> None:
    curves = curves_of(points_of("ours", 2, [0.5], [1]))
    assert best_peer(curves) is None
    assert "s until a peer's best" in table(curves)


def test_the_picture_is_drawn(points: list[dict[str, Any]], tmp_path: Path) -> None:
    draw(curves_of(points), tmp_path / "curve.png", "two folds")
    picture = np.asarray(Image.open(tmp_path / "curve.png").convert("L"))
    assert (picture < 250).mean() > 0.01
