import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from places import SHARED_DATA
from scipy import fft, ndimage

from cohort.leakage import NEARLY_SAME, LeakRecord, find_leaks, volume_hash
from cohort.table import read_cohort
from ct.files.read import read_scan


def bits(text: str) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8)).astype(bool)


def distance(a: str, b: str) -> float:
    """Share of differing bits."""
    assert len(a) == len(b) > 0
    return float(np.mean(bits(a) != bits(b)))


def record(name: str, split: str = "train", **other: str) -> LeakRecord:
    values = {"patient_id": f"patient of {name}", "source_sha256": f"bytes of {name}", "volume_hash": "", **other}
    return LeakRecord(name, values["patient_id"], split, values["source_sha256"], values["volume_hash"])


@pytest.fixture(scope="module")
def phantoms(cohort: Path) -> dict[str, NDArray[np.int16]]:
    return {row.scan_id: read_scan(row.image).hu for row in read_cohort(cohort).rows}


def picture_of(terms: NDArray[np.float64]) -> NDArray[np.int16]:
    """int16 (1, 64, 64): an image whose 32 x 32 cells have the given cosine terms."""
    spectrum = np.zeros((32, 32))
    spectrum[:16, :16] = terms
    spectrum[0, 0] = 32 * -400
    return np.round(fft.idctn(spectrum, norm="ortho")).astype(np.int16).repeat(2, axis=0).repeat(2, axis=1)[None]


def test_each_bit_is_the_sign_of_a_cosine_term() -> None:
    terms = np.random.default_rng(0).choice([-25.0, 25.0], (16, 16))
    hashed = bits(volume_hash(picture_of(terms)))
    expected = terms.ravel() > 0
    expected[0] = False
    np.testing.assert_array_equal(hashed, expected)


def test_a_volume_has_three_axial_views_a_coronal_and_a_sagittal_one() -> None:
    """Voxels of 32 x 32 x 32 cells, constant in slabs wide enough for the views: the planes are the views."""
    noise = np.random.default_rng(0).uniform(-900, 100, (32, 32, 32))
    noise[9:13], noise[14:18], noise[18:23] = noise[11], noise[15], noise[20]
    noise[:, 14:18] = noise[:, 15:16]
    axial = [noise[z] for z in (11, 15, 20)]
    hashed = bits(volume_hash(noise.astype(np.int16))).reshape(5, 256)
    for view, image in zip(hashed[:3], axial, strict=True):
        assert np.mean(view[1:] == (fft.dctn(image)[:16, :16].ravel() > 0)[1:]) > 0.97
    coronal, sagittal = noise[:, 15], noise[:, :, 14:18].mean(axis=2)
    assert np.mean(hashed[3, 1:] == (fft.dctn(coronal)[:8].ravel() > 0)[1:]) > 0.97
    assert np.mean(hashed[4, 1:] == (fft.dctn(sagittal)[:8].ravel() > 0)[1:]) > 0.97


def noisy(hu: NDArray[Any]) -> NDArray[np.float64]:
    return hu + np.random.default_rng(0).normal(0, 30, hu.shape)


def windowed(hu: NDArray[Any]) -> NDArray[np.float64]:
    grey = np.round((np.clip(hu, -1350, 150) + 1350) / 1500 * 255)
    return grey / 255 * 1500 - 1350


@pytest.mark.parametrize(
    "change",
    [
        noisy,
        windowed,
        lambda hu: hu + 15,
        lambda hu: hu - 20,
        lambda hu: ndimage.zoom(hu.astype(float), (2, 1, 1), order=1),
        lambda hu: ndimage.zoom(hu.astype(float), (1, 2, 2), order=1),
        lambda hu: np.where(hu <= -1000, -3024, hu),
    ],
    ids=["noise", "8-bit window", "brighter", "darker", "thinner slices", "finer pixels", "padding"],
)
def test_the_same_scan_is_known_again_and_no_other(
    phantoms: dict[str, NDArray[np.int16]], change: Callable[[NDArray[np.int16]], NDArray[Any]]
) -> None:
    hashes = {name: volume_hash(hu) for name, hu in phantoms.items()}
    for name, hu in phantoms.items():
        changed = volume_hash(np.round(change(hu)).astype(np.int16))
        assert [other for other in hashes if distance(changed, hashes[other]) <= NEARLY_SAME] == [name]


def test_patients_of_one_phantom_cohort_are_told_apart(phantoms: dict[str, NDArray[np.int16]]) -> None:
    hashes = [volume_hash(hu) for hu in phantoms.values()]
    assert len(hashes) == 8
    assert min(distance(a, b) for a, b in combinations(hashes, 2)) > 1.5 * NEARLY_SAME


def test_few_slices_are_compared_by_the_middle_one(phantoms: dict[str, NDArray[np.int16]]) -> None:
    hu = next(iter(phantoms.values()))
    assert len(volume_hash(hu)) == 320
    assert len(volume_hash(hu[3:4])) == 64
    assert volume_hash(hu[2:5]) == volume_hash(hu[3:4])
    assert distance(volume_hash(hu[3:4]), volume_hash(np.round(noisy(hu[3:4])).astype(np.int16))) <= NEARLY_SAME


