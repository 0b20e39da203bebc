import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from places import ROOT
from predict_harness import predict
from tiny_warnings import tiny_warnings

from ct.files.read import read_mask, read_scan
from inference.load import load_module
from inference.predict import main
from inference.scan_masks import segment_scan

REAL = ROOT.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "slices"),
    [
        ("B007", "slices are 25.2 mm thick"),  # a DICOM series
        ("C008.nii.gz", "slices lie 23.2 mm apart"),  # a NIfTI with flipped axes
    ],
)
def test_masks_lie_on_the_scans_own_grid(cohort: Path, em_run: Path, tmp_path: Path, name: str, slices: str) -> None:
    path = cohort.parent / "images" / name
    out = predict(em_run / "best.ckpt", path, tmp_path / "out")
    scan = read_scan(path)
    masks = {p.name.removesuffix(".nii.gz"): nibabel.Nifti1Image.from_filename(p) for p in out.glob("*.nii.gz")}
    assert set(masks) == {"lungs", "infection", "consolidation"}
    for image in masks.values():
        assert image.shape == scan.source.shape
        np.testing.assert_allclose(image.affine, scan.source.affine, atol=1e-4)
    measured = json.loads((out / "measurements.json").read_text())
    voxels = {mask: int(np.asarray(image.dataobj).sum()) for mask, image in masks.items()}
    assert measured["lung_ml"] == pytest.approx(voxels["lungs"] * scan.voxel_ml)
    assert measured["infection_ml"] == pytest.approx(voxels["infection"] * scan.voxel_ml)
    assert measured["severity_score"] == pytest.approx(voxels["infection"] / voxels["lungs"])
    assert measured["consolidation_score"] == pytest.approx(voxels["consolidation"] / voxels["lungs"])
    assert voxels["consolidation"] <= voxels["infection"] <= voxels["lungs"]
    assert measured["lung_source"] == "classical"
    # Voxels of 10 mm in slices of more than 20 mm: a lung has some hundred of them.
    assert measured["warnings"] == list(tiny_warnings(slices))


def test_prediction_on_the_own_grid_is_that_of_the_evaluation(cohort: Path, em_run: Path) -> None:
    import pandas as pd

    # The tiny phantom's own grid is its prepared grid, so both must count the same voxels.
    scan = read_scan(cohort.parent / "images" / "B007")
    lung = read_mask(cohort.parent / "masks" / "B007_lungs.nii.gz", scan) != 0
    masks = segment_scan(scan, lung, [load_module(em_run / "best.ckpt")]).masks
    row = pd.read_csv(em_run / "scans.csv", index_col="scan_id").loc["B007"]
    assert masks["infection"].sum() == pytest.approx(row["infection_tp"] + row["infection_fp"], rel=0.01)
    assert masks["consolidation"].sum() == pytest.approx(row["consolidation_tp"] + row["consolidation_fp"], rel=0.01)


def test_what_is_odd_about_a_given_mask_is_told(cohort: Path, em_run: Path, tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image.from_filename(cohort.parent / "masks" / "B007_lungs.nii.gz")
    one_lung = (np.asarray(stored.dataobj) == 1).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(one_lung, stored.affine), tmp_path / "left.nii.gz")
    scan = cohort.parent / "images" / "B007"
    out = predict(em_run / "best.ckpt", scan, tmp_path / "out", tmp_path / "left.nii.gz")
    measured = json.loads((out / "measurements.json").read_text())
    assert measured["lung_source"] == "file"
    lungs = "the right lung has 0% of the left lung's size; expected 20% or more"
    assert measured["warnings"] == [lungs, *tiny_warnings("slices are 25.2 mm thick")]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ckpt": "nowhere.ckpt"}, "there is no checkpoint nowhere.ckpt"),
        ({"scan": "nowhere.nii.gz"}, "nowhere.nii.gz"),
        ({"out": "."}, "exists already"),
        ({"out": ""}, "the folder to write not given"),
        ({"lungs": "lungmask"}, "'lungmask' is not installed"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    cohort: Path,
    em_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    sentence: str,
) -> None:
    monkeypatch.setitem(sys.modules, "lungmask", None)
    good = {
        "ckpt": str(em_run / "best.ckpt"),
        "scan": str(cohort.parent / "images" / "B007"),
        "out": str(tmp_path / "new"),
    }
    with pytest.raises(SystemExit) as stop:
        main([f"--{key}={value}" for key, value in (good | change).items()])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real scans in ../shared/data")
@pytest.mark.parametrize("name", ["cip_ct64/ct-64Dicom", "covidctmd_dev/normal002_2x2x4mm.nii.gz"])
def test_real_scans_go_through(em_run: Path, tmp_path: Path, name: str) -> None:
    measured = json.loads(
        (predict(em_run / "best.ckpt", REAL / name, tmp_path / "out") / "measurements.json").read_text()
    )
    assert 2000 < measured["lung_ml"] < 9000


def test_an_nrrd_header_with_its_data_in_a_file_of_its_own(cohort: Path, em_run: Path, tmp_path: Path) -> None:
    scan = read_scan(cohort.parent / "images" / "C008.nii.gz")
    image = SimpleITK.GetImageFromArray(scan.hu)
    x, y, z = np.diag(scan.affine)[:3]
    image.SetSpacing([abs(x), abs(y), abs(z)])
    SimpleITK.WriteImage(image, tmp_path / "scan.nhdr")
    out = predict(em_run / "best.ckpt", tmp_path / "scan.nhdr", tmp_path / "out")
    assert {path.name for path in out.glob("*.dcm")} == set()
    assert json.loads((out / "measurements.json").read_text())["lung_ml"] > 0
