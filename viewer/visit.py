"""Folder of one visit, removed when the visitor leaves and when the viewer stops."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st

MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|$~:<>&])")


def _remove(folder: Any) -> None:
    folder.cleanup()


@st.cache_resource(scope="session", on_release=_remove, show_spinner=False)
def _visit() -> TemporaryDirectory[str]:
    # Python removes it at exit if it was not released before.
    return TemporaryDirectory(prefix="ground-glass-visit-", ignore_cleanup_errors=True)


def visit_folder() -> Path:
    """Return the folder of this visit."""
    return Path(_visit().name)


def plain(sentence: str) -> str:
    """Escape a text for Streamlit's Markdown: names of files may look like links or formulas.

    Args:
        sentence: Any text; the visit's folder is cut off its paths, since it means nothing to a visitor.
    """
    return MARKDOWN.sub(r"\\\1", sentence.replace(f"{visit_folder()}/", ""))
