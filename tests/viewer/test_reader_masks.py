"""Overlays of a result, and a reader's masks in the same classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ct.classes import COLOUR_OF, EM, L3
from ct.files.write import write_mask
from ct.scan import Grid, Scan
from inference.overlays import all_overlays
from viewer.reader_masks import agreement, read_truth


@pytest.fixture
def scan() -> Scan:
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    return Scan(np.zeros((3, 4, 5), np.int16), affine, Grid((5, 4, 3), affine), "s")


def some(*flat: int) -> np.ndarray:
    mask = np.zeros(60, bool)
    mask[list(flat)] = True
    return mask.reshape(3, 4, 5)


def test_stage_2_is_taken_apart_without_overlap() -> None:
    masks = {"lungs": some(0, 1, 2, 3), "infection": some(1, 2, 3), "consolidation": some(3)}
    lungs, glass, dense = all_overlays(masks, EM)
    assert np.array_equal(glass.mask, some(1, 2))
    assert np.array_equal(dense.mask, some(3))
    names = ["lungs", "infection without consolidation", "consolidation"]
    assert [overlay.name for overlay in (lungs, glass, dense)] == names
    assert [overlay.colour for overlay in (lungs, glass, dense)] == [
        COLOUR_OF[name] for name in ("lungs", "infection", "consolidation")
    ]


@pytest.mark.parametrize(("number", "group"), [(0, 1), (1, 2), (2, 3), (3, 4)])
def test_groups_have_their_names_and_colours(number: int, group: int) -> None:
    groups = np.arange(60, dtype=np.uint8).reshape(3, 4, 5) % 5
    overlay = all_overlays({"lungs": groups > 0, "infection": groups > 1, "groups": groups}, L3)[number]
    assert overlay.name == L3.leaves[group].name
    assert overlay.colour == L3.leaves[group].colour
    assert np.array_equal(overlay.mask, groups == group if group > 1 else groups > 0)


def test_stage_1_has_one_class() -> None:
    assert [overlay.name for overlay in all_overlays({"lungs": some(0), "infection": some(0)}, EM)] == [
        "lungs",
        "infection",
    ]


@pytest.fixture
def patterns(scan: Scan, tmp_path: Path) -> Path:
    codes = np.zeros(60, np.uint8)
    codes[:6] = [2, 5, 6, 8, 10, 255]
    write_mask(codes.reshape(3, 4, 5), scan, tmp_path / "patterns.nii.gz")
    return tmp_path / "patterns.nii.gz"


def test_a_reader_s_patterns_become_the_classes_of_the_result(scan: Scan, patterns: Path) -> None:
    truth = read_truth(scan, patterns, None, {"infection": some(), "consolidation": some()}, EM)
    assert set(truth) == {"infection", "consolidation"}
    assert np.array_equal(truth["infection"], some(1, 2, 3, 4))
    assert np.array_equal(truth["consolidation"], some(3, 4))
    groups = read_truth(scan, patterns, None, {"infection": some(), "groups": some()}, L3)["groups"]
    assert groups.ravel()[:7].tolist() == [0, 2, 3, 4, 4, 0, 0]
    assert set(read_truth(scan, patterns, None, {"infection": some()}, EM)) == {"infection"}


def test_a_reader_may_have_drawn_the_infection_alone_or_nothing(scan: Scan, tmp_path: Path) -> None:
    write_mask(some(7, 9), scan, tmp_path / "infection.nii.gz")
    like = {"infection": some(), "consolidation": some()}
    truth = read_truth(scan, None, tmp_path / "infection.nii.gz", like, EM)
    assert set(truth) == {"infection"}
    assert np.array_equal(truth["infection"], some(7, 9))
    assert read_truth(scan, None, None, like, EM) == {}


def test_agreement_by_hand(scan: Scan) -> None:
    assert agreement(some(1, 2, 3), some(3), scan) == "0.50"
    assert agreement(some(1), some(), scan) == "0.00"


def test_a_reader_who_drew_nothing_leaves_it_undefined(scan: Scan) -> None:
    assert agreement(some(), some(), scan) == "undefined (the reader drew none, the model none either)"
    # 50 voxels of 20 mm3 are one ml.
    assert agreement(some(), some(*range(50)), scan) == "undefined (the reader drew none, the model 1.0 ml)"
    without_size = replace(scan, spacing_known=False)
    assert agreement(some(), some(1, 2), without_size) == "undefined (the reader drew none, the model 2 voxels)"
