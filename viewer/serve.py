"""The server of the viewer, for this machine alone."""

from pathlib import Path
from typing import Any

import streamlit as st

from viewer.first_screen import routes
from viewer.options import Options

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


def serve(options: Options) -> None:
    """Serve the pages until stopped."""
    st.App(APP, routes=routes()).run(config=SETTINGS | {"server.port": options.port})
