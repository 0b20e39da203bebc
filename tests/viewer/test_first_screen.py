"""What a browser shows before any script has run."""

from html.parser import HTMLParser

import pytest
from starlette.requests import Request

from viewer.first_screen import DOES, PATHS, PRODUCT, PURPOSE, SHELL, first_screen, routes


class Text(HTMLParser):
    """All that is written in a page, scripts and styles left out, and its title."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.title, self.words = "", ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "title" in self.inside:
            self.title += data
        elif not {"script", "style", "noscript"} & set(self.inside):
            self.words += f" {data.strip()}"


@pytest.mark.parametrize("path", PATHS)
def test_every_address_says_at_once_what_this_is(path: str) -> None:
    answer = next(route for route in routes() if route.path == path).endpoint(Request({"type": "http"}))
    text = Text()
    text.feed(answer.body.decode())
    assert text.title == PRODUCT
    assert f"{PRODUCT} {DOES} {PURPOSE}" in " ".join(text.words.split())
    assert "Streamlit" not in text.words
    assert answer.headers["cache-control"] == "no-cache"


def test_streamlit_still_starts_in_it() -> None:
    shell = SHELL.read_text(encoding="utf-8")
    page = first_screen(shell)
    for line in shell.splitlines():
        if "<script" in line or "<link" in line or 'id="root"' in line:
            assert line in page
