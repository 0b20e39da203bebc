"""The viewer as a visitor sees it, in headless Chromium."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from chromium import CHROMIUM
from places import ROOT

from cohort.table import read_cohort
from ct.classes import COLOUR_OF
from ct.colours import rgb_of
from ct.files.read import read_scan
from ct.scan import Scan
from inference.predict import main as predict
from viewer.examples import draw_example

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("streamlit", reason="the viewer is not installed: pip install -e '.[viewer]'")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")]

FLAGS = ["--no-sandbox"]
DRAWN = "ground glass and consolidation"
MILLISECONDS = 180_000
MOST_PIXELS = 256  # what is larger is thinned for the browser
DESKTOP, PHONE = {"width": 1400, "height": 1200}, {"width": 390, "height": 844}


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


def outputs(viewer: Viewer) -> list[Path]:
    return sorted(path for visit in visits(viewer.temporary) for path in visit.rglob("outputs*"))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright.expect.set_options(timeout=MILLISECONDS)
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: "Browser", viewer: Viewer, **settings: Any) -> Iterator["Page"]:
    """A fresh visit; it fails if the browser complained or asked for anything elsewhere."""
    wrong: list[str] = []
    page = browser.new_page(**({"viewport": DESKTOP} | settings))
    page.set_default_timeout(MILLISECONDS)
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if is_elsewhere(request.url, viewer) else None)
    page.goto(viewer.address)
    page.get_by_role("button", name="Segment").wait_for()
    yield page
    page.context.close()
    assert wrong == []


@pytest.fixture
def page(browser: "Browser", viewer: Viewer) -> Iterator["Page"]:
    """A visit from a desktop."""
    with visit(browser, viewer) as page:
        yield page


@pytest.fixture(scope="module")
def segmented(browser: "Browser", viewer: Viewer, em_run: Path) -> Iterator["Page"]:
    """A visit with a phantom that is segmented; tests look at it one after the other."""
    with visit(browser, viewer) as page:
        segment_phantom(page, em_run)
        yield page


@pytest.fixture
def planes(segmented: "Page") -> "Page":
    """The same with three planes."""
    segmented.get_by_role("radio", name="three planes").check()
    return segmented


def is_elsewhere(url: str, viewer: Viewer) -> bool:
    return not url.startswith((viewer.address, "data:", f"blob:{viewer.address}"))


def pick_model(page: "Page", run: Path) -> None:
    """Not what is offered first: that is the newest run, and another test may have trained one since."""
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name=re.compile(rf"^{run.parent.name}, run of ")).click()


def upload(page: "Page", path: Path) -> None:
    # What is given to a page that is still being made is lost.
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_text("Another upload replaces it").wait_for()
    page.get_by_role("button", name="Segment").click()


def segment_phantom(page: "Page", run: Path) -> None:
    pick_model(page, run)
    page.get_by_text("Phantom example").click()
    page.get_by_role("combobox", name="Phantom").click()
    page.get_by_role("option", name=f"drawn: {DRAWN}").click()
    page.get_by_role("button", name="Segment").click()
    page.locator(".readout").wait_for()


def wait_until_drawn(page: "Page") -> None:
    """Wait for the animation frame in which the pictures are drawn, and for the next one."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixel(page: "Page", row: int, column: int) -> list[int]:
    """Return red, green and blue of a pixel of the first picture."""
    wait_until_drawn(page)
    script = f"canvas => [...canvas.getContext('2d').getImageData({column}, {row}, 1, 1).data]"
    return page.locator("canvas").first.evaluate(script)[:3]


def colours(page: "Page") -> "np.ndarray":
    """Return red, green, blue and opacity of all pixels of the first picture: (N, 4)."""
    wait_until_drawn(page)
    script = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    return np.array(page.locator("canvas").first.evaluate(script)).reshape(-1, 4)


def metric(page: "Page", label: str) -> float:
    card = page.locator(".tile").filter(has=page.get_by_text(label, exact=True))
    return float(card.locator("b").inner_text().split()[0].replace(",", ""))


@pytest.fixture(scope="module")
def series(cohort: Path) -> Path:
    """A DICOM series of the phantom."""
    return next(row.image for row in read_cohort(cohort).rows if row.image.is_dir())


