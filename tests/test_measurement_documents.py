"""docs/measurements.md defines every key of measurements.json and measurements.csv once, and no other."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_result import CARD, make_result, make_scan
from fissured_lungs import FissuredLungs, fissured_lungs
from places import ROOT

from ct.classes import EM, L3, ClassSet, read_class_set
from ct.densitometry import HIGHEST_HU, LOWEST_HU, density_of
from ct.grey_window import GreyWindow
from ct.lungs.lobe_scores import SUM, score_of
from ct.lungs.lobes import find_lobes
from inference.density import measure_density
from inference.lobar_scores import measure_scores
from inference.many_scans import segment_batch
from inference.measure import measure, spread
from inference.outputs.write_outputs import numbers, write_outputs
from inference.result import Masks, Result
from inference.scan_list import Source
from inference.segmenter import Segmenter
from inference.volume_intervals import Calibration

PAGE = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
TABLE = re.compile(r"^\| (?P<first>[^|]*) \|[^\n]*\n\| ?-[^\n]*\n(?P<rows>(?:\|[^\n]*\n)+)", re.MULTILINE)
ROW = re.compile(r"^\| `(?P<key>[^`]+)` \|(?P<rest>[^\n]*)\|$", re.MULTILINE)
PLACEHOLDER = re.compile(r"<\w+>")
FINDING = "<finding>"


# -- what the page says ------------------------------------------------------------------------------------------------


def rows_of(page: str, first: str) -> list[tuple[str, str]]:
    """Return the rows of all tables whose first heading is this one: what stands between backquotes, and the rest."""
    tables = [table["rows"] for table in TABLE.finditer(page) if table["first"] == first]
    return [(row["key"], row["rest"]) for rows in tables for row in ROW.finditer(rows)]


def expanded(pattern: str, parts: dict[str, list[str]]) -> Iterator[str]:
    """Yield what a pattern stands for."""
    names = PLACEHOLDER.findall(pattern)
    for values in product(*(parts[name] for name in names)):
        key = pattern
        for name, value in zip(names, values, strict=True):
            key = key.replace(name, value, 1)
        if PLACEHOLDER.search(key) and key != pattern:
            yield from expanded(key, parts)
        else:
            yield key


def differences(page: str) -> tuple[set[str], set[str], set[str]]:
    """Return the keys that are written and not on the page, that are on it and never written, and that are there twice.

    A key of a finding is written if that of any finding is.
    """
    parts = {name: re.findall(r"`([^`]+)`", rest) for name, rest in rows_of(page, "part of a key")}
    written, findings = written_keys()
    documented: Counter[str] = Counter()
    unwritten = set()
    for pattern, _ in rows_of(page, "key"):
        for of_finding in expanded(pattern, parts | {FINDING: [FINDING]}):
            keys = set(expanded(of_finding, {FINDING: findings}))
            documented.update(keys)
            if not keys & written:
                unwritten.add(of_finding)
    return written - set(documented), unwritten, {key for key, count in documented.items() if count > 1}


# -- what is written ---------------------------------------------------------------------------------------------------


def draw_masks(lung: np.ndarray, classes: ClassSet, multi_class: bool) -> Masks:
    """Return masks of a model: nested ones, or those of all leaves."""
    rng = np.random.default_rng(0)
    if not multi_class:
        infection = lung & (rng.random(lung.shape) < 0.3)
        return {"lungs": lung, "infection": infection, "consolidation": infection & (rng.random(lung.shape) < 0.5)}
    inside = [index for index in classes.foreground if index not in classes.outside]
    groups = np.where(lung, rng.choice([1, *inside], lung.shape), 0).astype(np.uint8)
    for index in classes.outside:
        groups[~lung & (rng.random(lung.shape) < 0.1)] = index
    unions = {
        finding.key: np.isin(groups, classes.indices_of(finding.key))
        for finding in classes.findings
        if len(finding.leaves) > 1
    }
    return {"lungs": lung, **unions, "groups": groups}


def segmented(classes: ClassSet, multi_class: bool, chest: FissuredLungs) -> Result:
    """Measure a scan as the segmenter does after several answers of a calibrated model."""
    affine = np.diag([-chest.spacing_mm[2], -chest.spacing_mm[1], chest.spacing_mm[0], 1.0])
    windows = (GreyWindow(-1000, 400, 50.0),) * len(chest.hu)
    scan = make_scan(chest.hu, affine=affine, grey_windows=windows)
    masks = draw_masks(chest.lung, classes, multi_class)
    outermost = classes.findings[0].key
    lobes = find_lobes(chest.lung, chest.spacing_mm)
    assert lobes is not None
    measured = measure(scan, masks, classes, lobes.labels) | {"entropy_in_lungs_bits": 0.1}
    findings = [key.removesuffix("_share").removeprefix("right_") for key in measured if _is_of_right_lung(key)]
    measured |= spread({finding: [0.1, 0.2] for finding in findings}, measured["lung_ml"])
    calibration = Calibration(("a",), 1, "file", 0.9, 19, dict.fromkeys(findings, 0.2))
    measured |= calibration.intervals(measured)
    opacity = masks[outermost] > 0
    measured |= measure_scores(scan, lobes, opacity, [0.1, 0.2], measured, outermost)
    measured |= measure_density(scan, chest.lung, lobes.labels, opacity)
    return make_result(scan=scan, masks=masks, measurements=measured, classes=classes, lobes=lobes.labels)


def _is_of_right_lung(key: str) -> bool:
    return re.fullmatch(r"right_(?!lower_|middle_|upper_)\w+_share", key) is not None


@dataclass(frozen=True)
class DrawingSegmenter:
    """A segmenter that has one answer for every scan."""

    result: Result
    lung_method: str = "classical"
    card = CARD

    @property
    def classes(self) -> ClassSet:
        return self.result.classes

    def predict(self, source: Source, out: Path) -> Result:
        return write_outputs(self.result, out)


@cache
def written_keys() -> tuple[set[str], list[str]]:
    """Return the keys of measurements.json and the columns of measurements.csv, and all findings in them."""
    chest = fissured_lungs((8.0, 8.0, 8.0))
    results = [segmented(*each, chest) for each in ((EM, False), (L3, True), (read_class_set("ild"), True))]
    keys = {key for result in results for key in numbers(result)}
    findings = {finding.key for result in results for finding in result.classes.findings}
    findings |= {leaf.key for result in results for leaf in result.classes.leaves}
    with TemporaryDirectory() as folder:
        scans, out = Path(folder) / "scans", Path(folder) / "out"
        scans.mkdir()
        (scans / "a.nii.gz").touch()
        segmenter: Any = DrawingSegmenter(results[0])
        segment_batch(segmenter, scans, out)
        (stored,) = out.glob("*/measurements.json")
        keys |= set(json.loads(stored.read_text(encoding="utf-8")))
        keys |= set(pd.read_csv(out / "measurements.csv").columns)
    return keys, sorted(findings)


# -- both --------------------------------------------------------------------------------------------------------------


def test_every_key_is_defined_once_and_no_other() -> None:
    assert len(written_keys()[0]) > 500
    assert differences(PAGE) == (set(), set(), set())


@pytest.mark.parametrize(
    ("old", "new", "undocumented", "unwritten"),
    [
        ("\n| `lobe_doubt` |", "\n| `lobes_doubt` |", {"lobe_doubt"}, {"lobes_doubt"}),
        ("| `version` |", "| version |", {"version"}, set()),
        ("`dorsal`: in", "`back`: in", {"dorsal_sd_hu", "dorsal_kurtosis_without_vessels"}, {"back_sd_hu"}),
        ("| `<part>_<finding>_share` |", "| `<lobe>_<finding>_share` |", {"left_upper_emphysema_share"}, set()),
        ("| `<lobe>_score_low` |", "| `<side>_score_low` |", {"left_upper_lobe_score_low"}, {"left_score_low"}),
        ("| `<finding>_mass_g` |", "| `<finding>_kg` |", {"effusion_mass_g", "group_3_mass_g"}, {"<finding>_kg"}),
    ],
)
def test_a_wrong_page_would_be_noticed(old: str, new: str, undocumented: set[str], unwritten: set[str]) -> None:
    assert PAGE.count(old) == 1
    missing, extra, _ = differences(PAGE.replace(old, new))
    assert missing >= undocumented
    assert extra >= unwritten
    assert bool(extra) == bool(unwritten)


def test_a_second_definition_would_be_noticed() -> None:
    (row,) = re.findall(r"^\| `lung_ml` \|.*\n", PAGE, re.MULTILINE)
    assert differences(PAGE.replace(row, row + row)) == (set(), set(), {"lung_ml"})


def test_exact_limits_of_the_score_are_those_of_the_page() -> None:
    (sentence,) = re.findall(r"exactly 0 % scores 0[^.]*(?:\.\d[^.]*)*", PAGE)
    stated = {float(share): int(score) for share, score in re.findall(r"([\d.]+) % scores (\d)", sentence)}
    assert set(stated) == {0.0, 0.1, 5.0, 25.0, 50.0, 75.0}
    scores = score_of(np.array(list(stated)) / 100)
    assert dict(zip(stated, scores.tolist(), strict=True)) == stated
    beside = score_of(np.array([0.000999, 0.049999, 0.250001, 0.499999, 0.750001]))
    assert beside.tolist() == [0, 1, 3, 3, 5], "the table says which side each limit belongs to"


def test_limits_of_the_bands_are_those_of_the_page() -> None:
    bands = {
        key.removeprefix("<region>_"): band.groups()
        for key, rest in rows_of(PAGE, "key")
        if (band := re.search(r"at (?:HU of )?\[(-?\d+), (-?\d+)([\])])", rest))
    }
    assert len(bands) == 7
    for name, (low, high, bracket) in bands.items():
        first, last = int(low), int(high) - (bracket == ")")
        for hu in {first - 1, first, last, last + 1} & set(range(LOWEST_HU, HIGHEST_HU + 1)):
            histogram = np.zeros(HIGHEST_HU - LOWEST_HU + 1, np.int64)
            histogram[hu - LOWEST_HU] = 7
            assert density_of(histogram, 1.0)[name] == (100 if first <= hu <= last else 0), (name, hu)


@pytest.mark.slow
def test_the_segmenter_writes_what_the_page_has() -> None:
    chest = fissured_lungs((5.0, 4.0, 4.0))
    affine = np.diag([-4.0, -4.0, 5.0, 1.0])
    result = Segmenter(["default"], flips=True, device="cpu").segment(make_scan(chest.hu, affine=affine))
    assert result.lobes is not None
    written = set(numbers(result))
    assert {"infection_ml_spread", f"{SUM}_low", "entropy_in_lungs_bits"} <= written
    assert written <= written_keys()[0]
