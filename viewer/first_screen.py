"""First screen: the product's name and purpose, shown for the seconds in which Streamlit starts in a browser."""

import re
from pathlib import Path

import streamlit
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from pages.rendering import Templates

PRODUCT = "Ground Glass"
DOES = "Finds lung opacities in a chest CT, measures them, and shows where they are."
PURPOSE = "For research. No medical device: no diagnosis or treatment may rest on it."
PATHS = ("/", "/scan", "/runs")
SHELL = Path(streamlit.__file__).with_name("static") / "index.html"
HERE = Path(__file__).parent
TEMPLATES = Templates(HERE / "templates")


def routes() -> list[Route]:
    """Return routes for the pages' addresses, which Streamlit would answer with its own empty page."""
    content = first_screen(SHELL.read_text(encoding="utf-8"))

    def answer(request: Request) -> HTMLResponse:
        return HTMLResponse(content, headers={"Cache-Control": "no-cache"})

    return [Route(path, answer) for path in PATHS]


def first_screen(shell: str) -> str:
    """Put the product's name and purpose into Streamlit's page.

    Args:
        shell: Streamlit's index.html.
    """
    titled = re.sub("(?<=<title>).*?(?=</title>)", PRODUCT, shell)
    bare = re.sub("<noscript>.*?</noscript>", "", titled, flags=re.DOTALL)
    before, body, after = bare.partition("<body>")
    return f"{before}{body}{branded('first_screen')}{after}"


def branded(name: str) -> Markup:
    """Render a template that states the product's name and purpose, with its style.

    Args:
        name: Stem of the template and of the style sheet.
    """
    style = Markup((HERE / name).with_suffix(".css").read_text(encoding="utf-8"))
    return TEMPLATES.render(f"{name}.html", style=style, product=PRODUCT, does=DOES, purpose=PURPOSE)
