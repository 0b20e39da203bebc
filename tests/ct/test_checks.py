from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from places import SHARED_DATA

from ct.checks import check_hu
from ct.files.read import read_scan
from ct.grey_window import GreyWindow
from ct.grid_checks import check_stack, check_voxels, place_mask

SHAPE = (5, 40, 50)


def chest() -> NDArray[np.int16]:
    """HU of a chest with the shares of one: half air and lung with noise, soft tissue, a little bone."""
    rng = np.random.default_rng(0)
    mean = rng.choice([-1000, -860, -600, -80, 40, 700], SHAPE, p=[0.25, 0.2, 0.05, 0.15, 0.33, 0.02])
    return np.clip(mean + rng.normal(0, 15, SHAPE), -1024, 3071).round().astype(np.int16)


def padded(values: NDArray[Any], padding: int) -> NDArray[Any]:
    """The values with a border of padding, as around a round or a smaller field of view."""
    result = np.array(values)
    result[:, :5], result[:, -5:], result[:, :, :5], result[:, :, -5:] = (padding,) * 4
    return result


def grey() -> NDArray[np.int16]:
    """The chest in a lung window from -1000 to 260 HU, 0..255."""
    return np.clip((chest() + 1000.0) / 1260 * 255, 0, 255).astype(np.int16)


def refusal(values: NDArray[Any], **options: Any) -> str:
    with pytest.raises(ValueError, match=r"^scan\.nii: ") as caught:
        check_hu(values, "scan.nii", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64, ">i2", ">f4"])
def test_a_chest_in_hu_passes_whatever_its_number_type(dtype: DTypeLike) -> None:
    hu, repairs = check_hu(chest().astype(dtype), "scan.nii")
    np.testing.assert_array_equal(hu, chest())
    assert (hu.dtype, repairs) == (np.dtype(np.int16), ())
    assert hu.flags.writeable
    assert hu.flags.c_contiguous


def test_a_view_in_another_order_is_not_changed() -> None:
    values = chest()
    hu, _ = check_hu(values.transpose(2, 1, 0)[::-1], "scan.nii")
    np.testing.assert_array_equal(hu, chest().transpose(2, 1, 0)[::-1])
    hu[:] = 0
    np.testing.assert_array_equal(values, chest())


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, -1025, -32768])
def test_padding_becomes_air_and_is_counted(padding: int) -> None:
    values = padded(chest(), padding)
    hu, repairs = check_hu(values, "scan.nii")
    np.testing.assert_array_equal(hu, padded(chest(), -1024))
    count = 5 * (40 * 50 - 30 * 40)
    assert repairs == (f"{count} voxels below -1024 HU (lowest {padding}; padding or noise) were set to -1024",)


def test_padding_at_the_value_of_air_needs_no_repair() -> None:
    assert check_hu(padded(chest(), -1024), "scan.nii")[1] == ()


def test_metal_in_the_extended_range_passes_and_is_cut_where_int16_ends() -> None:
    values = chest().astype(np.int32)
    values[0, 0, :3] = (9000, 32767, 60000)
    hu, repairs = check_hu(values, "scan.nii")
    np.testing.assert_array_equal(hu[0, 0, :3], [9000, 32767, 32767])
    assert repairs == ("1 voxels above 32767 HU (up to 60000) were cut to 32767",)


def test_fractions_are_rounded_and_said() -> None:
    values = chest() + np.float32(0.25)
    hu, repairs = check_hu(values, "scan.nii")
    np.testing.assert_array_equal(hu, chest())
    assert repairs == ("fractions of a HU were rounded",)


def test_a_scaling_is_applied_before_anything_is_checked() -> None:
    stored = ((chest().astype(int) + 1024) * 2).astype(np.uint16)
    hu, repairs = check_hu(stored, "scan.nii", (0.5, -1024.0))
    np.testing.assert_array_equal(hu, chest())
    assert repairs == ()
    assert "without any air" in refusal(stored)
    assert "1 voxels are NaN or infinite" in refusal(
        np.where(np.arange(stored.size).reshape(SHAPE) == 7, 1e300, chest()), scaling=(1e300, 0.0)
    )


def test_values_that_are_not_numbers_are_counted() -> None:
    values = chest().astype(np.float32)
    values[0, 0, :2], values[4, 3, 1] = np.nan, np.inf
    assert "3 voxels are NaN or infinite" in refusal(values)
    assert "10000 voxels are NaN" in refusal(np.full(SHAPE, np.nan))


