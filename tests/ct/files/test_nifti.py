import gzip
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from refusing import assert_refused
from small_ct import affine, ct

from ct.files.read import read_scan
from ct.files.write import write_scan_nifti
from ct.scan import Affine

ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]
PIXDIM, OFFSET, SLOPE, UNITS, QFORM, SFORM = 80, 108, 112, 123, 252, 254


def stored() -> NDArray[np.int16]:
    return ct().transpose(2, 1, 0)


def save(
    array: NDArray[Any],
    path: Path,
    sform: Affine | None = None,
    qform: Affine | None = None,
    kind: type[nibabel.Nifti1Image] = nibabel.Nifti1Image,
) -> Path:
    image = kind(array, affine())
    image.set_qform(affine() if qform is None else qform, 1)
    image.set_sform(affine() if sform is None else sform, 1)
    image.to_filename(path)
    return path


def overwrite(path: Path, value_at: Mapping[int, NDArray[Any] | np.generic]) -> Path:
    """Put values into the stored header, past all checks of a library."""
    raw = bytearray(path.read_bytes())
    for at, value in value_at.items():
        raw[at : at + value.nbytes] = value.tobytes()
    path.write_bytes(raw)
    return path


def rotated(degrees: float) -> Affine:
    """The affine, turned about the patient's left-right axis."""
    angle = np.radians(degrees)
    matrix = affine()
    matrix[1:3, 1:3] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ matrix[1:3, 1:3]
    return matrix


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">f4", "<f8", "<i8"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_every_number_type_byte_order_and_version(
    tmp_path: Path, dtype: str, kind: type[nibabel.Nifti1Image], suffix: str
) -> None:
    header = kind.header_class(endianness=dtype[0])
    image = kind(stored().astype(dtype), affine(), header=header, dtype=np.dtype(dtype))
    assert image.header.endianness == dtype[0]
    image.to_filename(tmp_path / "ct.nii.gz" if "gz" in suffix.lower() else tmp_path / "ct.nii")
    (path,) = tmp_path.iterdir()
    path = path.rename(tmp_path / f"ct{suffix}")
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.hu, ct())
    np.testing.assert_allclose(scan.affine, affine(), atol=1e-5)
    assert (scan.hu.dtype, scan.repairs) == (np.dtype(np.int16), ())


def test_a_fourth_axis_of_one_and_a_scaling(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_scan(save(stored()[..., None], tmp_path / "four.nii")).hu, ct())
    path = save((stored() + 1000).astype(np.int16), tmp_path / "scaled.nii")
    overwrite(path, {SLOPE: np.float32(2), SLOPE + 4: np.float32(-1024)})
    np.testing.assert_array_equal(read_scan(path).hu, (ct().astype(int) + 1000) * 2 - 1024)
    for unscaled in (0, np.nan):
        path = overwrite(save(stored(), tmp_path / "plain.nii"), {SLOPE: np.float32(unscaled), 116: np.float32(9)})
        np.testing.assert_array_equal(read_scan(path).hu, ct())
    endless = overwrite(save(stored(), tmp_path / "endless.nii"), {SLOPE: np.float32(1), 116: np.float32(np.inf)})
    assert_refused(read_scan, endless, "intercept inf")


def test_left_handed_affines_and_a_lone_qform(tmp_path: Path) -> None:
    mirrored = affine()
    mirrored[0] *= -1
    assert np.linalg.det(mirrored[:3, :3]) * np.linalg.det(affine()[:3, :3]) < 0
    path = overwrite(save(stored(), tmp_path / "ct.nii", mirrored, mirrored), {SFORM: np.int16(0)})
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.hu[..., ::-1], ct())
    np.testing.assert_allclose(nibabel.Nifti1Image.from_filename(path).affine, mirrored)
    np.testing.assert_allclose(scan.source.affine, mirrored)
    overwrite(path, {76: np.float32(0)})
    zero_means_one = read_scan(path).source.affine
    overwrite(path, {76: np.float32(1)})
    np.testing.assert_allclose(zero_means_one, nibabel.Nifti1Image.from_filename(path).affine)
    assert np.linalg.det(zero_means_one[:3, :3]) * np.linalg.det(mirrored[:3, :3]) < 0


@pytest.mark.parametrize("noise", [1e-6, 1e-4, 1e-3])
@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SLP", "AIR"])
def test_noise_in_direction_cosines_is_kept_and_tolerated(tmp_path: Path, noise: float, axcodes: str) -> None:
    rng = np.random.default_rng(int(noise * 1e6))
    matrix = affine()
    matrix[:3, :3] += rng.uniform(-noise, noise, (3, 3)) * np.linalg.norm(matrix[:3, :3], axis=0)
    write_scan_nifti(ct(), matrix, tmp_path / "ct.nii", axcodes)
    scan = read_scan(tmp_path / "ct.nii")
    np.testing.assert_array_equal(scan.hu, ct())
    np.testing.assert_allclose(scan.affine, matrix, atol=1e-4)


@pytest.mark.parametrize("degrees", [0.5, -0.5, 10, 44, 46])
def test_oblique_scans_are_refused(tmp_path: Path, degrees: float) -> None:
    assert_refused(read_scan, save(stored(), tmp_path / "ct.nii", rotated(degrees), rotated(degrees)), "oblique")


def moved(mm: float) -> Affine:
    matrix = affine()
    matrix[2, 3] += mm
    return matrix


