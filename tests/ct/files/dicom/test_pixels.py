from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_harness import change_syntax, ct, edit, enhance, store_signed, write_series
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID
from refusing import assert_refused

from ct.files.dicom import decoder as dicom_decoder
from ct.files.dicom.volume import read_dicom

SYNTAXES = {
    "JPEGLosslessProcess14_1": "1.2.840.10008.1.2.4.70",
    "JPEGLosslessProcess14": "1.2.840.10008.1.2.4.57",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
    "RLELossless": "1.2.840.10008.1.2.5",
    "ExplicitVRBigEndian": "1.2.840.10008.1.2.2",
    "ImplicitVRLittleEndian": "1.2.840.10008.1.2",
    "DeflatedExplicitVRLittleEndian": "1.2.840.10008.1.2.1.99",
}
GDCM, PYDICOM = list(SYNTAXES)[:4], list(SYNTAXES)[4:]


@pytest.mark.parametrize("names", [GDCM, PYDICOM])
def test_every_coding_gives_the_same_voxels_signed_and_unsigned(tmp_path: Path, names: list[str]) -> None:
    hu = ct(2 * len(names))
    series = write_series(tmp_path / "a", hu)
    for number, file in enumerate(sorted(series.iterdir())):
        syntax = names[number // 2]
        if number % 2:
            edit(series, store_signed, only=number)
        change_syntax(file, syntax)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    voxels, _, repairs, _ = read_dicom(series)
    for number in range(len(hu)):  # the files are numbered from head to foot
        np.testing.assert_array_equal(voxels[:, :, -1 - number].T, hu[-1 - number], names[number // 2])
    assert (voxels.dtype, repairs) == (np.dtype(np.int16), ())


@pytest.mark.parametrize("syntax", ["JPEGLSLossless", "RLELossless"])
def test_compressed_frames_of_one_enhanced_file(tmp_path: Path, syntax: str) -> None:
    files = sorted(write_series(tmp_path / "a", ct(4)).iterdir())
    for file in files:
        change_syntax(file, syntax)
    file = enhance([files[number] for number in (2, 0, 3, 1)], tmp_path / "b" / "enhanced.dcm")
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    np.testing.assert_array_equal(read_dicom(file)[0].transpose(2, 1, 0), ct(4))


@pytest.mark.slow
@pytest.mark.parametrize(("place", "byte"), [(14, 0), (4, 255)])
def test_bytes_that_end_gdcms_process_are_one_sentence(tmp_path: Path, place: int, byte: int) -> None:
    series = write_series(tmp_path / "a", ct(3))
    for file in series.iterdir():
        change_syntax(file, "JPEGLosslessProcess14_1")
    file = series / "IM0002.dcm"
    damaged = bytearray(file.read_bytes())
    # After the frame header (FF C3): gdcm aborts when told 0 for the next marker, and faults on 8-bit precision.
    damaged[damaged.index(b"\xff\xc3") + place] = byte
    file.write_bytes(damaged)
    assert_refused(read_dicom, series, "IM0002.dcm: the compressed pixels cannot be decoded")


def test_a_decoder_that_does_not_return_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = write_series(tmp_path / "a", ct(2))
    for file in series.iterdir():
        change_syntax(file, "JPEG2000Lossless")
    monkeypatch.setattr(dicom_decoder, "SECONDS_PER_FRAME", 0.01)
    assert_refused(read_dicom, series, r"the decoder broke off or took more than 0\.01 s")


@pytest.mark.parametrize(
    ("syntax", "fragment"),
    [
        ("1.2.840.10008.1.2.4.57", r"IM0003.dcm: the pixels \(JPEG Lossless.* cannot be decoded \(RuntimeError"),
        ("1.2.840.10008.1.2.4.100", r"IM0003.dcm: the pixels \(MPEG2.* cannot be decoded \(NotImplementedError"),
    ],
)
def test_what_the_library_says_is_passed_on(tmp_path: Path, syntax: str, fragment: str) -> None:
    series = write_series(tmp_path / "a", ct(3))

    def change(dataset: Dataset) -> None:
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 broken \xff\xd9"])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = UID(syntax)

    edit(series, change, only=2)
    assert_refused(read_dicom, series, fragment)


def test_rescale_of_each_slice_and_fractions(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", ct(3))
    edit(series, lambda dataset: setattr(dataset, "RescaleSlope", "0.5"), only=1)
    voxels, _, repairs, _ = read_dicom(series)
    hu = ct(3).astype(float)
    hu[1] = (hu[1] + 1024) * 0.5 - 1024
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), np.rint(hu))
    assert repairs == (f"{int((hu % 1 != 0).sum())} voxels with fractions of a HU were rounded",)


def test_values_above_16_bits_are_kept_for_the_check_of_hu(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", ct(3), RescaleSlope="30")
    voxels, _, _, _ = read_dicom(series)
    assert voxels.dtype == np.int32
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), (ct(3).astype(int) + 1024) * 30 - 1024)


def test_values_beyond_all_numbers_are_refused(tmp_path: Path) -> None:
    assert_refused(read_dicom, write_series(tmp_path / "a", ct(3), RescaleSlope="1e300"), r"RescaleSlope 1e\+300")


def padded(
    folder: Path, hu: NDArray[np.int16], where: NDArray[np.bool_], stored: int, signed: bool, **tags: tuple[str, Any]
) -> Path:
    """Write a series in which `where` (Z, Y, X) is stored as the number `stored`."""
    series = write_series(folder, hu)

    def change(dataset: Dataset) -> None:
        if signed:
            store_signed(dataset)
        pixels = dataset.pixel_array.copy()
        pixels[where[len(hu) - int(dataset.InstanceNumber)]] = stored
        dataset.PixelData = pixels.tobytes()
        for tag, value in tags.items():
            dataset.add_new(tag, *value)

    edit(series, change)
    return series


def corners() -> NDArray[np.bool_]:
    where = np.zeros((3, 12, 10), dtype=bool)
    where[:, :2, :3] = where[:, -1, -4:] = where[1, :, 0] = True
    return where


def test_the_value_of_padding_inside_the_body_is_left_to_the_check_of_hu(tmp_path: Path) -> None:
    where, hu = corners(), ct(3)
    series = padded(tmp_path / "a", hu, where, -2000, True, PixelPaddingValue=("SS", -2000))
    inside = np.zeros_like(where)
    inside[2, 5:7, 5] = True
    padded(tmp_path / "b", hu, where | inside, -2000, True, PixelPaddingValue=("SS", -2000))
    np.testing.assert_array_equal(read_dicom(series)[0].transpose(2, 1, 0), np.where(where, -1024, hu))
    voxels, _, repairs, _ = read_dicom(tmp_path / "b")
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), np.where(inside, -2000, np.where(where, -1024, hu)))
    assert repairs == (f"{where.sum()} voxels of padding (PixelPaddingValue) were set to -1024 HU",)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("signed", "stored", "tags"),
    [
        (True, -2000, {"PixelPaddingValue": ("SS", -2000)}),
        (True, -2000, {"PixelPaddingValue": ("US", 63536)}),
        (True, -1990, {"PixelPaddingValue": ("SS", -2000), "PixelPaddingRangeLimit": ("SS", -1980)}),
        (True, -1990, {"PixelPaddingValue": ("SS", -1980), "PixelPaddingRangeLimit": ("SS", -2000)}),
        (False, 5000, {"PixelPaddingValue": ("US", 5000)}),
        (False, 65535, {"PixelPaddingValue": ("US", 65535)}),
        (False, 63536, {"PixelPaddingValue": ("SS", -2000)}),
    ],
)
def test_padding_becomes_air(
    tmp_path: Path, signed: bool, stored: int, tags: dict[str, tuple[str, int]], implicit: bool
) -> None:
    where, hu = corners(), ct(3)
    series = padded(tmp_path / "a", hu, where, stored, signed, **tags)
    if implicit:
        for file in series.iterdir():
            change_syntax(file, "ImplicitVRLittleEndian")
    voxels, _, repairs, _ = read_dicom(series)
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), np.where(where, -1024, hu))
    assert voxels.dtype == np.int16
    assert repairs == (f"{where.sum()} voxels of padding (PixelPaddingValue) were set to -1024 HU",)


