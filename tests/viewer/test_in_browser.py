"""The viewer as a visitor sees it, in headless Chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from browser import CHROMIUM

from ct.cohort import read_cohort
from inference.predict import main as predict

pytest.importorskip("streamlit", reason="the viewer is not installed: pip install -e '.[viewer]'")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")]

ROOT = Path(__file__).resolve().parents[2]
# A machine without a graphics card draws in software.
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
MILLISECONDS = 60_000

# The report is a frame too.
NIIVUE, REPORT = "iframe[title*=niivue]", "iframe:not([title*=niivue])"


class Viewer(NamedTuple):
    """A running viewer: its address, its port, and the folder for temporary files that it was given."""

    address: str
    port: int
    temporary: Path


@pytest.fixture(scope="module")
def viewer(em_run: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    temporary = tmp_path_factory.mktemp("viewer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [f"--runs={em_run.parent.parent}", f"--cohorts={cohort.parent.parent}", f"--port={port}"]
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with (temporary / "log").open("w") as log:
        command = [sys.executable, "-m", "viewer", *places]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_until_up(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield Viewer(f"http://127.0.0.1:{port}", port, temporary)
        finally:
            process.terminate()
            process.wait(60)
    assert not visits(temporary), "a visit's folder outlived the viewer"


def wait_until_up(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert process.poll() is None, "the viewer ended at its start"
        try:
            urllib.request.urlopen(address, timeout=1).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("the viewer did not answer within a minute")


def visits(temporary: Path) -> list[Path]:
    return list(temporary.glob("ground-glass-visit-*"))


@pytest.fixture
def page(viewer: Viewer) -> Iterator["playwright.Page"]:
    """A fresh visit; it fails if the browser complained or asked for anything elsewhere."""
    wrong: list[str] = []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.set_default_timeout(MILLISECONDS)
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if is_elsewhere(asked.url, viewer) else None)
        page.goto(viewer.address)
        page.get_by_role("button", name="Segment").wait_for()
        yield page
        browser.close()
    assert wrong == []


def is_elsewhere(url: str, viewer: Viewer) -> bool:
    return not url.startswith((viewer.address, "data:", f"blob:{viewer.address}"))


def pick_model(page: "playwright.Page", run: Path) -> None:
    """Not what is offered first: that is the newest run, and another test may have trained one since."""
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name=run.parent.name, exact=True).click()


def upload(page: "playwright.Page", path: Path) -> None:
    # What is given to a page that is still being made is lost.
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_test_id("stFileChip").wait_for()
    page.get_by_role("button", name="Segment").click()


def shown(page: "playwright.Page") -> bytes:
    """The canvas as it is now; empty while it is being replaced by another."""
    try:
        return page.frame_locator(NIIVUE).locator("canvas").screenshot()
    except playwright.Error:
        return b""


def wait_for_change(page: "playwright.Page", before: bytes) -> bytes:
    for _ in range(100):
        if shown(page) not in (b"", before):
            return wait_for_rest(page)
        page.wait_for_timeout(200)
    raise AssertionError("the canvas shows what it showed before")


def wait_for_rest(page: "playwright.Page") -> bytes:
    """The canvas when it has not changed for a while: NiiVue draws each layer when it has it."""
    last = shown(page)
    for _ in range(100):
        page.wait_for_timeout(1000)
        if (now := shown(page)) == last != b"":
            return now
        last = now
    raise AssertionError("the canvas does not come to rest")


def metric(page: "playwright.Page", label: str) -> float:
    card = page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))
    return float(card.get_by_test_id("stMetricValue").inner_text().split()[0].replace(",", ""))


@pytest.fixture(scope="module")
def series(cohort: Path) -> Path:
    """A DICOM series of the phantom."""
    return next(row.image for row in read_cohort(cohort).rows if row.image.is_dir())


def test_an_uploaded_series_gets_the_numbers_of_the_command_line(
    page: "playwright.Page", viewer: Viewer, series: Path, em_run: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "series"), "zip", series))
    pick_model(page, em_run)
    upload(page, archive)
    page.get_by_test_id("stMetric").first.wait_for()
    predict([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={series}", f"--out={tmp_path / 'out'}"])
    measured = json.loads((tmp_path / "out" / "measurements.json").read_text())
    for label, key, times in (
        ("Lungs", "lung_ml", 1),
        ("Opacity", "infection_ml", 1),
        ("Consolidation", "consolidation_ml", 1),
        ("Severity", "severity_score", 100),
    ):
        accuracy = 0.05 if times * measured[key] < 1000 else 0.5
        assert metric(page, label) == pytest.approx(times * measured[key], abs=accuracy + 1e-9)
    assert visits(viewer.temporary)


def test_sliders_windows_and_planes_change_the_canvas(page: "playwright.Page", em_run: Path) -> None:
    pick_model(page, em_run)
    page.get_by_text("Phantom example").click()
    page.get_by_role("combobox", name="Phantom").click()
    page.get_by_role("option", name="drawn: ground glass and consolidation").click()
    page.get_by_role("button", name="Segment").click()
    page.get_by_test_id("stMetric").first.wait_for()
    before = wait_for_rest(page)
    page.get_by_role("slider", name="Opacity of lungs").press("End")
    before = wait_for_change(page, before)
    page.get_by_text("soft tissue").click()
    before = wait_for_change(page, before)
    page.get_by_text("coronal").click()
    wait_for_change(page, before)
    assert page.frame_locator(NIIVUE).locator("canvas").count() == 1
    reader = page.get_by_test_id("stImage").filter(has_text="Reader").locator("img")
    picture = reader.get_attribute("src")
    page.get_by_role("slider", name="Axial slice").press("Home")
    page.wait_for_function("([was]) => ![...document.images].some(image => image.src === was)", arg=[picture])
    page.get_by_role("tab", name="Report").click()
    page.frame_locator(REPORT).get_by_role("heading", name="Chest CT").wait_for()
    page.get_by_role("tab", name="Downloads").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="All outputs (zip)").click()
    names = subprocess.run(["unzip", "-Z1", download.value.path()], capture_output=True, text=True, check=True).stdout
    assert {"lungs.nii.gz", "infection.nii.gz", "consolidation.nii.gz", "measurements.json"} <= set(names.split())


def test_a_bad_upload_gets_the_sentence_and_leaves_nothing(
    page: "playwright.Page", viewer: Viewer, tmp_path: Path
) -> None:
    bad = tmp_path / "Doe_![John](http:x.org).nii.gz"
    bad.write_bytes(b"no image")
    upload(page, bad)
    alert = page.get_by_test_id("stAlert").inner_text()
    assert alert.startswith(f"scan/{bad.name}: not a readable NIfTI file")
    assert page.get_by_test_id("stMetric").count() == 0
    assert not [path for visit in visits(viewer.temporary) for path in visit.rglob("outputs*")]


def test_what_was_uploaded_is_gone_after_the_visit(viewer: Viewer) -> None:
    deadline = time.monotonic() + 10
    while visits(viewer.temporary) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert visits(viewer.temporary) == []


def test_only_this_machine_can_connect(viewer: Viewer) -> None:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{viewer.port:04X}")]
    assert listening == [f"0100007F:{viewer.port:04X}"]
    six = Path("/proc/net/tcp6").read_text() if Path("/proc/net/tcp6").exists() else ""
    assert f":{viewer.port:04X} 0" not in six.replace("00000000000000000000000000000000:0000 0A", "0A 0")


def test_runs_are_compared(page: "playwright.Page", em_run: Path) -> None:
    page.get_by_text("Compare runs").click()
    page.get_by_text("Worst scans of").first.wait_for()
    metrics = json.loads((em_run / "metrics.json").read_text())
    row = page.get_by_role("row").filter(has_text=em_run.parent.name).filter(has_text="infection").first
    assert f"{metrics['infection/dice_mean']:.3f}" in row.inner_text()
    page.get_by_test_id("stImage").first.wait_for()
    assert page.get_by_test_id("stException").count() == 0