@pytest.mark.parametrize(
    "hu",
    [
        np.full((9, 20, 20), -1000),
        np.full((1, 20, 20), 40),
        np.broadcast_to(np.arange(20) * 40 - 900, (12, 20, 20)),
        np.broadcast_to(np.arange(12)[:, None, None] * 90 - 1000, (12, 20, 20)),
        np.where(np.random.default_rng(0).random((9, 20, 20)) < 0.5, -3000, -1500),
    ],
    ids=["air", "tissue", "ramp", "slices", "below the range"],
)
def test_plain_images_have_no_hash(hu: NDArray[Any]) -> None:
    assert volume_hash(hu.astype(np.int16)) == ""


def test_sentences_name_both_scans_their_splits_and_why() -> None:
    picture = np.random.default_rng(0).bytes(160).hex()
    near = ("0" if picture[0] != "0" else "1") + picture[1:]
    differing = int(picture[0], 16) ^ int(near[0], 16)
    records = [
        record("A", "train", volume_hash=picture),
        record("B", "test", volume_hash=near),
        record("C", "val", patient_id="patient of A"),
        record("D", "test", source_sha256="bytes of A", volume_hash=picture),
        record("E", "train", volume_hash=picture, source_sha256="bytes of A", patient_id="patient of A"),
    ]
    near_sentence = f"nearly the same image (distance {differing.bit_count()} of 1280)"
    assert find_leaks(records) == [
        f"scan A (train) and scan B (test): {near_sentence}",
        "scan A (train) and scan C (val): the same patient_id",
        "scan A (train) and scan D (test): the same file",
        f"scan B (test) and scan E (train): {near_sentence}",
        "scan C (val) and scan E (train): the same patient_id",
        "scan D (test) and scan E (train): the same file",
    ]
    assert find_leaks([records[0], records[4]]) == []


def test_what_is_unknown_is_the_same_as_nothing() -> None:
    assert find_leaks([record(n, s, patient_id="", source_sha256="") for n, s in (("A", "train"), ("B", "test"))]) == []
    assert find_leaks([record("A", "train", volume_hash="ab" * 160), record("B", "test", volume_hash="ab" * 32)]) == []


# With a tenth of ones the first words rule no pair out, so the whole hashes are compared.
@pytest.mark.slow
@pytest.mark.parametrize(("size", "share_of_ones"), [(256, 0.5), (256, 0.1), (1280, 0.5), (1280, 0.1)])
def test_near_pairs_are_those_of_a_comparison_bit_by_bit(size: int, share_of_ones: float) -> None:
    random = np.random.default_rng(0)
    splits = random.choice(["train", "val", "test"], 700, p=[0.8, 0.1, 0.1])
    pictures = random.random((700, size)) < share_of_ones
    for copy in range(350):
        pictures[copy] = pictures[699 - copy] ^ (random.random(size) < random.uniform(0.05, 0.2))
    records = [
        record(str(n), split, volume_hash=np.packbits(picture).tobytes().hex())
        for n, (split, picture) in enumerate(zip(splits, pictures, strict=True))
    ]
    expected = [
        f"scan {a} ({splits[a]}) and scan {b} ({splits[b]}): nearly the same image (distance {far} of {size})"
        for a, b in combinations(range(700), 2)
        if splits[a] != splits[b] and (far := int((pictures[a] != pictures[b]).sum())) <= int(0.12 * size)
    ]
    assert len(expected) > 20
    assert find_leaks(records) == expected


def test_ten_thousand_scans_are_compared_in_seconds() -> None:
    random = np.random.default_rng(0)
    splits = ["train"] * 7 + ["val"] + ["test"] * 2
    records = [record(str(n), splits[n % 10], volume_hash=random.bytes(160).hex()) for n in range(10_000)]
    records[9_995] = record("copy", "train", volume_hash=records[8].volume_hash)
    start = time.perf_counter()
    assert find_leaks(records) == ["scan 8 (test) and scan copy (train): nearly the same image (distance 0 of 1280)"]
    assert time.perf_counter() - start < 15


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"needs the real scans in {SHARED_DATA}")
def test_a_real_scan_is_the_same_as_nrrd_and_as_dicom_and_no_other() -> None:
    names = ["cip_ct64/ct-64.nrrd", "cip_ct64/ct-64Dicom", "ibsi_lung_ct/phantom.nii.gz"]
    names += ["covidctmd_dev/P002_2x2x4mm.nii.gz", "covidctmd_dev/normal002_2x2x4mm.nii.gz"]
    hashes = [volume_hash(read_scan(SHARED_DATA / name).hu) for name in names]
    assert hashes[0] == hashes[1]
    assert min(distance(a, b) for a, b in combinations(hashes[1:], 2)) > 3 * NEARLY_SAME


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"needs the real slices in {SHARED_DATA}")
def test_real_slices_alike_are_found_and_no_others() -> None:
    files = sorted((SHARED_DATA / "medseg_dev" / "images").glob("*.jpg"))
    greys = [np.asarray(Image.open(file).convert("L"), dtype=float)[None] for file in files]
    hashes = {
        file.stem: volume_hash(np.round(g * 1360 / 255 - 1100).astype(np.int16))
        for file, g in zip(files, greys, strict=True)
    }
    alike = {(a, b) for a, b in combinations(hashes, 2) if distance(hashes[a], hashes[b]) <= NEARLY_SAME}
    assert alike == {("10", "43"), ("46", "5")}
