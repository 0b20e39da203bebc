"""The page that segments in the browser: its lungs and masks are those of `predict`, and nothing leaves the machine."""

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from chromium import CHROMIUM
from phantom_scan import save_phantom
from places import ROOT
from playwright.sync_api import Page, sync_playwright

from ct.files.dicom.export import write_dicom_series
from ct.files.nifti import read_nifti
from ct.files.read import read_scan
from ct.lungs.classical import classical_lungs
from ground_glass.__main__ import main
from phantom.patient import make_phantom

HOME = ROOT / "browser"
REAL = ROOT.parent / "shared" / "data"
NODE = shutil.which("node")
BUILT = (HOME / "node_modules").is_dir() and (HOME / "model" / "slices.onnx").is_file()
needs_page = pytest.mark.skipif(not (NODE and BUILT), reason="needs Node.js and the packages of the page (make page)")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
MOST_S = 240


def lungs_of_page(path: Path, folder: Path) -> np.ndarray:
    """The lungs that the page finds in a file: bool, canonical order, flat."""
    out = folder / "lungs.bin"
    subprocess.run([str(NODE), "parity.mjs", str(path), str(out)], cwd=HOME, check=True)
    return np.fromfile(out, np.uint8) > 0


@pytest.mark.slow
@needs_page
@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SLP"])
def test_it_finds_the_lungs_of_predict_voxel_by_voxel(axcodes: str, tmp_path: Path) -> None:
    path = save_phantom(tmp_path / "a.nii.gz", size=96)
    image: Any = nibabel.load(path)
    turn = nibabel.orientations.axcodes2ornt(axcodes)
    image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), turn)).to_filename(
        path
    )
    scan = read_scan(path)
    lungs = classical_lungs(scan.hu, scan.spacing_mm)
    assert lungs.any()
    assert np.array_equal(lungs_of_page(path, tmp_path), lungs.ravel())


@pytest.mark.slow
@needs_page
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["P002", "normal002"])
def test_it_finds_the_lungs_of_real_scans_voxel_by_voxel(name: str, tmp_path: Path) -> None:
    path = REAL / "covidctmd_dev" / f"{name}_2x2x4mm.nii.gz"
    scan = read_scan(path)
    assert np.array_equal(lungs_of_page(path, tmp_path), classical_lungs(scan.hu, scan.spacing_mm).ravel())


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """index.html of the page as the sources are now, written as a user writes it."""
    subprocess.run([str(NODE), "build.mjs", "model/slices.onnx", "model/about.json"], cwd=HOME, check=True)
    out = tmp_path_factory.mktemp("pages") / "page"
    assert main(["serve-page", "-o", str(out)]) == 0
    return out / "index.html"


@pytest.fixture
def opened(page_file: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page, opened from disk and ready, and the addresses that it asked for since."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_context(accept_downloads=True, offline=True).new_page()
            requests: list[str] = []
            page.goto(page_file.as_uri())
            page.wait_for_function("document.getElementById('status').textContent == 'Ready.'", timeout=60_000)
            page.on("request", lambda request: requests.append(request.url))
            yield page, requests
        finally:
            browser.close()


def ask(page: Page, files: list[Path], where: str = "#file") -> str:
    """Hand files to the page, wait for the answer; return its sentence, empty where it has a result."""
    page.set_input_files(where, list(map(str, files)))
    ended = (
        "document.getElementById('status').textContent.startsWith('Done') || !document.getElementById('error').hidden"
    )
    page.wait_for_function(ended, timeout=1000 * MOST_S)
    return page.text_content("#error") or "" if page.is_visible("#error") else ""


def downloaded(page: Page, name: str, folder: Path) -> Path:
    """Click one of the files."""
    with page.expect_download() as download:
        page.click(f"text={name}")
    download.value.save_as(folder / name)
    return folder / name


@pytest.mark.slow
@needs_page
@needs_chromium
def test_its_masks_are_those_of_predict_and_nothing_leaves(opened: tuple[Page, list[str]], tmp_path: Path) -> None:
    page, requests = opened
    scan = save_phantom(tmp_path / "scan.nii.gz", slices=20)
    assert ask(page, [scan]) == ""
    assert main(["predict", str(scan), "-o", str(tmp_path / "ours")]) == 0
    for name in ("lungs.nii.gz", "infection.nii.gz"):
        theirs: Any = nibabel.load(downloaded(page, name, tmp_path))
        ours: Any = nibabel.load(tmp_path / "ours" / name)
        np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-4)
        same = np.asarray(theirs.dataobj) == np.asarray(ours.dataobj)
        assert same.mean() >= (1 if name == "lungs.nii.gz" else 0.999)
    theirs, ours = (
        json.loads(path.read_text())
        for path in (downloaded(page, "measurements.json", tmp_path), tmp_path / "ours" / "measurements.json")
    )
    assert theirs["lung_ml"] == pytest.approx(ours["lung_ml"], rel=1e-6)
    assert theirs["infection_ml"] == pytest.approx(ours["infection_ml"], rel=0.01, abs=0.5)
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []
    assert page.is_visible("#canvas")


