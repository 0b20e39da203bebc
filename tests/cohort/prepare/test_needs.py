import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

import cohort.prepare.needs as needs
from cohort.prepare.needs import available_memory, estimate
from cohort.table import CohortRow
from ct.files.write import write_dicom_series, write_scan_nifti

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
HU = np.random.default_rng(0).integers(-1000, 100, (20, 30, 40)).astype(np.int16)


def written(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / kind
    if kind.endswith(".nii.gz"):
        write_scan_nifti(HU, AFFINE, path, "SAR")
    elif kind.endswith((".nrrd", ".mha", ".img")):
        image = SimpleITK.GetImageFromArray(HU)
        image.SetSpacing((1.0, 1.0, 2.0))
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    elif kind == "dicom":
        write_dicom_series(HU, AFFINE, path)
    return path


@pytest.mark.parametrize("kind", ["a.nii.gz", "a.nrrd", "a.mha", "a.img", "dicom"])
def test_memory_and_disk_of_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    estimated = estimate([CohortRow("a", "p", "X", path)], size=16)
    assert estimated.largest == 20 * 30 * 40 * 2
    assert estimated.disk == 8 * 16 * 16 * 3  # 40 mm are 8 slices of 5 mm; HU has 2 bytes, the lungs 1
    files = list(path.iterdir()) if path.is_dir() else list(tmp_path.iterdir())
    assert estimated.sources == sum(file.stat().st_size for file in files)


def test_slice_images_and_masks(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    for name in "ab":
        Image.fromarray(np.zeros((6, 9), dtype=np.uint8)).save(tmp_path / "ct" / f"{name}.png")
    row = CohortRow("a", "p", "X", tmp_path / "ct", infection_mask=tmp_path / "ct", grey_low_hu=-1000.0)
    estimated = estimate([row, row], size=10)
    assert (estimated.scans, estimated.largest, estimated.disk) == (2, 2 * 6 * 9 * 2, 2 * 2 * 100 * 4)


def test_a_broken_file_counts_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"not a volume"))
    estimated = estimate([CohortRow("a", "p", "X", tmp_path / "a.nii.gz")], size=10)
    assert estimated.largest == estimated.sources == (tmp_path / "a.nii.gz").stat().st_size


def test_it_warns_where_there_is_less_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = needs.Needs(scans=3, sources=7_000_000, largest=157_286_400, disk=2_000_000_000)
    text = estimated.text(tmp_path, jobs=2)
    assert "1.3 GB of memory (2 jobs x 4 x 157.3 MB, the largest scan)" in text
    assert "2.0 GB of disk" in text
    assert "warning" not in text
    monkeypatch.setattr(needs, "available_memory", lambda: 10**9)
    lines = estimated.text(tmp_path, jobs=2).splitlines()
    assert lines[1:] == ["warning: only 1.0 GB of memory are available; use fewer jobs"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**10, 9 * 10**9, 10**9))
    assert estimated.text(tmp_path, jobs=2).splitlines()[2].startswith("warning: only 1.0 GB of disk are free")


def test_available_memory_is_plausible() -> None:
    assert 10**7 < available_memory() < 10**14
