"""A page from disk in headless Chromium, to click and to look at; what it said and asked for is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from chromium import CHROMIUM
from playwright.sync_api import Request, sync_playwright


class Opened(NamedTuple):
    """An open page.

    Attributes:
        page: Playwright's page.
        messages: What the console said, errors included.
        requests: Addresses that were asked for, the page itself and data URIs left out.
    """

    page: Any
    messages: list[str]
    requests: list[str]


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Opened]:
    """Open a page; options are those of a context of Playwright (viewport, color_scheme, java_script_enabled, ...)."""
    address = path.resolve().as_uri()
    messages: list[str] = []
    requests: list[str] = []

    def keep(request: Request) -> None:
        if not request.url.startswith("data:"):
            requests.append(request.url)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_context(**options).new_page()
            page.on("console", lambda message: messages.append(message.text))
            page.on("pageerror", lambda error: messages.append(str(error)))
            page.on("request", keep)
            page.goto(address)
            requests.remove(address)
            yield Opened(page, messages, requests)
        finally:
            browser.close()