@pytest.mark.slow
@needs_page
@needs_chromium
def test_it_reads_the_files_of_a_dicom_series_and_tells_what_it_cannot_read(
    opened: tuple[Page, list[str]], tmp_path: Path
) -> None:
    page, _ = opened
    phantom = make_phantom(3, "A", positive=True, slices=16)
    z_mm, y_mm, x_mm = phantom.spacing_mm
    series = tmp_path / "series"
    write_dicom_series(phantom.hu, np.diag([-x_mm, -y_mm, z_mm, 1.0]), series, patient_id="p1")
    files = sorted(series.iterdir())
    assert ask(page, files) == ""
    scan = read_scan(series)
    lungs = read_nifti(downloaded(page, "lungs.nii.gz", tmp_path)).values
    assert int((lungs > 0).sum()) == int(classical_lungs(scan.hu, scan.spacing_mm).sum())
    assert "not evenly spaced" in ask(page, [*files[:5], *files[6:]])
    for name, content, said in (
        ("notes.txt", b"no scan", "found 0 NIfTI files and no DICOM among 1"),
        ("a.nii", b"no volume", "this is no NIfTI file"),
        ("half.nii.gz", gzip.compress(b"x" * 1000), "this is no NIfTI file"),
    ):
        (tmp_path / name).write_bytes(content)
        assert ask(page, [tmp_path / name]).startswith(said)
    empty = nibabel.Nifti1Image(np.zeros((40, 40, 8), np.int16), np.diag([-5.0, -5.0, 5.0, 1.0]))
    empty.to_filename(tmp_path / "empty.nii.gz")
    assert "expected Hounsfield units" in ask(page, [tmp_path / "empty.nii.gz"])


@pytest.mark.slow
@needs_page
@needs_chromium
def test_it_fits_a_phone_and_is_reached_by_keys(page_file: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark").new_page()
        page.goto(page_file.as_uri())
        page.wait_for_function("document.getElementById('status').textContent == 'Ready.'", timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        light = page.evaluate("getComputedStyle(document.body).color")
        assert min(map(int, light[4:-1].split(","))) > 200, "light letters on the dark"
        browser.close()


def test_its_lock_names_no_address() -> None:
    lock = json.loads((HOME / "package-lock.json").read_text(encoding="utf-8"))
    assert all("resolved" not in package for package in lock["packages"].values())
    wanted = json.loads((HOME / "package.json").read_text(encoding="utf-8"))
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version


def test_an_installation_without_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ground_glass.serve_page.BUILT", tmp_path)
    assert main(["serve-page", "-o", str(tmp_path / "out")]) == 2
    assert "built without Node.js; in a checkout, make page builds it" in capsys.readouterr().err
