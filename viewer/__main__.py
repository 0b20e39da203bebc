"""Start the viewer on this machine alone: python -m viewer [--runs runs] [--cohorts cohorts] [--port 8501]."""

import argparse
from pathlib import Path

from streamlit.web import cli

APP = Path(__file__).with_name("app.py")
# A thin-slice chest CT is about 150 MB zipped; a study of several series is refused anyway.
MOST_UPLOAD_MB = 1024
SETTINGS = {
    "server.address": "127.0.0.1",
    # Without it, Streamlit asks for an e-mail address at its first start.
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": str(MOST_UPLOAD_MB),
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    # Sentences for users are shown by the pages; a traceback belongs into the terminal.
    "client.showErrorDetails": "none",
}


def arguments(args: list[str] | None = None) -> list[str]:
    """What `streamlit` is called with."""
    parser = argparse.ArgumentParser(prog="python -m viewer", description="Look at scans and runs in a browser.")
    parser.add_argument("--runs", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument("--cohorts", default="cohorts", help="folder of all cohorts (default: cohorts)")
    parser.add_argument("--port", type=int, default=8501, help="port on 127.0.0.1 (default: 8501)")
    options = parser.parse_args(args)
    settings = [f"--{name}={value}" for name, value in (SETTINGS | {"server.port": str(options.port)}).items()]
    return ["run", str(APP), *settings, "--", "--runs", options.runs, "--cohorts", options.cohorts]


if __name__ == "__main__":
    cli.main(arguments())
