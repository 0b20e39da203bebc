"""A model that learned on whole images sees the whole image of a new scan, too."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from predict_harness import predict

from ct.files.read import read_mask, read_scan
from ct.scan import Scan
from inference.load import load_module
from inference.scan_masks import segment_scan
from lightning_modules.base import SegmentationModule
from training.checkpoint_file import load_checkpoint_file
from training.model_folder import WHOLE_IMAGE, described, learned_on_whole_images
from training.weights import read_checkpoint


@pytest.fixture(scope="module")
def scan(cohort: Path) -> Scan:
    return read_scan(cohort.parent / "images" / "B007")


@pytest.fixture(scope="module")
def left_lung(cohort: Path, scan: Scan) -> NDArray[np.bool_]:
    """A lung mask that misses half of what there is."""
    return read_mask(cohort.parent / "masks" / "B007_lungs.nii.gz", scan) == 1


@pytest.fixture
def module(infection_run: Path) -> SegmentationModule:
    return load_module(infection_run / "best.ckpt")


@pytest.mark.parametrize("lungs_given", [False, True])
def test_it_sees_the_whole_image(
    scan: Scan, left_lung: NDArray[np.bool_], module: SegmentationModule, lungs_given: bool
) -> None:
    seen = segment_scan(scan, np.ones_like(left_lung), [module]).masks["infection"]
    assert (seen & ~left_lung).sum() > 100 < (seen & left_lung).sum()
    module.whole_image = True
    answer = segment_scan(scan, left_lung, [module], lungs_given=lungs_given)
    infection = seen & left_lung if lungs_given else seen
    lungs = left_lung if lungs_given else left_lung | seen
    np.testing.assert_array_equal(answer.masks["infection"], infection)
    np.testing.assert_array_equal(answer.masks["lungs"], lungs)
    # On the prepared grid, so about as on the scan's own.
    assert answer.shares["infection"] == pytest.approx([infection.sum() / lungs.sum()], rel=0.05)
    assert answer.lung_histogram.sum() == np.prod((len(scan.hu), module.size, module.size))


def test_one_that_learned_inside_lungs_answers_inside_them(
    scan: Scan, left_lung: NDArray[np.bool_], module: SegmentationModule
) -> None:
    masks = segment_scan(scan, left_lung, [module]).masks
    np.testing.assert_array_equal(masks["lungs"], left_lung)
    assert not (masks["infection"] & ~left_lung).any()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"scans": 3, "whole_images": 3}, True),
        ({"scans": 3, "whole_images": 2}, False),
        ({"scans": 3}, False),
        ({"scans": 0, "whole_images": 0}, False),
        ({}, False),
    ],
)
def test_its_training_says_so(counts: dict[str, int], expected: bool, infection_run: Path) -> None:
    assert learned_on_whole_images({"trained_on": counts}) is expected
    checkpoint = read_checkpoint(infection_run / "best.ckpt")
    checkpoint["ground_glass"]["trained_on"] = counts
    lungs = described(checkpoint, "", {})["preprocessing"]["lungs"]
    assert (lungs == WHOLE_IMAGE) is expected


def test_what_it_finds_outside_the_lungs_that_were_found_is_told(
    infection_run: Path, cohort: Path, tmp_path: Path
) -> None:
    import json

    import torch

    content = load_checkpoint_file(infection_run / "best.ckpt")
    counts = content["ground_glass"]["trained_on"]
    assert counts["whole_images"] == 0
    counts["whole_images"] = counts["scans"]
    content["state_dict"]["network.head.bias"] += 30.0  # everything is infected
    torch.save(content, tmp_path / "whole.ckpt")
    image, mask = cohort.parent / "images" / "B007", cohort.parent / "masks" / "B007_lungs.nii.gz"
    found, given = (
        json.loads((predict(tmp_path / "whole.ckpt", image, tmp_path / name, lungs) / "measurements.json").read_text())
        for name, lungs in (("found", None), ("given", mask))
    )
    told = "the model learned on whole images, and "
    assert [warning.startswith(told) for warning in found["warnings"]].count(True) == 1
    assert not [warning for warning in given["warnings"] if warning.startswith(told)]
    assert found["severity_score"] == given["severity_score"] == 1.0
    assert found["lung_ml"] > 1.5 * given["lung_ml"]
