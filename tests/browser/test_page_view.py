"""What a visitor sees of the page that segments in the browser: progress, the picture with its masks, the controls."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from phantom_scan import save_phantom
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize
from segmenting_page import choose, drop, needs_page, open_page, table

from ct.classes import COLOUR_OF
from ct.colours import rgb_of
from ct.window_presets import WINDOW_PRESETS

pytestmark = [pytest.mark.slow, needs_page]

PHONE: ViewportSize = {"width": 360, "height": 740}
PLANES = ("Axial", "Coronal", "Sagittal")
# What the bar and the line above it showed, at each step of the bar.
WATCH = """() => {
  window.shown = [];
  const bar = document.getElementById("bar"), line = document.getElementById("status");
  const keep = () => bar.checkVisibility() && shown.push([line.textContent, bar.value]);
  new MutationObserver(keep).observe(bar, { attributes: true, attributeFilter: ["value"] });
}"""


@pytest.fixture(scope="module")
def phone(browser: Browser, page_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page on a phone, with a result."""
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    page = context.new_page()
    open_page(page, page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.evaluate(WATCH)
    assert choose(page, save_phantom(tmp_path_factory.mktemp("scan") / "scan.nii.gz", slices=20)) == ""
    yield page
    context.close()


def move(page: Page, slider: str, key: str) -> None:
    """Move a slider by a key and wait until that is painted."""
    page.get_by_role("slider", name=slider).press(key)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def painted(page: Page, name: str) -> int:
    """Count the pixels of the picture that have the colour of a mask."""
    picture = Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")
    return int((np.abs(np.asarray(picture).astype(int) - rgb_of(COLOUR_OF[name])) <= 1).all(-1).sum())


def test_progress_is_shown_while_it_works(phone: Page) -> None:
    shown = phone.evaluate("shown")
    assert list(dict.fromkeys(step for step, _ in shown)) == [
        "read ...",
        "find the lungs ...",
        "segment ...",
        "write ...",
    ]
    shares = [share for _, share in shown]
    assert shares == sorted(shares)
    assert len(set(shares)) > 6, "the bar moves within the steps too"
    assert not phone.is_visible("#bar")


def test_masks_lie_over_the_scan_as_strong_as_is_asked(phone: Page) -> None:
    for name, other in (("infection", "lungs"), ("lungs", "infection")):
        for mask in (name, other):
            move(phone, f"Mask strength of {mask}", "Home")
        assert painted(phone, name) == 0
        move(phone, f"Mask strength of {name}", "End")
        assert painted(phone, name) > 1000, "the page starts in a slice with infection"
        for plane in PLANES:
            move(phone, f"{plane} slice", "Home")
        assert painted(phone, name) == 0, "the outermost slices show neither lungs nor infection"
        for plane, slices in zip(PLANES, (20, 64, 64), strict=True):
            phone.get_by_role("slider", name=f"{plane} slice").fill(str(slices // 2))


def test_windows_change_the_picture(phone: Page) -> None:
    pictures = []
    for preset in WINDOW_PRESETS:
        button = phone.get_by_role("button", name=preset["name"])
        button.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        phone.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        pictures.append(phone.locator("#canvas").screenshot())
    assert phone.locator("button[aria-pressed=true]").count() == 1
    assert len(set(pictures)) == len(WINDOW_PRESETS)


def test_the_result_fits_a_phone_and_keys_alone_reach_it(phone: Page) -> None:
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    light = phone.evaluate("getComputedStyle(document.body).color")
    assert min(map(int, light[4:-1].split(","))) > 200, "light letters on the dark"
    phone.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        phone.keyboard.press("Tab")
        reached.append(phone.evaluate("(e => e.ariaLabel || e.id || e.textContent.trim())(document.activeElement)"))
    wanted = ["file", "folder", *(f"{plane} slice" for plane in PLANES), *(preset["name"] for preset in WINDOW_PRESETS)]
    wanted += ["Mask strength of lungs", "Mask strength of infection", "lungs.nii.gz", "infection.nii.gz"]
    assert [name for name in wanted if name not in reached] == []
    slider = phone.get_by_role("slider", name="Axial slice")
    slider.press("Home")
    slider.press("ArrowRight")
    assert phone.get_by_text("2 of 20", exact=True).is_visible()


def test_a_file_is_dropped_anywhere_and_a_folder_onto_the_picture_before(
    browser: Browser, page_file: Path, tmp_path: Path
) -> None:
    page = browser.new_page()
    open_page(page, page_file.as_uri())
    assert drop(page, save_phantom(tmp_path / "a.nii.gz", slices=16)) == ""
    assert table(page)["slices"].startswith("16 of 64 x 64")
    save_phantom(tmp_path / "deep" / "folder" / "b.nii.gz", slices=18)
    assert drop(page, tmp_path / "deep", "#canvas") == ""
    assert table(page)["slices"].startswith("18 of 64 x 64")
    page.context.close()
