"""The page that segments in the browser: its lungs and masks are those of `predict`, and nothing leaves the machine."""

import gzip
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from phantom_scan import save_phantom
from places import SHARED_DATA
from playwright.sync_api import Browser, Page
from pydicom.uid import RLELossless
from segmenting_page import HOME, NODE, choose, downloaded, needs_node, needs_page, open_page, table

from ct.files.dicom.export import write_dicom_series
from ct.files.nifti import read_nifti
from ct.files.read import read_scan
from ct.lungs.classical import classical_lungs
from ground_glass.__main__ import main
from phantom.patient import make_phantom

REAL = SHARED_DATA / "covidctmd_dev"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/covidctmd_dev")
LEAST_AGREEMENT = 0.995


def lungs_of_page(path: Path, folder: Path) -> np.ndarray:
    """The lungs that the page finds in a file: bool, canonical order, flat."""
    out = folder / "lungs.bin"
    subprocess.run([NODE, "parity.mjs", str(path), str(out)], cwd=HOME, check=True)
    return np.fromfile(out, np.uint8) > 0


@pytest.mark.slow
@needs_node
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
@needs_node
@needs_real
def test_it_finds_the_lungs_of_a_real_scan_voxel_by_voxel(tmp_path: Path) -> None:
    path = REAL / "normal002_2x2x4mm.nii.gz"
    scan = read_scan(path)
    assert np.array_equal(lungs_of_page(path, tmp_path), classical_lungs(scan.hu, scan.spacing_mm).ravel())