HINT = "declare grey_low_hu and grey_high_hu"


@pytest.mark.parametrize(
    ("situation", "values", "fragments"),
    [
        ("constant", np.full(SHAPE, -1000, dtype=np.int16), ["all voxels are -1000"]),
        ("8 bits", grey().astype(np.uint8), ["from 0 to 255, without any air", HINT]),
        ("8 bits in int16", grey(), ["without any air", HINT]),
        ("0..1", grey() / np.float32(255), ["from 0 to 1, without any air", HINT]),
        ("-1..1", chest() / 1024, ["without any air", "in Hounsfield units"]),
        ("z scores", (chest() - chest().mean()) / chest().std(), ["without any air"]),
        ("HU + 1024", (chest() + 1024).astype(np.uint16), [HINT, "HU + 1024", "-1024 and -769"]),
        ("HU + 1000", (chest() + 1000).astype(np.int16), ["without any air"]),
        ("12 bits, wrapped", np.mod(chest(), 4096), ["wrapped around (modulo 4096)", "signed"]),
        ("16 bits, wrapped", chest().view(np.uint16), ["wrapped around (modulo 65536)", "signed"]),
        ("16 bits, wrapped, as float", np.mod(chest().astype(np.float32), 65536), ["wrapped around (modulo 65536)"]),
        ("wrapped, then rescaled", np.mod(chest(), 4096) - 1024, ["above 1000 HU", "wrapped around"]),
        ("rescaled twice", chest() - 1024, ["% of the voxels lie between -200 and 200"]),
        ("16-bit greys", grey().astype(np.uint16) * 257, ["from 0 to 65535, without any air", HINT]),
        ("no soft tissue", np.minimum(chest(), -300), ["soft tissue"]),
        ("no air", np.maximum(chest(), -300), ["from -300 to", "without any air", "in Hounsfield units"]),
        ("8 bits, padded", padded(grey(), -1024), ["but for padding (down to -1024), values run from 0 to 255"]),
        ("8 bits, padded", padded(grey(), -1000), ["but for padding (down to -1000), values run from 0 to 255"]),
        ("8 bits, padded", padded(grey(), -2000), ["but for padding (down to -2000), values run from 0 to 255"]),
        ("HU + 1024, padded", padded(chest() + 1024, -1024), ["but for padding (down to -1024)"]),
        ("12 bits, wrapped, padded", padded(np.mod(chest(), 4096), -2000), ["wrapped around (modulo 4096)"]),
        ("padding, wrapped", padded(chest(), 2096), ["above 1000 HU", "wrapped around"]),
        ("only padding", padded(np.full(SHAPE, -3024), -2000), ["without any air"]),
    ],
)
def test_what_is_no_chest_in_hu_is_refused_with_the_reason(
    situation: str, values: NDArray[Any], fragments: list[str]
) -> None:
    sentence = refusal(values)
    assert [fragment for fragment in fragments if fragment not in sentence] == [], (situation, sentence)


@pytest.mark.parametrize(
    ("values", "grey_hu"),
    [
        ((chest() + 1024).astype(np.uint16), (-1024, -769)),
        ((chest() + 1000).clip(0).astype(np.float32), (-1000, -745)),
        (grey().astype(np.uint8), (-1000, 260)),
        (np.clip((chest() + 1100.0) / 1360 * 255, 0, 255).astype(np.uint8), (-1100, 260)),
    ],
)
def test_declared_greys(values: NDArray[Any], grey_hu: tuple[int, int]) -> None:
    hu, repairs = check_hu(values, "scan.nii", greys=GreyWindow(*grey_hu))
    low, high = grey_hu
    np.testing.assert_array_equal(hu, np.rint(low + values * ((high - low) / 255)).clip(-1024, 32767))
    assert repairs[0] == f"values were turned into HU as declared: 0 is {low} HU and 255 is {high} HU"
    mapped = np.rint(low + values * ((high - low) / 255))
    expected = f"{int((mapped < -1024).sum())} voxels below -1024 HU (lowest {mapped.min():g}) were set to -1024"
    assert repairs[1:] == ((expected,) if low < -1024 else ())


