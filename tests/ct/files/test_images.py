from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_harness import ct, write_series
from grey_slices import as_grey, chest, errors_hu
from numpy.typing import NDArray
from PIL import Image

from ct.files.images import is_slice_image
from ct.files.read import read_mask, read_pattern_mask, read_scan, read_slice_images
from ct.grey_window import AUTO, GreyWindow, describe_windows
from ct.refusal import sentence_of


def put(folder: Path, name: str, array: NDArray[Any], mode: str | None = None) -> None:
    folder.mkdir(exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(folder / name)


@pytest.fixture
def slices(tmp_path: Path) -> tuple[Path, NDArray[np.uint8]]:
    grey = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
    for number, name in enumerate(("02.png", "01.png", "10.png")):
        put(tmp_path / "ct", name, grey[number])
    return tmp_path, grey[[1, 0, 2]]


def test_a_folder_is_one_scan_sorted_by_name(slices: tuple[Path, NDArray[np.uint8]]) -> None:
    folder, grey = slices
    scan = read_slice_images(folder / "ct", (-1100, 260), site="M")
    np.testing.assert_array_equal(scan.hu, np.rint(-1100 + grey / 255 * 1360))
    assert scan.slice_names == ("01", "02", "10")
    assert (scan.spacing_known, scan.grey_windows, scan.site) == (False, (GreyWindow(-1100, 260),) * 3, "M")
    assert scan.source.shape == (7, 5, 3)
    assert "approximation" in scan.repairs[0]


def test_masks_pair_by_name_whatever_their_suffix(slices: tuple[Path, NDArray[np.uint8]]) -> None:
    folder, grey = slices
    scan = read_slice_images(folder / "ct", (-1100, 260))
    for name, plane in zip(("01", "02", "10"), grey, strict=True):
        put(folder / "masks", f"{name}.png", (plane > 40).astype(np.uint8) * 255)
    put(folder / "masks", "other.png", np.zeros((2, 2), dtype=np.uint8))
    (folder / "masks" / "other.png").unlink()
    np.testing.assert_array_equal(read_mask(folder / "masks", scan), (grey > 40) * 255)
    (folder / "masks" / "02.png").unlink()
    with pytest.raises(ValueError, match="no mask named '02'"):
        read_mask(folder / "masks", scan)


def test_palette_masks_keep_their_codes_and_255_is_unlabelled(tmp_path: Path) -> None:
    put(tmp_path, "a.png", np.zeros((2, 3), dtype=np.uint8))
    scan = read_slice_images(tmp_path / "a.png", (-1100, 260))
    image = Image.fromarray(np.array([[0, 5, 10], [255, 1, 8]], dtype=np.uint8), mode="P")
    image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_pattern_mask(tmp_path / "mask.png", scan)[0], [[0, 5, 10], [-1, 1, 8]])


def test_grey_stored_as_rgb_is_read(tmp_path: Path) -> None:
    put(tmp_path, "a.png", np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, "RGB")
    assert read_slice_images(tmp_path / "a.png", (0, 255)).hu[0, 1, 2] == 200


def test_what_is_no_8_bit_grey_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "colour.png", np.random.default_rng(0).integers(0, 255, (4, 4, 3)).astype(np.uint8))
    put(tmp_path, "deep.png", np.full((4, 4), 3000, dtype=np.uint16))
    (tmp_path / "text.png").write_text("no image")
    for name, fragment in {"colour": "'RGB'", "deep": "'I;16'", "text": "not a readable image"}.items():
        with pytest.raises(ValueError, match=fragment):
            read_slice_images(tmp_path / f"{name}.png", (-1000, 200))


def test_sizes_must_agree_and_greys_must_be_declared(slices: tuple[Path, NDArray[np.uint8]]) -> None:
    folder, _ = slices
    put(folder / "ct", "99.png", np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="different sizes are scans of their own"):
        read_slice_images(folder / "ct", (-1000, 200))
    with pytest.raises(ValueError, match="declare grey_low_hu"):
        read_scan(folder / "ct")
    with pytest.raises(ValueError, match="expected the first lower"):
        read_slice_images(folder / "ct", (200, -1000))


def test_two_images_of_one_name_are_refused(slices: tuple[Path, NDArray[np.uint8]]) -> None:
    folder, _ = slices
    put(folder / "ct", "01.jpg", np.zeros((5, 7), dtype=np.uint8))
    with pytest.raises(ValueError, match="two images are named '01'"):
        read_slice_images(folder / "ct", (-1000, 200))


def test_previews_beside_a_dicom_series_do_not_make_it_slice_images(tmp_path: Path) -> None:
    put(write_series(tmp_path / "series"), "preview.png", np.zeros((4, 4), dtype=np.uint8))
    assert not is_slice_image(tmp_path / "series")
    scan = read_scan(tmp_path / "series")
    np.testing.assert_array_equal(scan.hu, ct())
    assert any("left out what is no DICOM image: 1 file" in repair for repair in scan.repairs)
    put(tmp_path / "images", "1.png", np.zeros((4, 4), dtype=np.uint8))
    (tmp_path / "images" / "notes.txt").write_text("no DICOM")
    assert is_slice_image(tmp_path / "images")


def test_every_slice_has_a_window_of_its_own_where_it_is_estimated(tmp_path: Path) -> None:
    windows = [(-1350.0, 150.0), (-1000.0, 400.0)]
    for number, window in enumerate(windows):
        put(tmp_path / "ct", f"{number}.png", as_grey(chest().hu[6], *window))
    scan = read_slice_images(tmp_path / "ct", AUTO)
    assert len(scan.grey_windows) == 2
    for plane, estimate, window in zip(scan.hu, scan.grey_windows, windows, strict=True):
        assert np.abs(errors_hu(estimate, *window)).max() < 60
        np.testing.assert_array_equal(plane, estimate.hu_of_greys()[as_grey(chest().hu[6], *window)])
    assert scan.repairs == (describe_windows(scan.grey_windows),)
    assert scan.repairs[0].public == scan.repairs[0]


def test_an_image_whose_hu_cannot_be_estimated_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path / "ct", "0.png", as_grey(chest().hu[6], -1350, 150))
    put(tmp_path / "ct", "1.png", np.zeros((96, 96), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"1\.png: the image has 1 grey values; expected 16 at least") as caught:
        read_scan(tmp_path / "ct", grey_hu=AUTO)
    assert "1.png" not in sentence_of(caught.value).public
