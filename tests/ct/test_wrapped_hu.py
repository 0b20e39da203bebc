import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_harness import affine, edit
from numpy.typing import DTypeLike, NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from ct.checks import check_hu
from ct.files.dicom.export import write_dicom_series
from ct.files.read import read_scan

SHAPE = (6, 96, 96)
# What 12 signed bits hold when stored 0 means -1024 HU: metal above 1023 HU comes out 4096 HU lower.
LOWEST = -3072


def body(air_hu: float = -1000.0) -> NDArray[np.float64]:
    """HU of a chest with lungs, a windpipe and bone, blurred as a scanner does, float (Z, Y, X)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[1:]), indexing="ij")
    plane = np.where((y / 0.8) ** 2 + (x / 0.9) ** 2 < 1, 40.0, air_hu)
    for centre in (-0.42, 0.42):
        plane[(y / 0.55) ** 2 + ((x - centre) / 0.28) ** 2 < 1] = -850
    plane[((y - 0.6) / 0.12) ** 2 + (x / 0.12) ** 2 < 1] = 700
    plane[((y + 0.45) / 0.06) ** 2 + (x / 0.06) ** 2 < 1] = air_hu
    hu = np.broadcast_to(plane, SHAPE).copy()
    return hu


def scanned(hu: NDArray[Any], noise: float = 8.0, blur: float = 0.8) -> NDArray[np.int16]:
    """Blur in plane, add noise, round."""
    rng = np.random.default_rng(0)
    return np.rint(ndimage.gaussian_filter(hu, (0, blur, blur)) + rng.normal(0, noise, hu.shape)).astype(np.int16)


def with_metal(
    metal_hu: float = 2600.0,
    place: tuple[slice, slice, slice] = (slice(1, 5), slice(60, 66), slice(44, 52)),
    **how: float,
) -> NDArray[np.int16]:
    hu = body()
    hu[place] = metal_hu
    return scanned(hu, **how).clip(-1024, 3071)


def wrap(hu: NDArray[Any], lowest: int = LOWEST) -> NDArray[np.int16]:
    return ((hu.astype(int) - lowest) % 4096 + lowest).astype(np.int16)


def padded(hu: NDArray[Any], padding: int) -> NDArray[np.int16]:
    """Padding around a round field of view."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in hu.shape[1:]), indexing="ij")
    return np.where(y**2 + x**2 > 1, padding, hu).astype(np.int16)


def test_metal_wrapped_at_12_bits_is_exact_again() -> None:
    hu = with_metal()
    wrapped = wrap(hu)
    count = int((wrapped != hu).sum())
    assert wrapped.min() < -2000
    assert count > 100
    unwrapped, repairs = check_hu(wrapped, "scan.nii")
    np.testing.assert_array_equal(unwrapped, hu)
    assert repairs == (
        f"{count} voxels inside the body from {wrapped.min()} to {wrapped[wrapped < -1024].max()} HU had been wrapped "
        f"around at 12 bits and are {hu[wrapped < -1024].min()} to {hu.max()} HU again",
    )


@pytest.mark.parametrize(
    ("metal_hu", "blur"), [(1300, 0), (1800, 0), (1300, 0.8), (1800, 0.8), (3600, 0.8), (3600, 1.5)]
)
def test_metal_of_any_density_is_exact_again(metal_hu: int, blur: float) -> None:
    hu = with_metal(metal_hu, blur=blur)
    unwrapped, repairs = check_hu(wrap(hu), "scan.nii")
    np.testing.assert_array_equal(unwrapped, hu)
    assert "at 12 bits" in repairs[0]


@pytest.mark.parametrize("padding", [-1024, -2000, -3024])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_padding_around_the_field_of_view_stays_padding(padding: int, dtype: DTypeLike) -> None:
    hu = padded(with_metal(), padding)
    unwrapped, repairs = check_hu(np.where(hu == padding, padding, wrap(hu)).astype(dtype), "scan.nii")
    np.testing.assert_array_equal(unwrapped, np.maximum(hu, -1024))
    count = int((hu == padding).sum())
    expected = (f"{count} voxels below -1024 HU (lowest {padding}; padding or noise) were set to -1024",)
    assert repairs[1:] == (expected if padding < -1024 else ())
    _, repairs = check_hu(padded(scanned(body()).clip(-1024), padding).astype(dtype), "scan.nii")
    assert repairs == (expected if padding < -1024 else ())


def test_padding_that_hangs_from_one_edge_is_padding() -> None:
    hu = scanned(body()).clip(-1024)
    hu[:, :50, 40:60] = -2000
    unwrapped, _ = check_hu(hu, "scan.nii")
    np.testing.assert_array_equal(unwrapped, np.maximum(hu, -1024))


