"""A segmented scan on the page: what to know first, the pictures, the numbers, the report and the files."""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from uuid import uuid4

import streamlit as st

from ct.scan import Scan
from inference.layers import Layer, findings_of, mask_of
from inference.outputs.scan_numbers import tiles
from inference.outputs.scan_page import LUNG_SOURCES
from inference.outputs.write_outputs import PAGE
from inference.result import Masks, Result
from viewer.findings import agreement, all_layers
from viewer.measured import ABOUT, region_table, scores_table, volumes_table
from viewer.planes import pack, show_planes, step_of
from viewer.visit import plain

REPORT_PIXELS_HIGH = 900
SHOWN_REASONS = 2
DETAILS = "Details are below, in *About this result*."
MOUSE = (
    "Click: the place that all planes show. Wheel: next slice. Drag with the right button: window. "
    "The patient's right is on the left. "
)


@dataclass(frozen=True, eq=False)
class Segmented:
    """What a visit remembers of a scan.

    Attributes:
        result: The result.
        truth: What a reader drew, in the masks of the result; empty where nobody did.
        out: Folder of the outputs.
        name: What tells this answer from all others, so that the browser shows none in another's place.
    """

    result: Result
    truth: Masks
    out: Path
    name: str = field(default_factory=lambda: uuid4().hex)

    @cached_property
    def layers(self) -> list[Layer]:
        """What the model found, the lungs first."""
        return all_layers(self.result.masks, self.result.classes)

    @cached_property
    def drawn(self) -> list[Layer]:
        """The same of the reader, without lungs."""
        return all_layers(self.truth, self.result.classes) if self.truth else []

    @cached_property
    def packet(self) -> bytes:
        """What draws the planes: packed once, since every click shows the page again."""
        return pack(self.result.scan, self.layers, self.drawn, self.name)


def show_result(shown: Segmented, scan: str, model: str) -> None:
    """Draw everything that is known of a scan.

    Args:
        shown: The scan.
        scan: What the page calls it.
        model: What the page calls the model.
    """
    with st.container(key="answer"):
        _show_answer(shown, scan, model)
    _show_tabs(shown)


def _show_answer(shown: Segmented, scan: str, model: str) -> None:
    result = shown.result
    flips = f", averaged over {result.model.flips} mirrored images" if result.model.flips > 1 else ""
    st.header(plain(f"{scan}, segmented by {model}"), anchor=False)
    st.caption(plain(f"Model: {result.model.card_line}{flips}."))
    if result.flags:
        st.warning(f"**This result may be wrong:** {reasons(result.flags)}. {DETAILS}", icon=":material/flag:")
    st.html(tiles(result.measurements, findings_of(result.masks, result.classes)))
    show_planes(shown.packet, shown.name)
    st.caption(f"{MOUSE}{_coarser(result.scan)}")
    if shown.drawn:
        st.caption(plain(f"Agreement with the reader (Dice): {_agreements(shown)}."))


def reasons(flags: Sequence[str]) -> str:
    """The first two reasons of a doubtful answer, and how many more there are: the picture has to fit below them."""
    heads = list(dict.fromkeys(plain(headline(flag)) for flag in flags))
    more = [f"and {len(heads) - SHOWN_REASONS} more"] if len(heads) > SHOWN_REASONS else []
    return "; ".join([*heads[:SHOWN_REASONS], *more])


def headline(flag: str) -> str:
    """A flag in a few words: what stands before its figures."""
    return re.split("[,;:] ", flag.removeprefix("implausible: "))[0]


def _coarser(scan: Scan) -> str:
    every = step_of(scan)
    return f"One of {every} pixels of a row or column is shown; measures and files have all." if every > 1 else ""


def _agreements(shown: Segmented) -> str:
    """Of each finding that both tell."""
    truth, masks, classes = shown.truth, shown.result.masks, shown.result.classes
    both = [finding for finding in findings_of(truth, classes) if finding in findings_of(masks, classes)]
    figures = (
        agreement(mask_of(truth, classes, each.key), mask_of(masks, classes, each.key), shown.result.scan)
        for each in both
    )
    return "; ".join(f"{finding.name} {figure}" for finding, figure in zip(both, figures, strict=True))


# A fragment: another tab draws the tabs again, and nothing else.
@st.fragment
def _show_tabs(shown: Segmented) -> None:
    contents: dict[str, Callable[[], object]] = {
        "Numbers": lambda: _show_numbers(shown.result),
        "Report": lambda: st.iframe(shown.out / PAGE, height=REPORT_PIXELS_HIGH),
        "Downloads": lambda: _show_downloads(shown),
        "About this result": lambda: _show_provenance(shown.result),
    }
    tabs = st.tabs(list(contents), key=f"tabs-{shown.name}", on_change="rerun")
    for tab, show in zip(tabs, contents.values(), strict=True):
        if tab.open:
            with tab:
                show()


def _show_numbers(result: Result) -> None:
    measured, findings = result.measurements, findings_of(result.masks, result.classes)
    for rows in (volumes_table(measured, findings), region_table(measured, findings), scores_table(measured)):
        if len(rows):
            st.table(rows.map(plain))
    st.caption(ABOUT)


def _show_downloads(shown: Segmented) -> None:
    paths = sorted(path for path in shown.out.rglob("*") if path.is_file())
    # What is large is made when it is asked for.
    zipped = partial(_zipped, shown.out, paths)
    name = f"{shown.result.name}.zip"
    st.download_button("All outputs (zip)", zipped, name, "application/zip", on_click="ignore", type="primary")
    with st.container(horizontal=True):
        for path in paths:
            st.download_button(plain(path.name), path.read_bytes, path.name, on_click="ignore", key=f"file-{path.name}")
    if any(path.suffix == ".dcm" for path in paths):
        st.caption("The DICOM files name the patient, as those of the scan do; the others do not.")


def _zipped(folder: Path, paths: Sequence[Path]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.relative_to(folder))
    return content.getvalue()


def _show_provenance(result: Result) -> None:
    model = result.model
    for title, sentences in (
        ("Why this result may be wrong", result.flags),
        ("Repaired while reading", result.scan.repairs),
        ("About the scan", result.warnings),
    ):
        if sentences:
            st.markdown("\n".join([f"**{title}**", "", *(f"- {plain(sentence)}" for sentence in sentences)]))
    facts = {
        "model": f"{model.experiment} ({model.task})",
        "checkpoint (SHA-256)": ", ".join(digest[:12] for digest in model.checkpoints_sha256),
        "averaged over": f"{len(model.checkpoints_sha256)} checkpoint(s), {model.flips} flip(s)",
        "size of the network's slices": f"{model.size} pixels",
        "lungs": LUNG_SOURCES[result.lung_source],
        "version": model.version,
    }
    st.table({"fact": list(facts), "value": list(facts.values())}, hide_header=True, hide_index=True)