def test_an_uploaded_series_gets_the_numbers_of_the_command_line(
    page: "Page", viewer: Viewer, series: Path, em_run: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "series"), "zip", series))
    pick_model(page, em_run)
    upload(page, archive)
    page.locator(".tile").first.wait_for()
    predict([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={series}", f"--out={tmp_path / 'out'}"])
    measured = json.loads((tmp_path / "out" / "measurements.json").read_text())
    for label, key in (("lungs", "lung_ml"), ("infection", "infection_ml"), ("consolidation", "consolidation_ml")):
        assert metric(page, label) == pytest.approx(measured[key], abs=0.5 if measured[key] >= 10 else 0.05)
    heading = page.get_by_role("heading", name="series.zip").inner_text()
    assert heading.startswith(f"series.zip, segmented by {em_run.parent.name}, run of ")
    assert visits(viewer.temporary)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """The phantom that `segment_phantom` segments, which is whole in the browser."""
    scan = read_scan(draw_example(DRAWN, tmp_path_factory.mktemp("drawn")).source)
    assert max(scan.hu.shape) <= MOST_PIXELS
    return scan


def test_windows_and_places_change_the_picture_at_once(planes: "Page", drawn: Scan) -> None:
    page = planes
    page.get_by_role("slider", name="Axial slice").fill("3")
    # The corner, outside the lungs, where no mask lies; then the middle of the body.
    for row, column in ((0, 0), (80, 80)):
        for preset, level, width in (("lung", -600, 1500), ("mediastinum", 40, 400), ("bone", 400, 1800)):
            page.get_by_role("button", name=preset).click()
            hu = float(drawn.hu[3, row, column])
            grey = 255 * np.clip((hu - level) / width + 0.5, 0, 1)
            assert pixel(page, row, column) == pytest.approx([grey] * 3, abs=1)
    page.get_by_label("level").fill("100")
    page.get_by_label("width").fill("250")
    page.get_by_label("width").press("Enter")
    grey = 255 * np.clip((float(drawn.hu[3, 80, 80]) - 100) / 250 + 0.5, 0, 1)
    assert pixel(page, 80, 80) == pytest.approx([grey] * 3, abs=1)


def test_keys_alone_reach_everything(planes: "Page", drawn: Scan) -> None:
    page = planes
    page.get_by_role("slider", name="Axial slice").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"2 of {len(drawn.hu)}", exact=True).wait_for()
    assert page.get_by_text(f"2 of {len(drawn.hu)}", exact=True).count() == 1
    page.get_by_role("radio", name="three planes").focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("canvas")).to_have_count(1)
    assert page.locator("canvas").count() == 1
    page.get_by_role("button", name="bone").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_label("level")).to_have_value("400")
    assert page.get_by_label("level").input_value() == "400"


def test_the_readout_is_of_the_place_that_was_clicked(planes: "Page", drawn: Scan) -> None:
    page = planes
    page.get_by_role("slider", name="Axial slice").fill("20")
    picture = page.locator("canvas").first
    box = picture.bounding_box()
    assert box is not None
    row, column = 100, 30
    picture.click(position={"x": (column + 0.5) * box["width"] / 160, "y": (row + 0.5) * box["height"] / 160})
    wait_until_drawn(page)
    text = page.locator(".readout").inner_text()
    assert f"{drawn.hu[20, row, column]} HU".replace("-", "\u2212") in text
    mm = drawn.affine @ [column, row, 20, 1]
    letters = [f"{pair[int(value < 0)]} {abs(value):.0f}" for value, pair in zip(mm, ("RL", "AP", "HF"), strict=False)]
    assert text.endswith(f"{' '.join(letters)} mm")


def test_masks_are_painted_as_strong_as_is_asked(planes: "Page", drawn: Scan) -> None:
    page = planes
    red = np.array(rgb_of(COLOUR_OF["lungs"]))
    assert not (np.abs(colours(page)[:, :3] - red) <= 1).all(1).any()
    page.get_by_role("slider", name="Mask strength of lungs").press("End")
    painted = (np.abs(colours(page)[:, :3] - red) <= 1).all(1)
    assert painted.sum() > 50  # most of the lungs are infected for a model of a few steps
    page.get_by_role("radio", name="model beside reader").check()
    playwright.expect(page.locator("canvas")).to_have_count(2)
    assert page.locator("canvas").count() == 2
    assert page.get_by_text("Agreement with the reader (Dice): infection").count() == 1


def test_the_solids_are_lungs_and_findings_alone(planes: "Page") -> None:
    page = planes
    page.get_by_role("radio", name="3-D").check()
    page.locator(".solid").wait_for()
    seen = colours(page)
    empty = seen[:, 3] == 0
    assert 0.3 < empty.mean() < 0.95, "the lungs fill a part of the picture, and no slab of the body is around them"
    _, green, blue, _ = seen[~empty].T
    assert (blue > green).any(), "glass in the colour of the lungs: of no finding has more blue than green"
    page.get_by_role("slider", name="3-D turn").press("Home")
    assert not np.array_equal(colours(page), seen)


def test_report_and_files_are_a_click_away(planes: "Page") -> None:
    page = planes
    page.get_by_role("tab", name="Report").click()
    page.frame_locator("iframe").get_by_role("heading", name="Chest CT").wait_for()
    page.get_by_role("tab", name="Downloads").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="All outputs (zip)").click()
    names = subprocess.run(["unzip", "-Z1", download.value.path()], capture_output=True, text=True, check=True).stdout
    assert {"lungs.nii.gz", "infection.nii.gz", "consolidation.nii.gz", "measurements.json"} <= set(names.split())


