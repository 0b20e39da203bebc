from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from body_parts import abdomen_ct, head_ct
from numpy.typing import NDArray
from places import SHARED_DATA

from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from ct.lungs.plausibility import lung_warnings
from ct.scan import Grid, Scan
from phantom.patient import Phantom, make_phantom


def as_scan(hu: NDArray[np.int16], spacing_mm: tuple[float, ...], **fields: Any) -> Scan:
    z_mm, y_mm, x_mm = spacing_mm
    affine = np.diag([-x_mm, -y_mm, z_mm, 1.0])
    return Scan(hu, affine, Grid(hu.shape[::-1], affine), "case", **fields)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(3, "A", False, 0.0)


@pytest.fixture(scope="module")
def scan(phantom: Phantom) -> Scan:
    return as_scan(phantom.hu, phantom.spacing_mm)


@pytest.mark.parametrize(
    ("volume", "sentences"),
    [
        (head_ct(), ("case: no chest", "expected at least 40 cm2", "give a lung mask")),
        (abdomen_ct(), ("case: no chest", "in 6 of 40 slices", "half of the slices or at least 1 litre")),
        (abdomen_ct(bases=False), ("case: no chest", "expected at least 40 cm2")),
        ((np.full((9, 40, 40), -1000, np.int16), (5.0, 5.0, 5.0)), ("case: no chest: 0 ml of air-like lung",)),
        ((np.full((9, 40, 40), 40, np.int16), (5.0, 5.0, 5.0)), ("case: no chest: 0 ml of air-like lung",)),
    ],
    ids=["head", "abdomen and lung bases", "abdomen", "air", "water"],
)
def test_other_body_parts_are_refused(
    volume: tuple[NDArray[np.int16], tuple[float, float, float]], sentences: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="no chest") as error:
        find_lungs(as_scan(*volume))
    assert all(sentence in str(error.value) for sentence in sentences), error.value
    assert "\n" not in str(error.value)


def test_a_mask_of_gas_is_refused() -> None:
    """Two wide pockets of gas with folds in them that look like lungs by size and by their densest tenth."""
    hu = np.full((20, 60, 80), 40, dtype=np.int16)
    hu[:, 0] = hu[:, -1] = hu[:, :, 0] = hu[:, :, -1] = -1000
    for columns in (slice(12, 32), slice(48, 68)):
        hu[2:18, 15:45, columns] = -1000
        hu[2:18, 16:44:7, columns] = -700
    with pytest.raises(ValueError, match="HU, which is gas"):
        find_lungs(as_scan(hu, (5.0, 5.0, 5.0)))


def test_a_whole_chest_gives_no_warning(phantom: Phantom, scan: Scan) -> None:
    assert find_lungs(scan).warnings == ()
    assert lung_warnings(scan, phantom.lungs > 0) == ()


def test_a_part_of_a_chest_passes_with_a_warning(scan: Scan) -> None:
    middle = replace(scan, hu=scan.hu[7:13])
    warnings = find_lungs(middle).warnings
    assert warnings == (
        f"the lungs are seen over {6 * scan.spacing_mm[0]:.0f} mm of height; a whole chest has 120 or more",
    )


def warned(scan: Scan, mask: NDArray[np.bool_]) -> str:
    return " | ".join(lung_warnings(scan, mask))


def test_size_in_litres(phantom: Phantom, scan: Scan) -> None:
    small, large = (as_scan(phantom.hu, tuple(mm * f for mm in phantom.spacing_mm)) for f in (0.6, 1.7))
    lungs = phantom.lungs > 0
    litres = lungs.sum() * np.prod(phantom.spacing_mm) / 1e6
    assert f"the lungs measure {litres * 0.6**3:.2f} litres; a whole chest has 1 to 9" in warned(small, lungs)
    assert f"the lungs measure {litres * 1.7**3:.2f} litres" in warned(large, lungs)


def test_a_lung_is_missing_or_small(phantom: Phantom, scan: Scan) -> None:
    left = phantom.lungs == 1
    assert "the right lung has 0% of the left lung's size; expected 20% or more" in warned(scan, left)
    right = np.flatnonzero((phantom.lungs == 2).any(axis=(1, 2)))
    part = left | ((phantom.lungs == 2) & (np.arange(len(left)) > right[-3])[:, None, None])
    assert "the right lung has" in warned(scan, part)


def test_a_mask_of_the_background_is_found_out(phantom: Phantom, scan: Scan) -> None:
    text = warned(scan, phantom.lungs == 0)
    assert "the lungs touch 4 of the image's 4 sides; expected at most 2" in text
    assert "of the body in their slices; expected 8% to 65%" in text


def test_a_mask_elsewhere_is_found_out(scan: Scan) -> None:
    mask = np.zeros(scan.hu.shape, dtype=bool)
    mask[2:-2, 25:40, 25:40] = True
    assert "the lungs have a median of" in warned(scan, mask)


def test_without_spacing_only_what_can_be_judged(phantom: Phantom) -> None:
    slices = as_scan(phantom.hu, phantom.spacing_mm, spacing_known=False)
    left = phantom.lungs == 1
    assert lung_warnings(slices, left) == ()
    mask = np.zeros(left.shape, dtype=bool)
    mask[2:-2, 10:50, 26:38] = True
    assert "median" in warned(slices, mask)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real scans are not at {SHARED_DATA}")
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cip_ct64/ct-64.nrrd", None),
        ("covidctmd_dev/P002_dicom", "the lungs are seen over 40 mm of height"),
        ("cip_ct64/crop_ct_2slices.nrrd", "the lungs measure 0.03 litres"),
        ("ibsi_lung_ct/phantom.nii.gz", "the left lung has 0% of the right lung's size"),
    ],
)
def test_real_scans_pass(name: str, sentence: str | None) -> None:
    warnings = find_lungs(read_scan(SHARED_DATA / name)).warnings
    assert (warnings == ()) if sentence is None else any(sentence in warning for warning in warnings)
