"""Page that segments a scan and shows the result."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from inference.result import Result
from inference.scan_list import Source
from inference.segmenter import Progress, Segmenter
from viewer.choose import PickedModel, PickedScan, choose_model, choose_scan
from viewer.reader_masks import read_truth
from viewer.result_view import Segmented, show_result
from viewer.visit import plain, visit_folder

# Visitors wait for each other: two scans at once would need twice the memory and take as long.
ONE_AT_A_TIME = threading.Lock()
ANSWER, CHOICES, OPEN = "answer", "choices", "choices are to be open"


class Question(NamedTuple):
    """Model, scan and setting that a visitor picked."""

    model: PickedModel
    scan: PickedScan
    flips: bool

    @property
    def text(self) -> str:
        """Scan and model in words."""
        return f"{self.scan.label}, segmented by {self.model.label}{' with flips' if self.flips else ''}"


class Answer(NamedTuple):
    """Answer to a question: a result, or the sentence that says why there is none."""

    question: Question
    result: Segmented | None
    refusal: str = ""


def show_scan_page(runs: Path, cohorts: Path, modules: Sequence[str] = ()) -> None:
    """Draw the page.

    Args:
        runs: Folder of all runs.
        cohorts: Folder of cohorts with phantoms.
        modules: Modules of the user's own from which a checkpoint's network or prior may come.
    """
    st.session_state.setdefault(CHOICES, True)
    if OPEN in st.session_state:
        st.session_state[CHOICES] = st.session_state.pop(OPEN)
    with st.expander("Model and scan", key=CHOICES, on_change="rerun"):
        question, start = _choose(runs, cohorts)
    if start and question:
        answer = st.session_state[ANSWER] = _ask(question, modules)
        st.session_state[OPEN] = answer.result is None
        st.rerun()
    if shown := st.session_state.get(ANSWER):
        _show(shown, question)


def _choose(runs: Path, cohorts: Path) -> tuple[Question | None, bool]:
    """Return the current question, None while incomplete, and whether the button was pressed."""
    left, right = st.columns(2)
    with left:
        model = choose_model(runs)
        flips = st.toggle("Flips", help="Average over mirrored slices too: four times the work.")
    with right:
        scan = choose_scan(cohorts)
    question = Question(model, scan, flips) if model and scan else None
    start = st.button("Segment", type="primary", disabled=question is None)
    st.caption("What you upload stays on this machine and is removed when you leave this page.")
    return question, start


def _ask(question: Question, modules: Sequence[str]) -> Answer:
    """Segment the scan, or return the reason why it cannot be used."""
    work, out = visit_folder() / "scan", visit_folder() / "outputs"
    for old in (work, out):
        shutil.rmtree(old, ignore_errors=True)
    bar = st.progress(0.0, "reading the scan")

    def show_progress(step: str, share: float) -> None:
        bar.progress(share, plain(step))

    try:
        return Answer(question, _segment(question, work, out, show_progress, modules))
    except ValueError as error:
        return Answer(question, None, str(error))
    finally:
        bar.empty()


def _segment(question: Question, work: Path, out: Path, progress: Progress, modules: Sequence[str]) -> Segmented:
    example = question.scan.write(work)
    result = segment(question.model.checkpoint, question.flips, example.source, out, example.name, progress, modules)
    truth = read_truth(result.scan, example.patterns, example.infection, result.masks, result.classes)
    return Segmented(result, truth, out)


def segment(
    checkpoint: Path, flips: bool, scan: Path, out: Path, name: str, progress: Progress, modules: Sequence[str] = ()
) -> Result:
    """Segment a scan and write all its outputs.

    Args:
        checkpoint: best.ckpt of a run.
        flips: Average over mirrored slices too.
        scan: A DICOM folder or file, a NIfTI or an NRRD file.
        out: The folder of the outputs, not there yet.
        name: Name of the scan in the outputs.
        progress: Called with the current step and the share that is done, 0 to 1.
        modules: Modules of the user's own from which the checkpoint's network or prior may come.

    Raises:
        ValueError: The checkpoint or the scan cannot be used, in one sentence; nothing is written then.
    """
    progress("wait for the scan of another visitor", 0.0)
    with ONE_AT_A_TIME:
        return Segmenter([checkpoint], flips, modules=modules).predict(Source(name, scan), out, progress)


def _show(answer: Answer, picked: Question | None) -> None:
    """Draw an answer, with a warning where another question has been picked since."""
    stale = answer.question != picked
    if stale and answer.result:
        now = f"You have picked {picked.text} since" if picked else "What you have picked since is not complete"
        st.warning(
            f"**This is an earlier answer.** {plain(now)}: press *Segment* for its answer.", icon=":material/history:"
        )
    if answer.result is None:
        if not stale:
            st.error(plain(answer.refusal))
    elif answer.result.out.is_dir():  # a visitor whose connection broke starts with an empty folder
        show_result(answer.result, answer.question.scan.label, answer.question.model.label)