def test_no_key_of_a_file_is_shown(planes: "Page") -> None:
    page = planes
    for tab, content in (("Numbers", "All is measured on the grid"), ("About this result", "checkpoint (SHA-256)")):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(content).wait_for()
        text = page.get_by_test_id("stMain").inner_text()
        assert not re.search(r"\w_(ml|hu|share|score|percent|bits)\b", text)


def test_a_phone_shows_picture_and_numbers_at_once(browser: "Browser", viewer: Viewer, em_run: Path) -> None:
    with visit(browser, viewer, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        segment_phantom(page, em_run)
        page.locator(".tile").first.wait_for()
        page.wait_for_timeout(500)
        for part in (".tile >> nth=-1", "canvas"):
            box = page.locator(part).first.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"]
            assert box["y"] + box["height"] <= PHONE["height"], f"{part} is below the first screen"
        wide = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && /auto|scroll/"
        wide += ".test(getComputedStyle(e).overflowX) && e.matches('[data-testid=stMain], html, body')).length"
        assert page.evaluate(wide) == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_dark_mode_is_dark_and_legible(browser: "Browser", viewer: Viewer, em_run: Path) -> None:
    with visit(browser, viewer, color_scheme="dark") as page:
        segment_phantom(page, em_run)
        brightness = "e => getComputedStyle(e).{}.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3"
        assert page.get_by_test_id("stApp").evaluate(brightness.format("backgroundColor")) < 60
        for part in (".readout", ".tile b", ".product"):
            assert page.locator(part).first.evaluate(brightness.format("color")) > 180


def test_the_first_paint_says_what_this_is_without_any_script(browser: "Browser", viewer: Viewer) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(viewer.address)
    assert page.title() == "Ground Glass"
    assert page.get_by_role("heading", name="Ground Glass").is_visible()
    assert page.get_by_text("Finds lung opacities in a chest CT").is_visible()
    page.context.close()


def test_the_first_screen_gives_way_to_the_page(page: "Page") -> None:
    assert not page.locator("#first-screen").is_visible()


def test_a_bad_upload_gets_the_sentence_and_leaves_nothing(
    page: "Page", viewer: Viewer, series: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "Doe_![John](http:x.org).nii.gz"
    bad.write_bytes(b"no image")
    others = outputs(viewer)
    upload(page, bad)
    alert = page.get_by_test_id("stAlert").inner_text()
    assert alert.startswith(f"scan/{bad.name}: not a readable NIfTI file")
    assert page.locator(".tile").count() == 0
    assert outputs(viewer) == others
    upload(page, Path(shutil.make_archive(str(tmp_path / "right"), "zip", series)))
    page.locator(".tile").first.wait_for()
    assert page.get_by_test_id("stAlert").filter(has_text="not a readable").count() == 0


def test_what_was_uploaded_is_gone_after_the_visit(
    browser: "Browser", viewer: Viewer, series: Path, tmp_path: Path
) -> None:
    others = set(visits(viewer.temporary))
    with visit(browser, viewer) as page:
        upload(page, Path(shutil.make_archive(str(tmp_path / "series"), "zip", series)))
        page.locator(".tile").first.wait_for()
        mine = set(visits(viewer.temporary)) - others
        assert len(mine) == 1
    deadline = time.monotonic() + 10
    while mine & set(visits(viewer.temporary)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not mine & set(visits(viewer.temporary))


def test_only_this_machine_can_connect(viewer: Viewer) -> None:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{viewer.port:04X}")]
    assert listening == [f"0100007F:{viewer.port:04X}"]
    six = Path("/proc/net/tcp6").read_text() if Path("/proc/net/tcp6").exists() else ""
    assert f":{viewer.port:04X} 0" not in six.replace("00000000000000000000000000000000:0000 0A", "0A 0")


def test_runs_are_compared(page: "Page", em_run: Path) -> None:
    page.get_by_role("link", name="Compare runs").click()
    page.get_by_role("combobox", name="Test scans").click()
    page.get_by_role("option", name=re.compile("^Consolidation, ")).click()
    page.get_by_text("Worst scans of").first.wait_for()
    metrics = json.loads((em_run / "metrics.json").read_text())
    row = page.get_by_role("row").filter(has_text=em_run.parent.name).filter(has_text="infection").first
    assert re.search(rf"{metrics['infection/dice_mean']:.3f} \(0\.\d+\xa0to\xa00\.\d+\)", row.inner_text())
    page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first.wait_for()
    assert page.get_by_test_id("stException").count() == 0
    assert "/" not in page.get_by_test_id("stMain").inner_text()
