"""Start of the viewer, for this machine alone: python -m viewer [--runs runs] [--cohorts cohorts] [--port 8501]."""

from pathlib import Path
from typing import Any

import streamlit as st

from viewer.first_screen import routes
from viewer.options import read_options

APP = Path(__file__).with_name("app.py")
# A thin-slice chest CT is about 150 MB zipped; a study of several series is refused anyway.
MOST_UPLOAD_MB = 1024
SETTINGS: dict[str, Any] = {
    "server.address": "127.0.0.1",
    # Without it, Streamlit asks for an e-mail address at its first start.
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": MOST_UPLOAD_MB,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    # Sentences for users are shown by the pages; a traceback belongs into the terminal.
    "client.showErrorDetails": "none",
}


def main() -> None:
    """Serve the pages until stopped; app.py reads the same command line."""
    options = read_options()
    st.App(APP, routes=routes()).run(config=SETTINGS | {"server.port": options.port})


if __name__ == "__main__":
    main()
