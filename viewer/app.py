"""The two pages of the viewer; Streamlit runs this file for every visitor and every click."""

import argparse
from pathlib import Path

import streamlit as st

from viewer.runs_page import show_runs_page
from viewer.scan_page import show_scan_page

# Streamlit leaves the upper sixth of a page empty.
LESS_MARGIN = "<style>.stMainBlockContainer { padding-top: 3.5rem; }</style>"


def main() -> None:
    """Show the page that the visitor picked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts"))
    places = parser.parse_args()
    st.set_page_config(page_title="Ground Glass", layout="wide")
    st.html(LESS_MARGIN)
    pages = [
        st.Page(lambda: show_scan_page(places.runs, places.cohorts), title="Segment a scan", url_path="scan"),
        st.Page(lambda: show_runs_page(places.runs), title="Compare runs", url_path="runs"),
    ]
    st.navigation(pages, position="top").run()


main()
