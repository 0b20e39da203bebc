import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prepare_harness import index_of

import cohort.prepare.prepare_cohort as prepare
from cohort.prepare.checksums import OTHER_VERSION, find_damage, write_record
from cohort.prepare.prepare_cohort import prepare_cohort
from cohort.prepare.sources import FORMAT_VERSION
from datamodules.infection_data import InfectionData


def flip(file: Path, at: int, bit: int = 0) -> None:
    """Change one bit and nothing that the file system tells, as a bad disk does."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[at] ^= 1 << bit
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.glob("*/*.*")}


@pytest.mark.slow
@pytest.mark.parametrize(("scan", "name", "at"), [("a", "hu", -1), ("a", "patterns", 300), ("b", "lung", 128)])
def test_a_flipped_bit_is_noticed_said_and_mended(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scan: str, name: str, at: int
) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    before = contents(out)
    flip(out / scan / f"{name}.npy", at)
    assert contents(out) != before
    capsys.readouterr()
    assert prepare_cohort(cohort, out, size=40).fresh == 1
    stderr = capsys.readouterr().err
    assert (
        f"1 prepared scans in {out} do not hold what was written ({scan}/{name}.npy); they are prepared again" in stderr
    )
    assert contents(out) == before
    capsys.readouterr()
    assert prepare_cohort(cohort, out, size=40).fresh == 0
    assert "prepared again" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"spacing_known": true', '"spacing_known": false'),
        lambda text: text.replace('"lung_pixels": [', '"lung_pixels": [ 1,'),
        lambda text: text[:100],
        lambda text: "[]",
        lambda text: text.replace('"array_crc32"', '"array_crc33"'),
    ],
)
def test_a_damaged_scan_json_is_noticed(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[str], str]
) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    before = contents(out)
    file = out / "a" / "scan.json"
    damaged = damage(file.read_text())
    assert damaged != file.read_text()
    file.write_text(damaged)
    assert prepare_cohort(cohort, out, size=40).fresh == 1
    assert "(a/scan.json)" in capsys.readouterr().err
    assert contents(out) == before


def test_a_lost_array_and_many_damaged_scans_are_listed_briefly(tmp_path: Path) -> None:
    for number in range(7):
        folder = tmp_path / f"s{number}"
        folder.mkdir()
        np.save(folder / "hu.npy", np.arange(10 + number, dtype=np.int16))
        write_record({"format_version": 5, "key": "K", "spacing_mm": [0.1, 1 / 3, 5.0]}, folder)
    assert find_damage(tmp_path.iterdir(), 5, jobs=2) == {}
    (tmp_path / "s3" / "hu.npy").unlink()
    flip(tmp_path / "s6" / "hu.npy", 140)
    expected = {tmp_path / "s3": "hu.npy", tmp_path / "s6": "hu.npy"}
    assert find_damage(sorted(tmp_path.iterdir()), 5, jobs=2) == expected
    assert set(find_damage(tmp_path.iterdir(), 6, jobs=2).values()) == {OTHER_VERSION}


def test_what_an_older_version_prepared_is_prepared_again_and_said(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    before = contents(out)
    for file in out.glob("*/scan.json"):
        record = json.loads(file.read_text())
        del record["array_crc32"], record["record_crc32"]
        file.write_text(json.dumps(record | {"format_version": FORMAT_VERSION - 1, "key": "that of before"}))
    capsys.readouterr()
    assert prepare_cohort(cohort, out, size=40).fresh == 3
    stderr = capsys.readouterr().err
    assert f"3 scans in {out} were prepared by another version and are prepared again" in stderr
    assert "warning" not in stderr
    assert contents(out) == before


def test_a_damaged_scan_whose_source_has_turned_bad_is_refused(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    flip(out / "a" / "hu.npy", 1000)
    (tmp_path / "a.nii.gz").write_bytes(b"broken")
    done = prepare_cohort(cohort, out, size=40)
    assert done.refused == 1
    assert list(index_of(out)) == ["b", "c"]


def test_the_checksums_are_those_of_the_files(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_cohort(cohort, out, size=40)
    record = json.loads((out / "a" / "scan.json").read_text())
    assert record["array_crc32"] == {file.stem: zlib.crc32(file.read_bytes()) for file in (out / "a").glob("*.npy")}


def test_training_verifies_once(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def nothing_found(*args: object) -> dict[Path, str]:
        calls.append(args)
        return {}

    monkeypatch.setattr(prepare, "find_damage", nothing_found)
    data = InfectionData(str(cohort), str(tmp_path / "prepared"), size=40, num_workers=2)
    data.prepare_data()
    data.setup("fit")
    data.prepare_data()  # the test after the training
    next(iter(data.val_dataloader()))
    assert len(calls) == 1
