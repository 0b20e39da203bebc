import errno
import io
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

from ct.files.unzip import find_scan, unzip

METAIMAGE = b"ObjectType = Image\nElementDataFile = %s\n"


@pytest.mark.parametrize(
    ("files", "scan"),
    [
        ({"a.mhd": METAIMAGE % b"a.raw", "a.raw": b"1"}, "a.mhd"),
        ({"x/a.mha": METAIMAGE % b"LOCAL"}, "x/a.mha"),
        ({"a.hdr": b"h", "a.img": b"v"}, "a.hdr"),
        ({"a.img": b"DICOM perhaps"}, "a.img"),
        ({"1.img": b"DICOM perhaps", "2.img": b"DICOM perhaps"}, "."),
        ({"a.hdr": b"h"}, "a.hdr"),
    ],
)
def test_the_scan_among_files_of_every_format(tmp_path: Path, files: dict[str, bytes], scan: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert find_scan("upload", tmp_path) == tmp_path / scan


@pytest.mark.parametrize("place", [b"/etc/hostname", b"../secret.raw"])
def test_a_metaimage_header_reads_no_other_file_of_the_machine(tmp_path: Path, place: bytes) -> None:
    (tmp_path / "secret.raw").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mhd").write_bytes(METAIMAGE % place)
    with pytest.raises(ValueError, match="names a data file in another folder"):
        find_scan("upload", tmp_path / "in")


@pytest.mark.parametrize(
    "files", [{"a.mhd": b"x", "b.mha": b"x"}, {"a.hdr": b"h", "a.img": b"v", "notes.txt": b"x"}, {}]
)
def test_what_holds_no_single_scan(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^upload: holds ('a\.(mhd|hdr)' and 1 other files|no file)"):
        find_scan("upload", tmp_path)


def test_a_full_disk_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.dcm", b"x")

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ValueError, match=r"^scan\.zip: no disk space is left .*; make room, or set TMPDIR elsewhere"):
        unzip("scan.zip", stream, tmp_path)
