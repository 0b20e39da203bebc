"""A segmented scan on the page: what to know first, the pictures, the numbers, the report and the files."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import streamlit as st
from niivue_component import niivue_viewer

from inference.result import Masks, Result
from viewer.canvas import WINDOWS_HU, background, overlay, step_of
from viewer.findings import Layer, dice, layers_of
from viewer.measured import cards, interval_sentence, region_table, rest_table
from viewer.slice_picture import as_address, slice_picture
from viewer.visit import plain

VIEWS = {"three planes": "multiplanar", "axial": "axial", "coronal": "coronal", "sagittal": "sagittal"}
OPACITY, LUNG_OPACITY = 0.5, 0.0
PIXELS_HIGH, REPORT_PIXELS_HIGH = 560, 900


@dataclass(frozen=True, eq=False)
class Segmented:
    """What a visit remembers of a scan.

    Attributes:
        result: The result.
        truth: What a reader drew, in the masks of the result; empty where nobody did.
        out: Folder of the outputs.
        files: What NiiVue was given, by name: made once, since every click would make them again.
    """

    result: Result
    truth: Masks
    out: Path
    files: dict[str, bytes] = field(default_factory=dict)


def show_result(shown: Segmented) -> None:
    """Draw everything that is known of a scan."""
    result = shown.result
    st.header(plain(result.name), anchor=False)
    for flag in result.flags:
        st.warning(f"**This result may be wrong.** {plain(flag)}", icon=":material/flag:")
    figures = cards(result.measurements)
    with st.container(horizontal=True):
        for label, text in figures.items():
            st.metric(label, text, border=True, width="content")
    if sentence := interval_sentence(result.measurements):
        st.caption(plain(sentence))
    _show_pictures(shown)
    numbers, report, files, about = st.tabs(["Numbers", "Report", "Downloads", "About this result"])
    with numbers:
        _show_numbers(result)
    with report:
        _show_report(shown.out / "report.html")
    with files:
        _show_downloads(shown)
    with about:
        _show_provenance(result)


# A fragment: a slider draws the pictures again, and nothing else.
@st.fragment
def _show_pictures(shown: Segmented) -> None:
    layers = layers_of(shown.result.masks)
    place, controls = st.columns([3, 1])
    with controls:
        view = st.radio("View", list(VIEWS), horizontal=True)
        window = st.radio("Window", list(WINDOWS_HU), horizontal=True)
        opacity = _opacity_sliders(layers)
        cross = st.toggle("Cross", True)
    with place:
        _show_canvas(shown, layers, view, window, opacity, cross)
    if shown.truth:
        _show_truth(shown, layers, window, opacity)


def _opacity_sliders(layers: Sequence[Layer]) -> dict[str, float]:
    """A slider for each layer, its label in the layer's colour."""
    chosen = {}
    for layer in layers:
        colour = "#{:02x}{:02x}{:02x}".format(*layer.rgb)
        # Names and colours are ours: nothing here came from a visitor.
        st.html(f'<span style="color:{colour}">&#9632;</span> Opacity of {layer.name}')
        start = LUNG_OPACITY if layer is layers[0] else OPACITY
        label = f"Opacity of {layer.name}"
        chosen[layer.name] = st.slider(label, 0.0, 1.0, start, 0.05, label_visibility="collapsed")
    return chosen


def _show_canvas(
    shown: Segmented, layers: Sequence[Layer], view: str, window: str, opacity: Mapping[str, float], cross: bool
) -> None:
    scan, files = shown.result.scan, shown.files
    if window not in files:
        files[window] = background(scan, window)
    for layer in layers:
        if layer.name not in files:
            files[layer.name] = overlay(layer, scan)
    niivue_viewer(
        nifti_data=files[window],
        filename=f"{window.replace(' ', '_')}.nii.gz",
        # NiiVue needs a name that ends like a file's; it draws a layer again when its name or opacity changes.
        overlays=[
            {"data": files[layer.name], "name": f"{layer.name}.nii.gz", "opacity": opacity[layer.name]}
            for layer in layers
        ],
        view_mode=VIEWS[view],
        styled=False,
        height=PIXELS_HIGH,
        settings={"radiological": True, "crosshair": cross, "interpolation": True},
        update_interval_ms=None,
        # With a second image, NiiVue would show both: another window or scan needs another canvas.
        key=f"canvas-{window}-{id(shown)}",
    )
    every = step_of(scan)
    coarser = f" One of {every} pixels of a row or column is shown; measures and files have all." if every > 1 else ""
    st.caption(f"Wheel: next slice. Click: the place that all planes show. Right on the left side.{coarser}")


