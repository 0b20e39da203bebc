"""The folder of one visit: gone when the visitor leaves, and when the viewer stops."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st

MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|$~:<>&])")


def _leave(folder: Any) -> None:
    folder.cleanup()


@st.cache_resource(scope="session", on_release=_leave, show_spinner=False)
def _visit() -> TemporaryDirectory[str]:
    # Python removes it at its own end where nobody released it before.
    return TemporaryDirectory(prefix="ground-glass-visit-", ignore_cleanup_errors=True)


def visit_folder() -> Path:
    """The folder of this visit."""
    return Path(_visit().name)


def plain(sentence: str) -> str:
    """A sentence as Streamlit shows it letter by letter: names of files may look like links or formulas.

    Args:
        sentence: Any text; paths below the visit's folder lose that folder, which means nothing to a visitor.
    """
    return MARKDOWN.sub(r"\\\1", sentence.replace(f"{visit_folder()}/", ""))
