"""Measurements as text."""

import re
from typing import Any

import numpy as np
import pytest

from ct.classes import EM, L3
from ct.lungs.lobe_scores import LOBE_SCORES, SUM
from ct.scan import Grid, Scan
from inference.density import measure_density
from inference.measure import measure
from inference.overlays import findings_of
from inference.result import Masks, Measurements
from viewer.measured import densities, region_table, scores_table, volumes_table

FINDINGS = [EM.finding("infection"), *(each for each in L3.multiclass_findings if each.key == "group_2")]
MEASURED = {
    "lung_ml": 4321.4,
    "infection_ml": 98.76,
    "infection_mean_hu": -432.1,
    "infection_mass_g": 56.2,
    "group_2_ml": 2.34,
    "group_2_mean_hu": None,
    "group_2_mass_g": None,
    "severity_score": 0.0228,
    "wal_percent": 97.72,
    "left_lung_ml": 2000.0,
    "left_infection_ml": 50.0,
    "left_infection_share": 0.025,
    "left_group_2_ml": None,
    "left_group_2_share": 0.5,
    "entropy_in_lungs_bits": 0.1234,
    "infection_ml_low": 80.0,
    "infection_ml_high": 120.0,
    "interval_coverage": 0.9,
}


def test_volumes_have_their_units_in_the_headings() -> None:
    assert volumes_table(MEASURED, FINDINGS).to_dict("index") == {
        "lungs": {
            "volume (ml)": "4,321",
            "share of the lungs (%)": "-",
            "mean HU": "-",
            "mass (g)": "-",
            "interval (ml)": "-",
        },
        "infection": {
            "volume (ml)": "99",
            "share of the lungs (%)": "2.3",
            "mean HU": "-432",
            "mass (g)": "56",
            "interval (ml)": "80 to 120",
        },
        "pure ground glass": {
            "volume (ml)": "2.3",
            "share of the lungs (%)": "0.1",
            "mean HU": "-",
            "mass (g)": "-",
            "interval (ml)": "-",
        },
    }


def test_regions_are_sides_and_thirds() -> None:
    assert region_table(MEASURED, FINDINGS).to_dict("index") == {
        "left lung": {"lung": "2,000 ml", "infection": "2.5 % (50 ml)", "pure ground glass": "50 %"}
    }
    assert region_table({"lung_ml": 1.0}, FINDINGS).empty


def test_scores_have_the_papers_names() -> None:
    assert scores_table(MEASURED)["value"].to_dict() == {
        "severity score (infection in the lungs)": "0.023",
        "well-aerated lung (%)": "97.7",
        "mean entropy in the lungs (bits)": "0.123",
    }


def test_scores_of_lobes_say_up_to_what_they_go() -> None:
    scores = {SUM: 12.0, f"{SUM}_low": 10.0, f"{SUM}_high": 13.0}
    scores |= {f"{LOBE_SCORES['left_upper_lobe']}{end}": 2.0 for end in ("", "_low", "_high")}
    assert scores_table(scores)["value"].to_dict() == {
        "CT severity score (0 to 25)": "12 (10 to 13)",
        "left upper lobe, score (0 to 5)": "2",
    }


class Read(dict[str, float | None]):
    """Measurements that remember which of them were looked at."""

    def __init__(self, measured: Measurements) -> None:
        super().__init__(measured)
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> float | None:
        self.keys_read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_read.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("task", ["infection", "consolidation", "opacity"])
def test_all_that_is_measured_is_shown_and_no_key_is(task: str) -> None:
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    scan = Scan(np.full((6, 8, 10), -700, np.int16), affine, Grid((10, 8, 6), affine), "s")
    inside = np.ones(scan.hu.shape, bool)
    masks: Masks = {"lungs": inside, "infection": inside}
    masks |= {"consolidation": inside} if task == "consolidation" else {}
    masks |= {"groups": np.full(scan.hu.shape, 3, np.uint8)} if task == "opacity" else {}
    classes = L3 if task == "opacity" else EM
    lobes = np.broadcast_to(1 + np.arange(10, dtype=np.int8) // 2, scan.hu.shape)
    measured, findings = Read(measure(scan, masks, classes, lobes)), findings_of(masks, classes)
    tables = [volumes_table(measured, findings), region_table(measured, findings), scores_table(measured)]
    assert set(measured) <= measured.keys_read
    measured |= measure_density(scan, inside, lobes)
    tables += [densities(measured)]
    shown = [f"{region}_mean_hu" for region in ("lung", "right", "ventral", "left_lower_lobe")]
    assert set(shown) <= measured.keys_read
    words = [word for table in tables for word in (*table.index, *table.columns, *table.to_numpy().ravel())]
    assert not [word for word in words if re.search(r"\w_\w", word)]
