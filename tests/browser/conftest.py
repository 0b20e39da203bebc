"""The page, built as the sources are now, and a browser to open it in."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM
from playwright.sync_api import Browser, sync_playwright
from segmenting_page import FLAGS, HOME, NODE

from ground_glass.__main__ import main
from ground_glass.page_look import write_look


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return index.html of the page, written as a user writes it."""
    folder = tmp_path_factory.mktemp("pages")
    write_look(folder / "look.json")
    inputs = ["model/slices.onnx", "model/about.json", str(folder / "look.json")]
    subprocess.run([NODE, "build.mjs", *inputs, str(folder / "built")], cwd=HOME, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ground_glass.serve_page.BUILT", folder / "built")
        assert main(["serve-page", "-o", str(folder / "page")]) == 0
    return folder / "page" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium, which draws by its software renderer."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