@pytest.mark.parametrize("padding_hu", [0, 40, -900])
def test_padding_that_could_be_tissue_is_taken_only_from_the_border(tmp_path: Path, padding_hu: int) -> None:
    where, hu = corners(), ct(3)
    hu[hu == padding_hu] += 1
    hu[:, 5:7, 5] = padding_hu
    series = padded(tmp_path / "a", hu, where, padding_hu, True, PixelPaddingValue=("SS", padding_hu))
    voxels, _, repairs, _ = read_dicom(series)
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), np.where(where, -1024, hu))
    assert str(int(where.sum())) in repairs[0]


def test_padding_that_is_air_already_is_no_repair(tmp_path: Path) -> None:
    hu = np.where(corners(), -1024, ct(3)).astype(np.int16)
    series = padded(tmp_path / "a", hu, corners(), 0, False, PixelPaddingValue=("US", 0))
    voxels, _, repairs, _ = read_dicom(series)
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), hu)
    assert repairs == ()


def test_overlay_bits_above_the_stored_ones_are_no_hu(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", ct(3), BitsStored=12, HighBit=11)

    def overlay(dataset: Dataset) -> None:
        dataset.PixelData = (dataset.pixel_array | 0x8000).astype("<u2").tobytes()

    edit(series, overlay)
    np.testing.assert_array_equal(read_dicom(series)[0].transpose(2, 1, 0), ct(3))
