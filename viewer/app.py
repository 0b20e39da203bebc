"""Pages of the viewer; Streamlit runs this file for every visitor and every click."""

import streamlit as st

from viewer.first_screen import PRODUCT, branded
from viewer.options import Options, read_options

STARTING = "The viewer is starting; this takes some seconds once."


def main() -> None:
    """Show the page that the visitor picked."""
    options = read_options()
    st.set_page_config(page_title=PRODUCT, layout="wide")
    st.html(branded("app"))
    pages = [
        st.Page(lambda: show_scan(options), title="Segment a scan", url_path="scan"),
        st.Page(lambda: show_runs(options), title="Compare runs", url_path="runs"),
    ]
    st.navigation(pages, position="top").run()


# Pages are imported late, since loading PyTorch takes seconds once: the header is shown before.
def show_scan(options: Options) -> None:
    """Show the page that segments a scan."""
    with st.spinner(STARTING):
        from viewer.segment_page import show_scan_page

    show_scan_page(options.runs, options.cohorts, options.modules)


def show_runs(options: Options) -> None:
    """Show the page that compares runs."""
    with st.spinner(STARTING):
        from viewer.runs_page import show_runs_page

    show_runs_page(options.runs)


main()
