import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dicom_harness import ct, write_series
from refusing import assert_refused

from ct.files.read import read_scan
from viewer.upload import Limits, receive

SMALL = Limits(upload_bytes=200_000, unpacked_bytes=1_000_000, files=10, ratio=100, harmless_bytes=10_000)


def packed(
    files: Mapping[str, bytes] | Mapping[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """Zip files: name or ZipInfo -> bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def series_zip(folder: Path, **extra: bytes) -> bytes:
    files = {f"study/series/{file.name}": file.read_bytes() for file in sorted(write_series(folder).iterdir())}
    return packed(files | extra)


def assert_upload_refused(
    tmp_path: Path, content: bytes, pattern: str, *parts: str, limits: Limits = SMALL, name: str = "scan.zip"
) -> None:
    """Assert the one sentence, and that nothing is left anywhere below the folder's parent."""
    tmp_path = tmp_path / "visit"
    tmp_path.mkdir()
    assert_refused(
        lambda folder: receive([(name, content)], folder, limits), tmp_path / "up", pattern, *parts, named=Path(name)
    )
    assert list(tmp_path.parent.rglob("*")) == [tmp_path]


def test_a_zip_of_a_series_is_read_like_its_folder(tmp_path: Path) -> None:
    source = receive([("scan.zip", series_zip(tmp_path / "series"))], tmp_path / "up")
    np.testing.assert_array_equal(read_scan(source).hu, ct())


def test_what_macos_and_viewers_add_is_left_out(tmp_path: Path) -> None:
    extra = {"__MACOSX/study/._IM0001.dcm": b"x" * 200, "study/.DS_Store": b"x", "study/DICOMDIR": b"x"}
    source = receive([("scan.zip", series_zip(tmp_path / "series", **extra))], tmp_path / "up")
    np.testing.assert_array_equal(read_scan(source).hu, ct())


def test_names_with_backslashes_become_folders(tmp_path: Path) -> None:
    source = receive([("scan.zip", packed({"a\\one": b"1", "a\\two": b"2"}))], tmp_path / "up")
    assert sorted(str(file.relative_to(source)) for file in source.rglob("*")) == ["a", "a/one", "a/two"]


def test_loose_files_of_a_series_of_one_name_each(tmp_path: Path) -> None:
    files = [("series/IM.dcm", file.read_bytes()) for file in write_series(tmp_path / "series").iterdir()]
    np.testing.assert_array_equal(read_scan(receive(files, tmp_path / "up")).hu, ct())


@pytest.mark.parametrize("zipped", [False, True])
def test_a_volume_is_found(tmp_path: Path, zipped: bool) -> None:
    content = packed({"x/scan.nii.gz": b"volume"}) if zipped else b"volume"
    source = receive([("scan.zip" if zipped else "C:\\mine\\scan.nii.gz", content)], tmp_path / "up")
    assert source.name == "scan.nii.gz"
    assert source.read_bytes() == b"volume"
    assert source.is_relative_to(tmp_path / "up")


def test_an_nrrd_header_and_its_data(tmp_path: Path) -> None:
    files = [("scan.nhdr", b"NRRD0004\ndata file: scan.raw\n\n"), ("scan.raw", b"12")]
    assert receive(files, tmp_path / "up") == tmp_path / "up" / "scan.nhdr"


@pytest.mark.parametrize("place", ["/etc/hostname", "../secret.raw"])
def test_an_nrrd_header_reads_no_other_file_of_the_machine(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret.raw").write_bytes(b"secret")
    header = f"NRRD0004\ndata file: {place}\n\n".encode()
    with pytest.raises(ValueError, match="another folder"):
        receive([("scan.nrrd", header)], tmp_path / "up")
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:evil", "\\\\host\\x\\evil"]
)
def test_traversal(tmp_path: Path, name: str) -> None:
    assert_upload_refused(tmp_path, packed({"good": b"x", name: b"x"}), "points out of the folder")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("link.dcm")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    files: dict[str | zipfile.ZipInfo, bytes] = {"good": b"x", entry: b"/etc/passwd"}
    assert_upload_refused(tmp_path, packed(files), "link or a device", "'link.dcm'")


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (packed({"zeros.dcm": bytes(900_000)}), "times its size; expected at most 100 times"),
        (packed({str(n): b"" for n in range(11)}), "holds 11 files; expected at most 10"),
        (packed({"a": b"x" * 999})[:60], "not a readable zip"),
        (packed({"n" * 300: b"x"}), "cannot be unpacked .File name too long"),
        (packed({}), "holds no file"),
        (packed({"a.nii": b"x", "b.nii": b"x"}), "'a.nii' and 1 other files.*'b.nii'"),
    ],
    ids=["bomb", "many files", "damaged", "long name", "empty", "two scans"],
)
def test_a_zip_that_cannot_be_used(tmp_path: Path, content: bytes, pattern: str) -> None:
    assert_upload_refused(tmp_path, content, pattern)


