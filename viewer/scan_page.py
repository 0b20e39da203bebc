"""The page that segments a scan and shows what was found."""

import shutil
from pathlib import Path

import streamlit as st

from viewer.choose import Bring, choose_model, choose_scan
from viewer.findings import read_truth
from viewer.result_view import Segmented, show_result
from viewer.segmenting import segment
from viewer.visit import plain, visit_folder

STATE = "segmented"
PURPOSE = "For research. No medical device: no diagnosis or treatment may rest on it."


def show_scan_page(runs: Path, cohorts: Path) -> None:
    """Draw the page.

    Args:
        runs: Folder of all runs.
        cohorts: Folder of cohorts with phantoms.
    """
    with st.sidebar:
        checkpoint, bring = choose_model(runs), choose_scan(cohorts)
        flips = st.toggle("Flips", help="Average over mirrored slices too: four times the work.")
        start = st.button("Segment", type="primary", width="stretch", disabled=checkpoint is None or bring is None)
        st.caption(f"{PURPOSE} What you upload stays on this machine and is removed when you leave this page.")
    if start and checkpoint and bring:
        st.session_state.pop(STATE, None)
        _segment(checkpoint, flips, bring)
    shown: Segmented | None = st.session_state.get(STATE)
    if shown and shown.out.is_dir():  # a visitor whose connection broke starts with an empty folder
        show_result(shown)
    else:
        st.write("Pick a model and a scan in the side bar (» opens it on a narrow screen), then press *Segment*.")


def _segment(checkpoint: Path, flips: bool, bring: Bring) -> None:
    """Segment the scan and remember the result, or say why it cannot be used."""
    work, out = visit_folder() / "scan", visit_folder() / "outputs"
    for old in (work, out):
        shutil.rmtree(old, ignore_errors=True)
    bar = st.progress(0.0, "reading the scan")

    def tell(doing: str, share: float) -> None:
        bar.progress(share, plain(doing))

    try:
        example = bring(work)
        result = segment(checkpoint, flips, example.source, out, example.name, tell)
        truth = read_truth(result.scan, example.patterns, example.infection, result.masks)
    except ValueError as error:
        st.error(plain(str(error)))
        return
    finally:
        bar.empty()
    st.session_state[STATE] = Segmented(result, truth, out)
