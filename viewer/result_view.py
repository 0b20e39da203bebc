"""View of a segmented scan: findings and flags first, then the planes, the numbers, the report and the files."""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from uuid import uuid4

import streamlit as st

from ct.lungs.lobe_scores import SUM
from ct.scan import Scan
from inference.outputs.scan_numbers import tiles
from inference.outputs.scan_page import LUNG_SOURCES
from inference.outputs.write_outputs import PAGE
from inference.overlays import Overlay, all_overlays, findings_of, mask_of
from inference.result import Masks, Result
from viewer.measured import ABOUT, densities, region_table, scores_table, volumes_table
from viewer.planes import pack, show_planes, step_of
from viewer.reader_masks import agreement
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
    """A segmented scan of a visit.

    Attributes:
        result: The result.
        truth: The reader's masks in the classes of the result; empty without a reader.
        out: Folder of the outputs.
        name: Unique name, so that the browser never shows one answer in place of another.
    """

    result: Result
    truth: Masks
    out: Path
    name: str = field(default_factory=lambda: uuid4().hex)

    @cached_property
    def overlays(self) -> list[Overlay]:
        """The model's overlays, the lungs first."""
        return all_overlays(self.result.masks, self.result.classes)

    @cached_property
    def truth_overlays(self) -> list[Overlay]:
        """The reader's overlays, without lungs."""
        return all_overlays(self.truth, self.result.classes) if self.truth else []

    @cached_property
    def packet(self) -> bytes:
        """The packet of the planes, made once, since every click draws the page again."""
        return pack(self.result.scan, self.overlays, self.truth_overlays, self.name)


def show_result(segmented: Segmented, scan: str, model: str) -> None:
    """Draw the result of a scan.

    Args:
        segmented: The segmented scan.
        scan: Label of the scan.
        model: Label of the model.
    """
    with st.container(key="answer"):
        _show_answer(segmented, scan, model)
    _show_tabs(segmented)


def _show_answer(segmented: Segmented, scan: str, model: str) -> None:
    result = segmented.result
    flips = f", averaged over {result.model.flips} mirrored images" if result.model.flips > 1 else ""
    st.header(plain(f"{scan}, segmented by {model}"), anchor=False)
    st.caption(plain(f"Model: {result.model.card_line}{flips}."))
    if result.flags:
        st.warning(f"**This result may be wrong:** {reasons(result.flags)}. {DETAILS}", icon=":material/flag:")
    # The score stands in the numbers: on a phone the picture must be on the first screen, too.
    shown = {key: value for key, value in result.measurements.items() if key != SUM}
    st.html(tiles(shown, findings_of(result.masks, result.classes)))
    show_planes(segmented.packet, segmented.name)
    st.caption(f"{MOUSE}{_coarser(result.scan)}")
    if segmented.truth_overlays:
        st.caption(plain(f"Agreement with the reader (Dice): {_agreements(segmented)}."))


def reasons(flags: Sequence[str]) -> str:
    """Return the first two reasons of a doubtful answer and the count of the others: pictures must fit below them."""
    heads = list(dict.fromkeys(plain(headline(flag)) for flag in flags))
    more = [f"and {len(heads) - SHOWN_REASONS} more"] if len(heads) > SHOWN_REASONS else []
    return "; ".join([*heads[:SHOWN_REASONS], *more])


def headline(flag: str) -> str:
    """Return the head of a flag, without its figures."""
    return re.split("[,;:] ", flag.removeprefix("implausible: "))[0]


def _coarser(scan: Scan) -> str:
    step = step_of(scan)
    return f"One of {step} pixels of a row or column is shown; measures and files have all." if step > 1 else ""


def _agreements(segmented: Segmented) -> str:
    """Return the agreement on each finding that both the model and the reader have."""
    truth, masks, classes = segmented.truth, segmented.result.masks, segmented.result.classes
    common = [finding for finding in findings_of(truth, classes) if finding in findings_of(masks, classes)]
    figures = (
        agreement(mask_of(truth, classes, each.key), mask_of(masks, classes, each.key), segmented.result.scan)
        for each in common
    )
    return "; ".join(f"{finding.name} {figure}" for finding, figure in zip(common, figures, strict=True))


# A fragment: another tab draws the tabs again, and nothing else.
@st.fragment
def _show_tabs(segmented: Segmented) -> None:
    contents: dict[str, Callable[[], object]] = {
        "Numbers": lambda: _show_numbers(segmented.result),
        "Report": lambda: st.iframe(segmented.out / PAGE, height=REPORT_PIXELS_HIGH),
        "Downloads": lambda: _show_downloads(segmented),
        "About this result": lambda: _show_provenance(segmented.result),
    }
    tabs = st.tabs(list(contents), key=f"tabs-{segmented.name}", on_change="rerun")
    for tab, show in zip(tabs, contents.values(), strict=True):
        if tab.open:
            with tab:
                show()


def _show_numbers(result: Result) -> None:
    measured, findings = result.measurements, findings_of(result.masks, result.classes)
    tables = (volumes_table(measured, findings), region_table(measured, findings), scores_table(measured))
    for rows in (*tables, densities(measured)):
        if len(rows):
            st.table(rows.map(plain))
    st.caption(ABOUT)


def _show_downloads(segmented: Segmented) -> None:
    paths = sorted(path for path in segmented.out.rglob("*") if path.is_file())
    # Made only when a visitor asks for it.
    zipped = partial(_zipped, segmented.out, paths)
    name = f"{segmented.result.name}.zip"
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