@pytest.mark.parametrize("around", [-1024, -1000, 0])
def test_padding_between_the_field_of_view_and_a_value_put_around_it_is_padding(around: int) -> None:
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[1:]), indexing="ij")
    hu = np.where(y**2 + x**2 > 0.8, -2000, scanned(body()).clip(-1024))
    hu[:, y**2 + x**2 > 0.9] = around
    assert (ndimage.grey_dilation(hu, (1, 3, 3))[hu == -2000] > 0).any()  # the body reaches into the padding
    unwrapped, _ = check_hu(hu, "scan.nii")
    np.testing.assert_array_equal(unwrapped, np.maximum(hu, -1024))


@pytest.mark.parametrize(("air_hu", "noise"), [(-1000.0, 60.0), (-1045.0, 8.0), (-1045.0, 60.0)])
def test_noise_in_air_and_air_below_1024_are_air(air_hu: float, noise: float) -> None:
    hu = scanned(body(air_hu), noise)
    assert (hu < -1024).sum() > 1000
    unwrapped, repairs = check_hu(hu, "scan.nii")
    np.testing.assert_array_equal(unwrapped, np.maximum(hu, -1024))
    assert repairs[0].startswith(f"{(hu < -1024).sum()} voxels below -1024 HU (lowest {hu.min()}; padding or noise)")


def test_dark_streaks_beside_unwrapped_metal_are_air() -> None:
    drawn = body()
    drawn[:, 55:58, 30:66] = -1600
    drawn[:, 60:66, 44:52] = 6000
    hu = scanned(drawn)
    assert hu.min() < -1200
    unwrapped, _ = check_hu(hu, "scan.nii")
    np.testing.assert_array_equal(unwrapped, np.maximum(hu, -1024))


REFUSED = r"^scan\.nii: \d+ voxels inside the body lie below -1024 HU \(lowest -\d+\) amid much denser ones; expected "


def blank(
    hu: NDArray[np.int16], value: int, place: tuple[slice, slice, slice] = (slice(1, 5), slice(60, 70), slice(40, 56))
) -> NDArray[np.int16]:
    hu = hu.copy()
    hu[place] = value
    return hu


@pytest.mark.parametrize(
    "values",
    [
        blank(scanned(body()), -2000),
        blank(scanned(body()), -2296),
        # So dense that it is cut at 3071 HU all at once.
        wrap(with_metal(9000.0)),
        blank(padded(scanned(body()), -3024), -3024),
        blank(scanned(body()), -2000, (slice(1, 5), slice(40, 50), slice(24, 34))),
        # Metal that kept its value tells that nothing was wrapped at 12 bits.
        blank(wrap(with_metal()), 2900, (slice(0, 1), slice(20, 23), slice(46, 50))),
        # Half in the lung with a rim as sharp as a knife: neither air nor certain metal.
        wrap(with_metal(1800.0, (slice(1, 5), slice(40, 50), slice(28, 44)), blur=0.0)),
    ],
    ids=[
        "blanked",
        "one value",
        "cut off",
        "value of the padding",
        "blanked in the lung",
        "other metal",
        "sharp rim in lung",
    ],
)
def test_what_is_neither_air_nor_surely_metal_is_refused(values: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        check_hu(values, "scan.nii")


def test_air_stored_without_a_sign_is_air_again() -> None:
    hu = scanned(body(), noise=30.0)
    values = hu.astype(np.int32)
    values[hu < -1024] += 65536
    unwrapped, repairs = check_hu(values, "scan.nii")
    np.testing.assert_array_equal(unwrapped, np.maximum(hu, -1024))
    count = (hu < -1024).sum()
    assert repairs[0] == f"{count} voxels above 32767 HU had been wrapped around at 16 bits and are air again"
    values[3, 50, 50] = 40000  # which is no air: then nobody can tell what the others are
    with pytest.raises(ValueError, match=r"8% of the voxels lie above 1000 HU; .* wrapped around"):
        check_hu(values, "scan.nii")


@pytest.mark.parametrize("as_nifti", [False, True])
def test_files_of_12_bits(tmp_path: Path, as_nifti: bool) -> None:
    hu = with_metal()
    path = tmp_path / "scan"
    matrix = affine(2.0) @ np.diag([4.0, 6.0, 1.0, 1.0])
    if as_nifti:
        path = tmp_path / "scan.nii.gz"
        image = nibabel.Nifti1Image(wrap(hu).transpose(2, 1, 0), matrix)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
    else:
        write_dicom_series(hu, matrix, path)

        def to_12_bits(dataset: Dataset) -> None:
            stored = ((dataset.pixel_array.astype(int) + 2048) % 4096) - 2048
            dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
            dataset.PixelData = stored.astype("<i2").tobytes()

        edit(path, to_12_bits)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.hu, hu)
    assert "had been wrapped around at 12 bits" in scan.repairs[0]


def test_looking_again_holds_one_slice_at_a_time() -> None:
    slices = 24
    hu = np.tile(wrap(with_metal(place=(slice(None), slice(60, 66), slice(44, 52)))), (slices // 6, 4, 4))
    values = hu.astype(np.float32)
    tracemalloc.start()
    try:
        check_hu(values, "scan.nii")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The result, the counts of values, and some work on a slice.
    assert peak < hu.nbytes + 2_000_000 + 40 * hu[0].size
