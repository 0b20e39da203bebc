import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

import cohort.prepare.sources as sources
from cohort.prepare.sources import files_of, hash_content, is_current, remember, stamp_of
from cohort.table import CohortRow


@pytest.fixture
def row(tmp_path: Path) -> CohortRow:
    for name in ("series/1.dcm", "series/sub/2.dcm", "mask.nii"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 9)
    return CohortRow("s", "p", "X", tmp_path / "series", lung_mask=tmp_path / "mask.nii")


def test_the_key_follows_bytes_names_roles_and_parameters(row: CohortRow, tmp_path: Path) -> None:
    first = hash_content(row, 64)
    assert hash_content(row, 64) == first
    assert hash_content(row, 65).key != first.key
    assert hash_content(CohortRow("s", "p", "X", row.image, infection_mask=row.lung_mask), 64).key != first.key
    assert hash_content(CohortRow("s", "q", "Y", row.image, lung_mask=row.lung_mask), 64) == first
    (tmp_path / "series").rename(tmp_path / "moved")
    assert hash_content(CohortRow("s", "p", "X", tmp_path / "moved", lung_mask=row.lung_mask), 64) == first
    (tmp_path / "moved").rename(tmp_path / "series")
    (tmp_path / "series" / "sub" / "2.dcm").write_bytes(b"other")
    changed = hash_content(row, 64)
    assert changed.key != first.key
    assert changed.image_sha256 != first.image_sha256


def test_the_hash_of_the_image_is_that_of_its_bytes_alone(row: CohortRow, tmp_path: Path) -> None:
    first = hash_content(row, 64)
    (tmp_path / "series" / "1.dcm").rename(tmp_path / "series" / "sub" / "z.dcm")
    renamed = hash_content(CohortRow("other", "p", "X", row.image), 65)
    assert renamed.image_sha256 == first.image_sha256
    assert renamed.key != first.key
    single = CohortRow("s", "p", "X", tmp_path / "mask.nii")
    assert hash_content(single, 64).image_sha256 == hashlib.sha256((tmp_path / "mask.nii").read_bytes()).hexdigest()


def test_the_voxels_of_an_nrrd_header_in_another_file_count_too(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nhdr"))
    row = CohortRow("s", "p", "X", tmp_path / "a.nhdr")
    before = hash_content(row, 64)
    (tmp_path / "a.raw").write_bytes(bytes(47) + b"\1")
    assert hash_content(row, 64).key != before.key
    assert [name for name, _ in files_of(tmp_path / "a.nhdr")] == ["a.nhdr", "a.raw"]


@pytest.mark.parametrize("chosen", ["a.hdr", "a.img", "b.mhd"])
def test_both_files_of_other_formats_count_too(tmp_path: Path, chosen: str) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    for name in ("a.img", "b.mhd"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
    voxels = tmp_path / ("b.raw" if chosen == "b.mhd" else "a.img")
    row = CohortRow("s", "p", "X", tmp_path / chosen)
    before = hash_content(row, 64)
    assert [file for _, file in files_of(tmp_path / chosen)][1:] == [voxels]
    voxels.write_bytes(bytes(47) + b"\1")
    assert hash_content(row, 64).key != before.key


@pytest.fixture
def prepared(row: CohortRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks prepared, with its stamp."""
    monkeypatch.setattr(sources, "SETTLED_NS", 0)
    out = tmp_path / "out"
    (out / "s").mkdir(parents=True)
    (out / "s" / "hu.npy").write_bytes(b"12345")
    (out / "s" / "scan.json").write_text('{"key": "K", "array_bytes": {"hu": 5}}')
    remember(row, out, stamp_of(row, 64), "K")
    return out


def test_what_is_unchanged_is_known_without_reading_it(
    row: CohortRow, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "hash_content", None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert is_current(row, prepared, 64)
    assert not is_current(row, prepared, 65)


@pytest.mark.parametrize(
    "change",
    [
        lambda row, out: (row.image / "1.dcm").write_bytes(b"x" * (row.image / "1.dcm").stat().st_size),
        lambda row, out: (row.image / "3.dcm").touch(),
        lambda row, out: (row.image / "sub" / "2.dcm").unlink(),
        lambda row, out: row.lung_mask.unlink(),
        lambda row, out: os.utime(row.lung_mask),
        lambda row, out: (out / "s" / "hu.npy").write_bytes(b"1"),
        lambda row, out: (out / "s" / "hu.npy").unlink(),
        lambda row, out: (out / "s" / "scan.json").write_text('{"key": "L", "array_bytes": {"hu": 5}}'),
        lambda row, out: (out / "s" / "scan.json").write_text("[]"),
        lambda row, out: (out / ".stamps" / "s").write_text("cut"),
    ],
)
def test_whatever_changed_is_looked_at_again(
    row: CohortRow, prepared: Path, change: Callable[[CohortRow, Path], object]
) -> None:
    change(row, prepared)
    assert not is_current(row, prepared, 64)


def test_a_rewrite_that_keeps_size_and_modification_time_is_seen(row: CohortRow, prepared: Path) -> None:
    file = row.image / "1.dcm"
    before = file.stat()
    file.write_bytes(b"x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_current(row, prepared, 64)


def test_what_has_only_just_changed_is_not_trusted(
    row: CohortRow, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SETTLED_NS", 3_600_000_000_000)
    remember(row, prepared, stamp_of(row, 64), "K")
    assert not is_current(row, prepared, 64)
