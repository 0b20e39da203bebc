"""The packet of the planes, unpacked by hand."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from ct.scan import Grid, Scan
from inference.overlays import Overlay
from viewer.planes import MOST_PIXELS, pack, step_of


def made(shape: tuple[int, int, int], spacing_known: bool = True) -> Scan:
    affine = np.array([[-0.7, 0, 0, 100], [0, -0.6, 0, 90], [0, 0, 3, -40], [0, 0, 0, 1.0]])
    hu = np.random.default_rng(0).integers(-3024, 3072, shape).astype(np.int16)
    return Scan(hu, affine, Grid(shape[::-1], affine), "s", spacing_known=spacing_known)


def box(shape: tuple[int, int, int], *slices: slice) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


def overlay(name: str, colour: str, mask: np.ndarray) -> Overlay:
    return Overlay(name, colour, None, name, mask)


def unpacked(packet: bytes) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray]]:
    """Return the header, the HU, and the classes of the model and, if there is one, of the reader."""
    size = int.from_bytes(packet[:4], "little")
    header, voxels = json.loads(packet[4 : 4 + size]), gzip.decompress(packet[4 + size :])
    shape, count = header["shape"], int(np.prod(header["shape"]))
    hu = np.frombuffer(voxels, "<i2", count).reshape(shape)
    rest = np.frombuffer(voxels, np.uint8, offset=2 * count)
    return header, hu, [classes.reshape(shape) for classes in np.split(rest, len(rest) // count)]


@pytest.fixture
def overlays() -> list[Overlay]:
    shape = (3, 20, 31)
    lungs = box(shape, slice(0, 3), slice(4, 16), slice(5, 25))
    found = box(shape, slice(1, 2), slice(6, 9), slice(10, 15))
    return [overlay("lungs", "#0000ff", lungs), overlay("infection", "#00ff00", found)]


def test_a_small_scan_comes_whole(overlays: list[Overlay]) -> None:
    scan = made((3, 20, 31))
    header, hu, (classes,) = unpacked(pack(scan, overlays, [], "7"))
    assert np.array_equal(hu, scan.hu)
    assert np.array_equal(classes, overlays[0].mask.astype(np.uint8) + overlays[1].mask)
    assert header["scan"] == "7"
    assert header["spacing"] == pytest.approx([3, 0.6, 0.7])
    assert [(overlay["name"], overlay["rgb"]) for overlay in header["overlays"]] == [
        ("lungs", [0, 0, 255]),
        ("infection", [0, 255, 0]),
    ]
    assert not header["reader"]
    windows = {window["name"]: (window["level"], window["width"]) for window in header["windows"]}
    assert windows == {"lung": (-600, 1500), "mediastinum": (40, 400), "bone": (400, 1800)}


def test_a_large_scan_comes_thinned_and_stays_in_its_place() -> None:
    shape = (2, MOST_PIXELS, 2 * MOST_PIXELS + 1)
    scan = made(shape)
    assert step_of(scan) == 3
    lungs = overlay("lungs", "#0000ff", box(shape, slice(0, 2), slice(90, 151), slice(300, 391)))
    header, hu, (classes,) = unpacked(pack(scan, [lungs], [], "s"))
    assert np.array_equal(hu, scan.hu[:, ::3, ::3])
    assert header["spacing"] == pytest.approx([3, 1.8, 2.1])
    z, y, x = np.argwhere(classes).mean(0)
    mm = np.array(header["affine"]) @ [x, y, z, 1]
    assert np.allclose(mm, [100 - 0.7 * 345, 90 - 0.6 * 120, -40 + 3 * 0.5], atol=1.1)


def test_a_reader_s_classes_come_beside_the_model_s(overlays: list[Overlay]) -> None:
    drawn = overlay("opacity", "#090909", box((3, 20, 31), slice(2, 3), slice(5, 7), slice(6, 8)))
    header, _, (model, reader) = unpacked(pack(made((3, 20, 31)), overlays, [drawn], "s"))
    assert header["reader"]
    assert [overlay["name"] for overlay in header["overlays"]] == ["lungs", "infection", "opacity"]
    assert np.array_equal(reader, 3 * drawn.mask.astype(np.uint8))
    assert model.max() == 2


def test_it_begins_at_what_was_found(overlays: list[Overlay]) -> None:
    header, *_ = unpacked(pack(made((3, 20, 31)), overlays, [], "s"))
    assert header["start"] == [1, 7, 12]
    healthy = [overlays[0], overlay("infection", "#00ff00", np.zeros((3, 20, 31), bool))]
    z, y, x = unpacked(pack(made((3, 20, 31)), healthy, healthy[1:], "s"))[0]["start"]
    assert overlays[0].mask[z, y, x]


def test_a_pixel_without_a_size_has_no_place_in_mm(overlays: list[Overlay]) -> None:
    assert unpacked(pack(made((3, 20, 31), spacing_known=False), overlays, [], "s"))[0]["affine"] is None