def test_a_bomb_by_its_size(tmp_path: Path) -> None:
    limits = Limits(unpacked_bytes=1_000_000, ratio=10_000)
    assert_upload_refused(
        tmp_path, packed({f"{n}": bytes(600_000) for n in range(2)}), "unpacks to more than 1 MiB", limits=limits
    )


def test_small_zeros_are_no_bomb(tmp_path: Path) -> None:
    assert receive([("a.zip", packed({"x": bytes(9000)}))], tmp_path / "up", SMALL).stat().st_size == 9000


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    content = bytearray(packed({"zeros.dcm": bytes(5_000_000)}))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, 100)
    assert_upload_refused(tmp_path, bytes(content), "cannot be unpacked")


def test_entries_that_overlap(tmp_path: Path) -> None:
    """Every entry of the directory names the same bytes, as in the bombs without nesting."""
    stream = io.BytesIO(packed({"kernel": bytes(900)}))
    with zipfile.ZipFile(stream, "a") as archive:
        kernel = archive.infolist()[0]
        for number in range(5):
            copy = zipfile.ZipInfo(f"copy{number}")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(copy, name, getattr(kernel, name))
            archive.filelist.append(copy)
        archive._didModify = True  # type: ignore[attr-defined]  # so that it writes its directory anew
    assert_upload_refused(tmp_path, stream.getvalue(), "cannot be unpacked|times its size")


def test_an_encrypted_entry(tmp_path: Path) -> None:
    content = bytearray(packed({"secret.dcm": b"x" * 50}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        struct.pack_into("<H", content, content.index(signature) + offset, 1)
    assert_upload_refused(tmp_path, bytes(content), "is encrypted; expected a zip without a password")


def test_too_many_loose_files_and_too_many_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 11 files"):
        receive([(str(n), b"x") for n in range(11)], tmp_path / "up", SMALL)
    with pytest.raises(ValueError, match="expected at most 0 MiB"):
        receive([("scan.nii", bytes(200_001))], tmp_path / "up", SMALL)
    with pytest.raises(ValueError, match="the upload is empty"):
        receive([], tmp_path / "up", SMALL)
    assert not (tmp_path / "up").exists()


def test_damaged_bytes_in_a_zip(tmp_path: Path) -> None:
    content = bytearray(packed({"a.dcm": np.random.default_rng(0).bytes(900), "b.dcm": b"x"}))
    content[200] ^= 0xFF
    assert_upload_refused(tmp_path, bytes(content), "'a.dcm' cannot be unpacked")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.dcm", b"1")
        archive.writestr("a.dcm", b"2")
    assert_upload_refused(tmp_path, stream.getvalue(), "'a.dcm' cannot be unpacked .File exists")


def test_no_path_of_the_machine_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be unpacked") as caught:
        receive([("scan.zip", packed({"n" * 300: b"x"}))], tmp_path / "up")
    assert str(tmp_path) not in str(caught.value)
