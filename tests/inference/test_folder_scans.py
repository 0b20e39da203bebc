"""Folders that mix scans of every kind with other files: each is taken up, or left out with the reason."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from broken_scans import phantom_nifti, phantom_series
from dicom_harness import enhance
from PIL import Image

from ct.files.read import read_scan
from inference.folder_scans import HIDDEN, LONE_DICOM, OTHER, SLICE_IMAGE, SPLIT_SERIES, scans_in
from inference.predict import main
from inference.scan_list import PRIVATE, is_batch


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM series, one file a slice."""
    return phantom_series(tmp_path_factory.mktemp("series") / "s")


def zip_of(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path("study") / file.relative_to(folder))
    return target


@pytest.fixture
def mixed(series: Path, tmp_path: Path) -> Path:
    """What people put beside each other: eight scans, and files that are none."""
    folder = tmp_path / "mixed"
    shutil.copytree(series, folder / "a_series")
    enhance(sorted(series.iterdir()), folder / "b.dcm")
    zip_of(series, folder / "c.zip")
    phantom_nifti(folder / "d.nii.gz")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "d.nii.gz")), str(folder / "e.mhd"))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "d.nii.gz")), str(folder / "f.nhdr"))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "d.nii.gz")), str(folder / "g.img"))
    (folder / "h_patients" / "DOE").mkdir(parents=True)
    shutil.copy(folder / "d.nii.gz", folder / "h_patients" / "DOE")
    shutil.copy(sorted(series.iterdir())[3], folder / "SMITH_lone.dcm")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "JONES.png")
    (folder / "notes.txt").write_text("of MILLER")
    (folder / ".DS_Store").write_text("x")
    return folder


def test_every_file_is_taken_up_or_left_out_with_the_reason(mixed: Path) -> None:
    scans, left_out = scans_in(mixed)
    assert [str(path.relative_to(mixed)) for path in scans] == [
        "a_series", "b.dcm", "c.zip", "d.nii.gz", "e.mhd", "f.nhdr", "g.hdr", "h_patients/DOE/d.nii.gz",
    ]  # fmt: skip
    reasons = {path.name: reason for path, reason in left_out.items()}
    assert reasons == {
        "SMITH_lone.dcm": LONE_DICOM,
        "JONES.png": SLICE_IMAGE,
        "notes.txt": OTHER,
        ".DS_Store": HIDDEN,
    }
    assert is_batch(mixed)