def _show_truth(shown: Segmented, layers: Sequence[Layer], window: str, opacity: Mapping[str, float]) -> None:
    """The same slice twice: what the model found, and what a reader drew."""
    scan, found = shown.result.scan, layers[1:]
    truth = layers_of(shown.truth)
    z = st.slider("Axial slice, from the feet", 1, len(scan.hu), _fullest(truth, layers[0]) + 1) - 1
    for column, title, drawn in zip(st.columns(2), ("Model", "Reader"), (found, truth), strict=True):
        picture = slice_picture(scan, drawn, z, window, opacity)
        column.image(as_address(picture), caption=title, width="stretch")
    if [layer.name for layer in truth] == [layer.name for layer in found]:
        values = {a.name: dice(b.mask, a.mask) for a, b in zip(found, truth, strict=True)}
        texts = [f"{name} {value:.2f}" if value is not None else f"{name} -" for name, value in values.items()]
        st.caption(f"Dice of the model and the reader: {', '.join(texts)}")


def _fullest(truth: Sequence[Layer], lungs: Layer) -> int:
    """The slice with most of what a reader drew, or of the lungs where they are healthy."""
    drawn = [layer for layer in truth if layer.mask.any()] or [lungs]
    return int(np.argmax(sum(layer.mask.sum((1, 2)) for layer in drawn)))


def _show_numbers(result: Result) -> None:
    by_region, rest = region_table(result.measurements), rest_table(result.measurements)
    if len(by_region):
        st.table(by_region)
    if len(rest):
        st.table(rest.set_index("measurement"))
    st.caption(
        "Severity: share of the lungs that is opaque. Consolidation score: share that is consolidated. All is measured "
        "on the grid of the scan itself; a dash stands for what cannot be known."
    )


def _show_report(report: Path) -> None:
    if report.is_file():
        st.iframe(report, height=REPORT_PIXELS_HIGH)
    else:
        st.write("This scan has no report.")


def _show_downloads(shown: Segmented) -> None:
    paths = sorted(path for path in shown.out.rglob("*") if path.is_file())
    name = f"{shown.result.name}.zip"
    st.download_button(
        "All outputs (zip)", _zipped(shown.out, paths), name, "application/zip", on_click="ignore", type="primary"
    )
    with st.container(horizontal=True):
        for path in paths:
            st.download_button(
                plain(path.name), path.read_bytes(), path.name, on_click="ignore", key=f"file-{path.name}"
            )
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
    for title, sentences in (("Repaired while reading", result.scan.repairs), ("About the scan", result.warnings)):
        if sentences:
            st.markdown("\n".join([f"**{title}**", "", *(f"- {plain(sentence)}" for sentence in sentences)]))
    facts = {
        "model": f"{model.experiment} ({model.task})",
        "checkpoint (SHA-256)": ", ".join(digest[:12] for digest in model.checkpoints_sha256),
        "averaged over": f"{len(model.checkpoints_sha256)} checkpoint(s), {model.flips} flip(s)",
        "size of the network's slices": f"{model.size} pixels",
        "lungs": {"file": "given", "classical": "found by thresholds", "lungmask": "found by lungmask"}[
            result.lung_source
        ],
        "version": model.version,
    }
    st.table({"fact": list(facts), "value": list(facts.values())}, hide_header=True, hide_index=True)
