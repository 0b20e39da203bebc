"""What a browser shows before Streamlit has started in it, which takes seconds: the product's name and what it does."""

import re
from pathlib import Path

import streamlit
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

PRODUCT = "Ground Glass"
DOES = "Finds lung opacities in a chest CT, measures them, and shows where they are."
PURPOSE = "For research. No medical device: no diagnosis or treatment may rest on it."
# In the page of the app: where it is, the page has come.
MARK = "product"
PATHS = ("/", "/scan", "/runs")
SHELL = Path(streamlit.__file__).with_name("static") / "index.html"
SCREEN = f"""
<style>
  :root {{ color-scheme: light dark; }}
  #first-screen {{ position: fixed; inset: 0; display: flex; flex-direction: column; justify-content: center;
    padding: 0 1.5rem; max-width: 34rem; margin: auto; font: 16px/1.5 system-ui, sans-serif; }}
  #first-screen h1 {{ font-size: 2rem; margin: 0; }} #first-screen p {{ margin: .4rem 0; }}
  body:has(.{MARK}) #first-screen {{ display: none; }}
</style>
<div id="first-screen" role="status"><h1>{PRODUCT}</h1><p>{DOES}</p><p>{PURPOSE}</p><p>Loading&hellip;</p></div>
<noscript>{PRODUCT} needs JavaScript.</noscript>
"""


def routes() -> list[Route]:
    """The pages' addresses, which Streamlit would answer with its own empty page."""
    content = first_screen(SHELL.read_text(encoding="utf-8"))

    def answer(request: Request) -> HTMLResponse:
        return HTMLResponse(content, headers={"Cache-Control": "no-cache"})

    return [Route(path, answer) for path in PATHS]


def first_screen(shell: str) -> str:
    """Put the product's name and what it does into Streamlit's page.

    Args:
        shell: Its index.html.
    """
    titled = re.sub("<title>.*?</title>", f"<title>{PRODUCT}</title>", shell)
    bare = re.sub("<noscript>.*?</noscript>", "", titled, flags=re.DOTALL)
    return bare.replace("<body>", f"<body>{SCREEN}", 1)