@needs_node
def test_large_scans_are_shown_with_some_of_their_pixels(tmp_path: Path) -> None:
    shape, step = (2, 300, 513), 3
    hu = np.random.default_rng(0).integers(-1000, 1000, shape).astype("<i2")
    lungs = np.zeros(shape, bool)
    lungs[1, 90:121, 300:331] = True
    hu.tofile(tmp_path / "hu.bin")
    lungs.tofile(tmp_path / "lungs.bin")
    script = f"""
      import fs from "node:fs";
      import {{ thinned }} from "{HOME}/src/thinned.js";
      const bytes = (name) => new Uint8Array(fs.readFileSync(name)), lungs = bytes("lungs.bin");
      const volume = {{ hu: new Int16Array(bytes("hu.bin").buffer), shape: {list(shape)}, spacing: [4, 0.6, 0.7] }};
      const {{ files, picture }} = thinned(volume, {{ lungs, infection: new Uint8Array(lungs.length) }});
      for (const [name, file] of Object.entries(files)) fs.writeFileSync(`${{name}}.nii`, new Uint8Array(file));
      console.log(JSON.stringify(picture));
    """
    command = [NODE, "--input-type=module", "-e", script]
    picture = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout)
    assert picture == {"shape": [2, 100, 171], "step": step, "start": [1, 105 // step, 315 // step]}
    for name, array in (("scan", hu), ("lungs", lungs)):
        shown: Any = nibabel.load(tmp_path / f"{name}.nii")
        assert np.array_equal(np.asarray(shown.dataobj).T, array[:, ::step, ::step])
        assert np.allclose(shown.affine[:3, :3], np.diag([-0.7 * step, -0.6 * step, 4]))


@contextmanager
def visit(browser: Browser, address: str, offline: bool) -> Iterator[tuple[Page, list[str]]]:
    """Open the page; give it with the addresses that it asked for since it was ready."""
    context = browser.new_context(accept_downloads=True, offline=offline)
    page = context.new_page()
    requests: list[str] = []
    open_page(page, address)
    page.on("request", lambda request: requests.append(request.url))
    yield page, requests
    context.close()


@pytest.fixture
def from_disk(browser: Browser, page_file: Path) -> Iterator[tuple[Page, list[str]]]:
    with visit(browser, page_file.as_uri(), offline=True) as opened:
        yield opened


@pytest.fixture
def from_server(browser: Browser, page_file: Path) -> Iterator[tuple[Page, list[str]]]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(page_file.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with visit(browser, f"http://127.0.0.1:{server.server_port}/", offline=False) as opened:
            yield opened
    finally:
        server.shutdown()
        server.server_close()


def assert_agreement_with_predict(page: Page, scan: Path, folder: Path) -> None:
    """Segment a scan in the page and by the command, and compare files, numbers and the table."""
    assert choose(page, scan) == ""
    assert main(["predict", str(scan), "-o", str(folder / "ours")]) == 0
    for name in ("lungs.nii.gz", "infection.nii.gz"):
        theirs: Any = nibabel.load(downloaded(page, name, folder))
        ours: Any = nibabel.load(folder / "ours" / name)
        np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-4)
        same = np.asarray(theirs.dataobj) == np.asarray(ours.dataobj)
        assert np.asarray(ours.dataobj).any()
        assert same.mean() >= (1 if name == "lungs.nii.gz" else LEAST_AGREEMENT)
    theirs, ours = (
        json.loads(path.read_text())
        for path in (downloaded(page, "measurements.json", folder), folder / "ours" / "measurements.json")
    )
    assert theirs["lung_ml"] == pytest.approx(ours["lung_ml"], rel=1e-6)
    assert theirs["infection_ml"] == pytest.approx(ours["infection_ml"], rel=0.01, abs=0.5)
    numbers = table(page)
    assert numbers["lungs"] == f"{theirs['lung_ml']:.0f} ml"
    assert numbers["infection"] == f"{theirs['infection_ml']:.1f} ml"
    assert float(numbers["share of the lungs"].split()[0]) == pytest.approx(100 * ours["severity_score"], abs=0.2)


def that_leave_the_page(requests: list[str]) -> list[str]:
    return [url for url in requests if not url.startswith(("blob:", "data:"))]


@pytest.mark.slow
@needs_page
def test_its_masks_are_those_of_predict_and_nothing_leaves(from_disk: tuple[Page, list[str]], tmp_path: Path) -> None:
    page, requests = from_disk
    assert_agreement_with_predict(page, save_phantom(tmp_path / "scan.nii.gz", slices=20), tmp_path)
    assert that_leave_the_page(requests) == []


@pytest.mark.slow
@needs_page
@needs_real
def test_a_real_scan_gets_the_masks_of_predict_from_a_web_server_too(
    from_server: tuple[Page, list[str]], tmp_path: Path
) -> None:
    page, requests = from_server
    assert_agreement_with_predict(page, REAL / "P002_2x2x4mm.nii.gz", tmp_path)
    assert that_leave_the_page(requests) == []


@pytest.mark.slow
@needs_page
def test_it_reads_the_folder_of_a_dicom_series_and_tells_what_it_cannot_read(
    from_disk: tuple[Page, list[str]], tmp_path: Path
) -> None:
    page, _ = from_disk
    phantom = make_phantom(3, "A", positive=True, slices=16)
    z_mm, y_mm, x_mm = phantom.spacing_mm
    series = tmp_path / "series"
    write_dicom_series(phantom.hu, np.diag([-x_mm, -y_mm, z_mm, 1.0]), series, patient_id="p1")
    files = sorted(series.iterdir())
    scan = read_scan(series)
    (series / "notes.txt").write_text("beside the images of a series")
    assert choose(page, series, "#folder") == ""
    lungs = read_nifti(downloaded(page, "lungs.nii.gz", tmp_path)).values
    assert int((lungs > 0).sum()) == int(classical_lungs(scan.hu, scan.spacing_mm).sum())
    assert "not evenly spaced" in choose(page, [*files[:5], *files[6:]])
    compressed = pydicom.dcmread(files[0])
    compressed.compress(RLELossless)
    compressed.save_as(tmp_path / "compressed.dcm")
    assert choose(page, [tmp_path / "compressed.dcm", *files[1:]]) == (
        f"the pixels are compressed (transfer syntax {RLELossless}), which this page does not read; "
        "ground-glass predict does"
    )
    for name, content, said in (
        ("notes.txt", b"no scan", "found 0 NIfTI files and no DICOM among 1"),
        ("a.nii", b"no volume", "this is no NIfTI file"),
        ("half.nii.gz", gzip.compress(b"x" * 1000), "this is no NIfTI file"),
    ):
        (tmp_path / name).write_bytes(content)
        assert choose(page, tmp_path / name).startswith(said)
    empty = nibabel.Nifti1Image(np.zeros((40, 40, 8), np.int16), np.diag([-5.0, -5.0, 5.0, 1.0]))
    empty.to_filename(tmp_path / "empty.nii.gz")
    assert "expected Hounsfield units" in choose(page, tmp_path / "empty.nii.gz")


@pytest.mark.slow
@needs_page
def test_licences_name_every_package_that_the_page_needs(page_file: Path) -> None:
    texts = page_file.with_name("licences.txt").read_text(encoding="utf-8").split("-" * 72)
    packages = json.loads((HOME / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    needed = {
        folder.removeprefix("node_modules/"): package["version"]
        for folder, package in packages.items()
        if folder and not package.get("dev") and not package.get("optional")
    }
    assert {"onnxruntime-web", "onnxruntime-common", "@niivue/niivue", "dicom-parser", "fflate"} <= needed.keys()
    heads = [text.strip().split(":")[0] for text in texts]
    assert sorted(heads) == sorted(f"{name} {version}" for name, version in needed.items())
    assert all(len(text.strip().splitlines()) > 2 for text in texts), "each has a text below its head"


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