@pytest.mark.parametrize(
    ("situation", "make", "fragment"),
    [
        ("two frames", lambda p: save(np.stack([stored()] * 2, axis=-1), p), "one volume"),
        ("vectors", lambda p: save(np.stack([stored()] * 3, axis=-1)[:, :, :, None], p), "one volume"),
        ("flat", lambda p: save(stored()[:, :, 0], p), "one volume"),
        ("complex", lambda p: save(stored().astype(np.complex64), p), "complex64; expected real numbers"),
        (
            "colours",
            lambda p: save(np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), p),
            "real numbers",
        ),
        ("unknown type", lambda p: overwrite(save(stored(), p), {70: np.int16(99)}), "code 99; expected real"),
        ("wrong bits", lambda p: overwrite(save(stored(), p), {72: np.int16(32)}), "int16 but have 32 bits"),
        ("one slice", lambda p: save(stored()[:, :, :1], p), "one slice"),
        ("one column", lambda p: save(stored()[:1], p), "one slice"),
        ("zero pixdim", lambda p: overwrite(save(stored(), p), {PIXDIM: np.float32(0)}), r"voxel sizes \[0\.0, "),
        ("NaN pixdim", lambda p: overwrite(save(stored(), p), {PIXDIM: np.float32(np.nan)}), "voxel sizes"),
        ("other pixdim", lambda p: overwrite(save(stored(), p), {PIXDIM: np.float32(1.51)}), "but the affine"),
        ("lost", lambda p: overwrite(save(stored(), p), {QFORM: np.int16(0), SFORM: np.int16(0)}), "neither sform"),
        ("metres", lambda p: overwrite(save(stored(), p), {UNITS: np.uint8(1)}), "lengths are in meter"),
        ("micrometres", lambda p: overwrite(save(stored(), p), {UNITS: np.uint8(3 + 8)}), "lengths are in micron"),
        ("two places", lambda p: save(stored(), p, qform=moved(20)), "sform and qform place voxels up to 20.0 mm"),
        ("two sides", lambda p: save(stored(), p, qform=affine() * [[-1], [-1], [1], [1]]), "sform and qform"),
        ("two angles", lambda p: save(stored(), p, qform=rotated(0.5)), "sform and qform"),
        ("no qform", lambda p: overwrite(save(stored(), p), {256: np.float32(2)}), "the qform is impossible"),
        ("no sform", lambda p: overwrite(save(stored(), p), {280: np.full(12, np.nan, "f4")}), "affine"),
        ("offset", lambda p: overwrite(save(stored(), p), {OFFSET: np.float32(1e9)}), "vox_offset is 1e"),
    ],
)
def test_refused_with_the_reason(tmp_path: Path, situation: str, make: Callable[[Path], Path], fragment: str) -> None:
    assert_refused(read_scan, make(tmp_path / f"{situation.replace(' ', '_')}.nii"), fragment)


def test_an_sform_may_differ_from_its_qform_by_noise(tmp_path: Path) -> None:
    noisy = affine()
    noisy[0, 1], noisy[:3, 3] = 2.0 * 1e-3, noisy[:3, 3] + 0.4
    scan = read_scan(save(stored(), tmp_path / "ct.nii", noisy))
    np.testing.assert_allclose(scan.affine, noisy, atol=1e-4)


def test_other_files_and_damaged_files(tmp_path: Path) -> None:
    for name in ("text.nii", "text.nii.gz"):
        (tmp_path / name).write_text("no image")
        assert_refused(read_scan, tmp_path / name, "not a readable NIfTI")
    (tmp_path / "text.nii").write_bytes(gzip.compress(save(stored(), tmp_path / "ct.nii").read_bytes()))
    assert_refused(read_scan, tmp_path / "text.nii", r"packed \(gzip\), which its name does not say")
    (tmp_path / "text.nii").write_bytes(b"")
    assert_refused(read_scan, tmp_path / "text.nii", "header has 0 of 348 bytes; it is cut off or damaged")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no image" * 100))
    assert_refused(read_scan, tmp_path / "text.nii.gz", "not a readable NIfTI")
    noise = np.random.default_rng(0).integers(-1000, 500, (64, 64, 8)).astype(np.int16)
    whole = save(noise, tmp_path / "ct.nii")
    raw = whole.read_bytes()
    whole.write_bytes(raw[:4000])
    assert_refused(read_scan, whole, "cannot be read")
    whole.write_bytes(raw + raw[-64 * 64 * 2 :])
    assert_refused(read_scan, whole, "more are there")
    whole.write_bytes(raw + b"\0" * 16)
    np.testing.assert_array_equal(read_scan(whole).hu, noise.transpose(2, 1, 0))
    packed = tmp_path / "ct.nii.gz"
    packed.write_bytes(gzip.compress(raw)[:20000])
    assert_refused(read_scan, packed, "cannot be read")
    # A check sum that nobody needs for reading the voxels is compared all the same.
    spoilt = bytearray(gzip.compress(raw))
    spoilt[-8] ^= 1
    packed.write_bytes(spoilt)
    assert_refused(read_scan, packed, "CRC")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = overwrite(save(stored(), tmp_path / "ct.nii"), {42: np.array([32000, 32000, 32000], dtype=np.int16)})
    if suffix == ".nii.gz":
        path = tmp_path / "ct.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "ct.nii").read_bytes()))
    taken = []
    monkeypatch.setattr(np, "empty", lambda *args, **options: taken.append(args))
    assert_refused(read_scan, path, r"promises 65536000000000 bytes of voxels \(32000, 32000, 32000\)")
    assert taken == []
