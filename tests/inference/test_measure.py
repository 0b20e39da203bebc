"""Measurements against counting voxel by voxel."""

import numpy as np
import pytest

from ct.classes import EM, L3
from ct.scan import Grid, Scan
from inference.measure import measure, spread
from inference.result import Masks


def chest(seed: int = 0) -> tuple[Scan, dict[str, np.ndarray]]:
    """Two boxes of lung with random findings: the right one is z 2..10, the left one 3..8."""
    rng = np.random.default_rng(seed)
    lung = np.zeros((12, 20, 40), bool)
    lung[2:11, 4:16, 4:17], lung[3:9, 4:16, 23:36] = True, True
    infection = lung & (rng.random(lung.shape) < 0.3)
    consolidation = infection & (rng.random(lung.shape) < 0.4)
    hu = rng.integers(-1024, 300, lung.shape).astype(np.int16)
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    return Scan(hu, affine, Grid((40, 20, 12), affine), "x"), {
        "lungs": lung,
        "infection": infection,
        "consolidation": consolidation,
    }


def test_volumes_density_and_mass_are_those_of_the_voxels() -> None:
    scan, masks = chest()
    measured = measure(scan, masks, EM)
    voxel_ml = 2 * 2 * 3 / 1000
    assert measured["lung_ml"] == pytest.approx(masks["lungs"].sum() * voxel_ml)
    assert measured["lung_mean_hu"] == pytest.approx(scan.hu[masks["lungs"]].mean())
    for name in ("infection", "consolidation"):
        hu = scan.hu[masks[name]].astype(float)
        assert measured[f"{name}_ml"] == pytest.approx(len(hu) * voxel_ml)
        assert measured[f"{name}_mean_hu"] == pytest.approx(hu.mean())
        assert measured[f"{name}_mass_g"] == pytest.approx((np.clip(hu, -1000, None) + 1000).sum() / 1000 * voxel_ml)
    assert measured["severity_score"] == pytest.approx(masks["infection"].sum() / masks["lungs"].sum())
    assert measured["consolidation_score"] == pytest.approx(masks["consolidation"].sum() / masks["lungs"].sum())


def test_regions_are_thirds_of_each_lungs_own_height() -> None:
    scan, masks = chest()
    measured = measure(scan, masks, EM)
    rows = {  # canonical x runs from the patient's right to the left
        "right": (slice(2, 11), slice(0, 20)), "left": (slice(3, 9), slice(20, 40)),
        "right_lower": (slice(2, 5), slice(0, 20)), "right_middle": (slice(5, 8), slice(0, 20)),
        "right_upper": (slice(8, 11), slice(0, 20)), "left_lower": (slice(3, 5), slice(20, 40)),
        "left_middle": (slice(5, 7), slice(20, 40)), "left_upper": (slice(7, 9), slice(20, 40)),
    }  # fmt: skip
    for region, (z, x) in rows.items():
        lung, infection = (masks[name][z, :, x].sum() for name in ("lungs", "infection"))
        assert measured[f"{region}_lung_ml"] == pytest.approx(lung * 0.012)
        assert measured[f"{region}_infection_ml"] == pytest.approx(infection * 0.012)
        assert measured[f"{region}_infection_share"] == pytest.approx(infection / lung)


def test_groups_are_measured_each_and_together() -> None:
    scan, masks = chest()
    groups = np.where(masks["lungs"], np.random.default_rng(1).integers(0, 5, masks["lungs"].shape), 0).astype(np.uint8)
    infection = masks["infection"]  # as likely three groups may be together where each alone is not
    measured = measure(scan, {"lungs": masks["lungs"], "infection": infection, "groups": groups}, L3)
    for group in (2, 3, 4):
        assert measured[f"group_{group}_ml"] == pytest.approx((groups == group).sum() * 0.012)
        assert measured[f"group_{group}_mean_hu"] == pytest.approx(scan.hu[groups == group].mean())
    assert measured["infection_ml"] == pytest.approx(infection.sum() * 0.012)
    assert measured["consolidation_score"] == pytest.approx((groups == 4).sum() / masks["lungs"].sum())
    assert measured["wal_percent"] == pytest.approx(100 - 100 * infection.sum() / masks["lungs"].sum())


def test_without_spacing_and_without_findings_there_are_no_ml_and_no_density() -> None:
    scan, masks = chest()
    unknown = Scan(scan.hu, scan.affine, scan.source, "x", spacing_known=False)
    healthy = {"lungs": masks["lungs"], "infection": np.zeros_like(masks["lungs"])}
    measured = measure(unknown, healthy, EM)
    assert (measured["lung_ml"], measured["infection_mean_hu"], measured["infection_mass_g"]) == (None, None, None)
    assert measured["severity_score"] == 0


def test_one_lung_alone_leaves_the_other_undefined() -> None:
    scan, masks = chest()
    one: Masks = {name: mask & (np.arange(40) < 20) for name, mask in masks.items()}
    measured = measure(scan, one, EM)
    assert None in (measured["left_infection_share"], measured["right_infection_share"])


def test_the_spread_is_that_of_several_answers() -> None:
    assert spread({"infection": [0.1, 0.3]}, 1000.0) == {
        "infection_ml_spread": pytest.approx(np.std([100, 300], ddof=1))
    }
    assert spread({"infection": [0.1]}, 1000.0) == {}
