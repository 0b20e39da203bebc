"""Scans of grey values in a prepared cohort: what is stored and said of HU that are declared or estimated."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grey_slices import as_grey, chest, errors_hu
from numpy.typing import NDArray
from PIL import Image
from prepare_harness import index_of, verdicts_of

from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.prepare.prepare_scan import prepare_row
from cohort.prepare.sources import hash_content
from cohort.table import read_cohort
from ct.grey_window import AUTO, GreyWindow, describe_windows

WINDOW = (-1250.0, 250.0)


def save(image: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A slice declared, one estimated, and a folder whose second slice is noise."""
    for name, z in (("declared.png", 5), ("estimated.png", 6), ("folder/0.png", 7)):
        save(as_grey(chest().hu[z], *WINDOW), tmp_path / name)
    save(np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8), tmp_path / "folder" / "1.png")
    for name in ("lungs.png", "lung_folder/0.png", "lung_folder/1.png"):
        save((chest().lungs[6] > 0).astype(np.uint8) * 255, tmp_path / name)
    path = tmp_path / "cohort.csv"
    path.write_text(
        "scan_id,patient_id,site,image,lung_mask,split,grey_low_hu,grey_high_hu\n"
        f"declared,p,A,declared.png,lungs.png,train,{WINDOW[0]},{WINDOW[1]}\n"
        "estimated,p,A,estimated.png,lungs.png,train,auto,auto\n"
        "folder,p,A,folder,lung_folder,train,auto,auto\n"
    )
    return path


def test_estimates_are_stored_and_said_and_unusual_ones_are_warnings(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=96, jobs=1)
    records = {name: json.loads((out / name / "scan.json").read_text()) for name in ("declared", "estimated", "folder")}
    assert records["declared"]["grey_hu"] == list(WINDOW)
    assert "grey_windows" not in records["declared"]
    windows = {name: [GreyWindow(*each) for each in records[name]["grey_windows"]] for name in ("estimated", "folder")}
    assert [len(windows[name]) for name in ("estimated", "folder")] == [1, 2]
    assert np.abs(errors_hu(windows["estimated"][0], *WINDOW)).max() < 60
    hu = np.load(out / "estimated" / "hu.npy")[0]
    grey = np.asarray(Image.open(tmp_path / "estimated.png"))
    np.testing.assert_array_equal(hu, windows["estimated"][0].hu_of_greys()[grey])
    verdicts = verdicts_of(out)
    assert {row["verdict"] for row in verdicts.values()} == {"repaired"}
    assert "were declared" in verdicts["declared"]["reasons"]
    assert describe_windows(windows["estimated"]) in verdicts["estimated"]["reasons"]
    assert describe_windows(windows["folder"]) in verdicts["folder"]["reasons"]
    assert not any("unusual grey values" in verdicts[name]["warnings"] for name in ("declared", "estimated"))
    assert "the HU of 1 of 2 slices cannot be told from their tissues" in verdicts["folder"]["warnings"]
    index = index_of(out)
    assert (index["declared"]["grey_low_hu"], index["estimated"]["grey_low_hu"]) == (str(WINDOW[0]), AUTO)
    assert prepare_cohort(cohort, out, size=96, jobs=1).fresh == 0


def test_the_key_of_a_declared_scan_is_what_it_was(cohort: Path) -> None:
    """A key of its own for each declaration, and that of a declared one as before there were estimates."""
    declared, estimated, _ = read_cohort(cohort).rows
    parameters = json.dumps([6, 96, "declared", *WINDOW]).encode()
    digest = hashlib.sha256(parameters)
    for role, name in ((0, "declared.png"), (1, "lungs.png")):
        content = (cohort.parent / name).read_bytes()
        digest.update(f"\0{role}\0{name}\0".encode() + hashlib.sha256(content).digest())
    assert hash_content(declared, 96).key == digest.hexdigest()
    as_declared = replace(estimated, grey_low_hu=WINDOW[0], grey_high_hu=WINDOW[1])
    assert hash_content(as_declared, 96).key != hash_content(estimated, 96).key


def test_scans_without_a_lung_mask_are_prepared_again_when_the_lungs_are_found_otherwise(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = read_cohort(cohort).rows[0]
    found = replace(given, lung_mask=None)
    before = [hash_content(row, 96).key for row in (given, found)]
    monkeypatch.setattr("cohort.prepare.sources.LUNGS_VERSION", 2)
    after = [hash_content(row, 96).key for row in (given, found)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_slice_whose_hu_cannot_be_told_is_refused_by_name(cohort: Path, tmp_path: Path) -> None:
    save(np.zeros((96, 96), np.uint8), tmp_path / "estimated.png")
    row = read_cohort(cohort).rows[1]
    with pytest.raises(ValueError, match=r"estimated\.png: the image has 1 grey values; expected 16 at least"):
        prepare_row(row, tmp_path / "out", 96)
    assert not (tmp_path / "out" / "estimated").exists()