@pytest.mark.slow
def test_a_batch_of_them_says_what_was_left_out_and_shared_files_do_not(
    em_run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("e.mhd", "e.raw", "f.nhdr", "f.raw", "g.hdr", "g.img", "h_patients/DOE/d.nii.gz"):
        (mixed / name).unlink()
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={mixed}", f"--out={out}"])
    shown = capsys.readouterr().out
    assert stop.value.code == 1  # h_patients/DOE is empty now
    assert "4 segmented (0 of them before)" in shown
    assert f"left out: 1 file: {LONE_DICOM}" in shown
    assert f"left out: 1 file: {SLICE_IMAGE}" in shown
    assert f"which files were left out: {out / PRIVATE}" in shown
    private = pd.read_csv(out / PRIVATE, keep_default_na=False).set_index("path")
    assert private.loc[str(mixed / "JONES.png"), "left_out_because"] == SLICE_IMAGE
    assert set(private.index) == {str(path) for path in mixed.iterdir()}
    for path in out.rglob("*"):
        if path.is_file() and path.name != PRIVATE and path.suffix != ".dcm":
            content = path.read_bytes()
            assert not [name for name in (b"SMITH", b"JONES", b"MILLER", b"DOE") if name in content], path
    # The series, the same as one file and the same in a zip are one patient's, and give the same answer.
    names = [private["name"][str(mixed / name)] for name in ("a_series", "b.dcm", "c.zip")]
    volumes = [json.loads((out / name / "measurements.json").read_text())["infection_ml"] for name in names]
    assert volumes == [volumes[0]] * 3
    assert (out / names[2] / "segmentation.dcm").is_file()
    assert list(pd.read_csv(out / "follow_up.csv")["name"]) == names
    assert len(pd.read_csv(out / "measurements.csv")) == 4


def test_which_folders_are_batches(series: Path, tmp_path: Path) -> None:
    def folder(name: str, *content: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        add: dict[str, Callable[[], object]] = {
            "slices": lambda: [shutil.copy(file, made) for file in series.iterdir()],
            "folder": lambda: shutil.copytree(series, made / "inner"),
            "frames": lambda: enhance(sorted(series.iterdir()), made / "frames.dcm"),
            "zip": lambda: zip_of(series, made / "x.zip"),
            "volume": lambda: (made / "x.nii.gz").write_bytes(b"volume"),
            "metaimage": lambda: (made / "x.mhd").write_bytes(b"volume"),
            "image": lambda: (made / "x.png").write_bytes(b"image"),
            "text": lambda: (made / "x.txt").write_bytes(b"text"),
            "index": lambda: shutil.copy(next(iter(series.iterdir())), made / "DICOMDIR"),
        }
        for each in content:
            add[each]()
        return made

    batches = [
        ("volume",), ("metaimage",), ("volume", "slices"), ("folder",), ("folder", "text"), ("folder", "frames"),
        ("folder", "zip", "image"), ("zip",), ("zip", "frames"), ("volume", "image"),
    ]  # fmt: skip
    scans = [
        ("slices",), ("slices", "folder"), ("slices", "zip"), ("slices", "text"), ("frames",), ("index", "folder"),
        ("image",), ("text",), (),
    ]  # fmt: skip
    assert [content for content in batches if not is_batch(folder("+".join(content), *content))] == []
    assert [content for content in scans if is_batch(folder("-".join(content) or "none", *content))] == []
    assert not is_batch(tmp_path / "nowhere")


def test_a_series_in_several_files_of_frames_is_not_taken_for_several_scans(series: Path, tmp_path: Path) -> None:
    files = sorted(series.iterdir())
    enhance(files[:5], tmp_path / "one.dcm")
    enhance(files[5:], tmp_path / "two.dcm")
    phantom_nifti(tmp_path / "scan.nii")
    scans, left_out = scans_in(tmp_path)
    assert [path.name for path in scans] == ["scan.nii"]
    assert set(left_out.values()) == {SPLIT_SERIES}


def test_what_only_looks_like_a_scan_is_refused_by_name(tmp_path: Path) -> None:
    phantom_nifti(tmp_path / "scan.nii")
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b packed")
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    (tmp_path / "c.rar").write_bytes(b"Rar!")
    (tmp_path / "d.docx").write_bytes(b"PK\3\4 an office file")
    (tmp_path / "e.raw").write_bytes(b"voxels")
    (tmp_path / "empty").mkdir()
    scans, left_out = scans_in(tmp_path)
    assert [path.name for path in scans] == ["a.tar.gz", "b.dcm", "c.rar", "empty", "scan.nii"]
    assert {path.name: reason for path, reason in left_out.items()} == {"d.docx": OTHER, "e.raw": OTHER}


def test_links_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    phantom_nifti(tmp_path / "deep" / "scan.nii")
    (tmp_path / "deep" / "again").symlink_to(tmp_path)
    scans, _ = scans_in(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in scans] == ["deep/again", "deep/scan.nii"]


def test_a_zip_is_segmented_and_leaves_nothing_behind(
    em_run: Path, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    archive = zip_of(series, tmp_path / "scan.zip")
    for scan, out in ((archive, "zip"), (series, "series")):
        main([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={scan}", f"--out={tmp_path / out}"])
    zipped, plain = (json.loads((tmp_path / out / "measurements.json").read_text()) for out in ("zip", "series"))
    assert zipped | {"name": ""} == plain | {"name": ""}
    assert sorted(file.name for file in (tmp_path / "zip").iterdir()) == sorted(
        file.name for file in (tmp_path / "series").iterdir()
    )
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cut.zip", "half", "not a readable zip; it is cut off or damaged"),
        ("text.zip", b"no zip at all", "not a readable zip; it is cut off or damaged"),
        ("other.zip", {"a.txt": b"text"}, "a.txt: not a readable DICOM file"),
        ("two.zip", {"a.nii": b"x", "b.nii": b"x"}, "holds 'a.nii' and 1 other files"),
        ("out.zip", {"../evil.dcm": b"x"}, "points out of the folder"),
        ("scan.tar", b"x" * 257 + b"ustar", "packed (tar); unpack it"),
        ("scan.tar.gz", b"\x1f\x8b", "packed (gzip); unpack it"),
        ("scan.rar", b"Rar!", "packed (rar); unpack it"),
        ("scan.7z", b"7z\xbc\xaf\x27\x1c", "packed (7z); unpack it"),
    ],
)
def test_archives_that_cannot_be_used_are_one_sentence(
    em_run: Path,
    series: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | str | dict[str, bytes],
    reason: str,
) -> None:
    path = tmp_path / name
    if isinstance(content, dict):
        with zipfile.ZipFile(path, "w") as archive:
            for inner, data in content.items():
                archive.writestr(inner, data)
    elif isinstance(content, str):
        whole = zip_of(series, path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={path}", f"--out={tmp_path / 'out'}"])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {path}")
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_zip_in_a_cohort_is_to_be_unpacked(series: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a CT scan but packed \(zip\); unpack it"):
        read_scan(zip_of(series, tmp_path / "a.zip"))
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a CT scan but a zip that is cut off or damaged"):
        read_scan(tmp_path / "b.zip")
    (tmp_path / "folder").mkdir()
    shutil.move(tmp_path / "a.zip", tmp_path / "folder" / "a.zip")
    with pytest.raises(ValueError, match=r"no DICOM file .*; it holds what is packed \(zip\); unpack it"):
        read_scan(tmp_path / "folder")
