"""Predictions of slice images: HU that nobody declared are estimated and flagged; those of a cohort are warnings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from grey_slices import as_grey, chest, errors_hu
from PIL import Image

from ct.grey_window import GreyWindow, describe_windows
from inference.answer_flags import DECLARED_GREYS, ESTIMATED_GREYS
from inference.flags import UNASKED
from inference.predict import main

WINDOW = (-1250.0, 250.0)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two slices, and a cohort.csv that declares one, and has the other estimated."""
    folder = tmp_path_factory.mktemp("slices")
    (folder / "ct").mkdir()
    for z in (5, 6):
        Image.fromarray(as_grey(chest().hu[z], *WINDOW)).save(folder / "ct" / f"{z}.png")
    (folder / "cohort.csv").write_text(
        "scan_id,patient_id,site,image,grey_low_hu,grey_high_hu\n"
        f"declared,p,A,ct/5.png,{WINDOW[0]},{WINDOW[1]}\n"
        "estimated,q,A,ct/6.png,auto,auto\n"
    )
    return folder


def predict(run: Path, scan: Path, out: Path) -> Path:
    main([f"--ckpt={run / 'best.ckpt'}", f"--scan={scan}", f"--out={out}"])
    return out


def numbers(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "measurements.json").read_text())
    return content


def windows_of(result: dict[str, Any]) -> list[GreyWindow]:
    return [
        GreyWindow(*each)
        for each in zip(*(result[f"grey_{key}"] for key in ("low_hu", "high_hu", "error_hu")), strict=True)
    ]


def test_slices_that_nobody_declared_are_answered_with_a_flag(slices: Path, em_run: Path, tmp_path: Path) -> None:
    for scan, count in ((slices / "ct" / "6.png", 1), (slices / "ct", 2)):
        out = predict(em_run, scan, tmp_path / f"out{count}")
        result = numbers(out)
        windows = windows_of(result)
        assert len(windows) == count
        assert all(np.abs(errors_hu(window, *WINDOW)).max() < 60 for window in windows)
        assert UNASKED in result["flags"]
        assert describe_windows(windows) in result["repairs"]
        assert ESTIMATED_GREYS in result["warnings"]
        page = (out / "report.html").read_text()
        assert "the HU are an estimate: a slice image has grey values only" in page
        assert describe_windows(windows) in page


def test_a_cohort_says_what_is_declared_and_what_is_estimated(slices: Path, em_run: Path, tmp_path: Path) -> None:
    out = predict(em_run, slices / "cohort.csv", tmp_path / "out")
    declared, estimated = (numbers(out / name) for name in ("declared", "estimated"))
    assert not any(key.startswith("grey_") for key in declared)
    assert (DECLARED_GREYS in declared["warnings"], ESTIMATED_GREYS in declared["warnings"]) == (True, False)
    assert (DECLARED_GREYS in estimated["warnings"], ESTIMATED_GREYS in estimated["warnings"]) == (False, True)
    assert not any(flag.startswith("the HU are an estimate") for flag in declared["flags"] + estimated["flags"])
    errors = pd.read_csv(out / "measurements.csv").set_index("name")["grey_error_hu"].astype(float)
    assert errors["estimated"] == pytest.approx(estimated["grey_error_hu"][0])
    assert np.isnan(errors["declared"])


def test_an_unusual_estimate_is_flagged_though_it_was_asked_for(em_run: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray((chest().lungs[6] > 0).astype(np.uint8) * 255).save(tmp_path / "lung.png")
    (tmp_path / "cohort.csv").write_text(
        "scan_id,patient_id,site,image,lung_mask,grey_low_hu,grey_high_hu\na,p,A,a.png,lung.png,auto,auto\n"
    )
    flags = numbers(predict(em_run, tmp_path / "cohort.csv", tmp_path / "out") / "a")["flags"]
    assert any(flag.startswith("unusual grey values: the HU of 1 of 1 slices cannot be told") for flag in flags)