def test_declared_greys_that_do_not_fit() -> None:
    assert "go down to -1024 although" in refusal(padded(grey(), -1024), greys=GreyWindow(-1100, 260))
    assert "expected the first lower" in refusal(grey(), greys=GreyWindow(260, -1100))
    sentence = refusal(grey(), greys=GreyWindow(-160, 240))
    assert "from -160 to 240, without any air" in sentence
    assert "with grey 0 = -160 HU and grey 255 = 240 HU as declared" in sentence
    assert "above 1000 HU" in refusal((chest() + 1024).astype(np.uint16), greys=GreyWindow(-1024, 240))
    assert "wrapped" in refusal(np.mod(chest(), 4096), greys=GreyWindow(-1024, -769))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((300, 512, 512), (1.0, 0.7, 0.7)),
        ((2, 349, 443), (0.5, 0.586, 0.586)),
        ((60, 201, 204), (3.0, 0.977, 0.977)),
        ((8, 32, 32), (25.5, 10.6, 10.6)),
        ((600, 1024, 1024), (0.25, 0.2, 0.2)),
        ((400, 60, 512), (0.7, 5.0, 0.7)),
    ],
)
def test_sizes_of_chests_pass(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    check_voxels(shape, spacing_mm, "scan.nii")


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "fragment"),
    [
        ((300, 512, 512), (0.001, 0.0007, 0.0007), "measure 0.001 x 0.0007 x 0.0007 mm"),
        ((300, 512, 512), (0.1, 0.07, 0.07), "at least 0.1"),
        ((60, 192, 192), (0.4, 0.2, 0.2), "38.4 x 38.4 mm; expected 80 to 1500"),
        ((300, 512, 512), (1000.0, 700.0, 700.0), "at most 30 x 15 x 15 mm"),
        ((300, 512, 512), (31.0, 0.7, 0.7), "at most 30 x 15 x 15 mm"),
        ((300, 512, 512), (1.0, 0.7, 7.0), "358.4 x 3584 mm"),
    ],
)
def test_sizes_of_no_chest_are_refused(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], fragment: str
) -> None:
    with pytest.raises(ValueError, match=r"^scan\.nii: .*another unit") as caught:
        check_voxels(shape, spacing_mm, "scan.nii")
    assert fragment in str(caught.value)


def test_a_mask_may_lie_half_a_voxel_away() -> None:
    scan = np.diag([-0.7, -0.7, 5.0, 1.0])
    for axis, step in enumerate((0.7, 0.7, 5.0)):
        for share, fits in ((0.49, True), (-0.49, True), (0.51, False), (-0.51, False)):
            moved = scan.copy()
            moved[axis, 3] += share * step
            if fits:
                place_mask((4, 5, 6), moved, (4, 5, 6), scan, "mask.nii")
            else:
                with pytest.raises(ValueError, match=r"0\.51 voxels away"):
                    place_mask((4, 5, 6), moved, (4, 5, 6), scan, "mask.nii")
    wider = scan @ np.diag([1.11, 1, 1, 1])
    with pytest.raises(ValueError, match=r"0\.55 voxels away"):
        place_mask((4, 5, 6), wider, (4, 5, 6), scan, "mask.nii")


def test_a_stack_may_lean_by_noise_but_not_by_half_a_degree() -> None:
    def stack(degrees: float) -> NDArray[np.float64]:
        return np.arange(6)[:, None] * np.array([0.0, np.tan(np.radians(degrees)), 1.0])

    normal = np.array([0.0, 0.0, 1.0])
    check_stack(stack(0.1), normal, "series")
    with pytest.raises(ValueError, match=r"0\.50 degrees off their normal"):
        check_stack(stack(0.5), normal, "series")


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real scans are not at {SHARED_DATA}")
@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name", ["cip_ct64/ct-64.nrrd", "covidctmd_dev/P002_2x2x4mm.nii.gz", "ibsi_lung_ct/phantom.nii.gz"]
)
def test_a_real_scan_wrapped_shifted_or_turned_grey_is_refused(name: str) -> None:
    hu = read_scan(SHARED_DATA / name).hu
    assert "modulo 4096" in refusal(np.mod(hu, 4096))
    assert "modulo 65536" in refusal(hu.view(np.uint16))
    assert "-1024 and -769" in refusal((hu.astype(int) + 1024).astype(np.uint16))
    assert "soft tissue" in refusal(hu - 1024)
    assert HINT in refusal(np.clip((hu + 1350.0) / 1500 * 255, 0, 255).astype(np.uint8))
