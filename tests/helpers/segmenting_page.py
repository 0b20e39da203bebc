"""The page that segments in the browser, driven as a visitor does."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from chromium import CHROMIUM
from places import ROOT
from playwright.sync_api import Page

HOME = ROOT / "browser"
NODE = shutil.which("node") or ""
MODEL = HOME / "model" / "slices.onnx"
needs_node = pytest.mark.skipif(
    not (NODE and (HOME / "node_modules").is_dir()), reason="needs Node.js and the packages of the page (make page)"
)
needs_page = pytest.mark.skipif(
    not (NODE and (HOME / "node_modules").is_dir() and MODEL.is_file() and CHROMIUM),
    reason="needs chromium, Node.js, and the packages and the model of the page (make page)",
)
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
MOST_S = 240


def open_page(page: Page, address: str) -> None:
    """Go to the page and wait until it takes scans."""
    page.goto(address)
    page.wait_for_function("document.getElementById('status').textContent == 'Ready.'", timeout=60_000)


def answer(page: Page) -> str:
    """Wait for the answer to what was given; return its sentence, empty where it has a result."""
    ended = (
        "document.getElementById('status').textContent.startsWith('Done') || !document.getElementById('error').hidden"
    )
    page.wait_for_function(ended, timeout=1000 * MOST_S)
    return page.text_content("#error") or "" if page.is_visible("#error") else ""


def choose(page: Page, paths: Path | Sequence[Path], where: str = "#file") -> str:
    """Choose files, or a folder with `where` "#folder", and return the answer."""
    page.set_input_files(where, paths)
    return answer(page)


def drop(page: Page, path: Path, place: str = "#drop") -> str:
    """Drop a file or a folder from the desktop and return the answer."""
    page.locator(place).scroll_into_view_if_needed()
    box = page.locator(place).bounding_box()
    assert box is not None
    middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **middle})
    page.wait_for_function("!document.getElementById('status').textContent.startsWith('Done')")
    return answer(page)


def table(page: Page) -> dict[str, str]:
    """Return the rows of the table of numbers."""
    cells = page.locator("#numbers tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    return {name: value for name, value in cells}


def downloaded(page: Page, name: str, folder: Path) -> Path:
    """Click one of the files; return where it was saved."""
    with page.expect_download() as download:
        page.click(f"text={name}")
    download.value.save_as(folder / name)
    return folder / name
