"""Choice of model and scan on top of the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from viewer.examples import Example, examples
from viewer.models import checkpoints, run_label
from viewer.upload import receive
from viewer.visit import plain

UPLOAD, FOLDER, PHANTOM = "Upload a file", "Upload a folder", "Phantom example"
# Name of an uploaded scan in outputs: the name of its file may be the patient's.
UPLOADED = "scan"
BATCH, ROUND = "uploaded files", "rounds of uploads"
MIB = 1 << 20
WriteScan = Callable[[Path], Example]


@dataclass(frozen=True)
class PickedModel:
    """A checkpoint and its label on the page."""

    checkpoint: Path
    label: str


@dataclass(frozen=True)
class PickedScan:
    """A scan.

    Attributes:
        label: Its label on the page; for an upload the name of its file, which no output repeats.
        files: Ids of the uploaded files, which differ between uploads of one name.
        write: Writes it into a folder.
    """

    label: str
    files: tuple[str, ...]
    write: WriteScan = field(compare=False)


def choose_model(runs: Path) -> PickedModel:
    """Return the checkpoint that the visitor picks.

    Args:
        runs: Folder of all runs.
    """
    paths = checkpoints(runs)
    labels = {name: run_label(name, path.parent) for name, path in paths.items()}
    help_text = f"The newest finished run of every experiment in {runs}, newer ones first, and the default model."
    name = st.selectbox("Model", list(paths), format_func=lambda name: labels[name], help=help_text)
    path = st.text_input("or a model by its path", placeholder="a best.ckpt, or a folder of ground-glass export")
    if path:
        return PickedModel(Path(path).resolve(), path)
    return PickedModel(paths[name], labels[name])


def choose_scan(cohorts: Path) -> PickedScan | None:
    """Return the scan that the visitor picks; None until there is one.

    Args:
        cohorts: Folder of cohorts with phantoms.
    """
    kind = st.radio("Scan", [UPLOAD, FOLDER, PHANTOM], horizontal=True)
    if kind == PHANTOM:
        writers = examples(cohorts)
        name = st.selectbox("Phantom", list(writers), help="Test scans: no model has seen them.")
        return PickedScan(f"phantom ({name})", (), writers[name])
    if kind == FOLDER:
        _uploader("One scan: the folder of a DICOM series", "directory")
    else:
        _uploader("One scan: a zip or the files of a DICOM series, or a volume file", True)
    files = st.session_state.get(BATCH)
    if not files:
        return None
    picked = PickedScan(
        _label([file.name for file in files]), tuple(file.file_id for file in files), _upload_writer(files)
    )
    size = sum(file.size for file in files) / MIB
    st.caption(f"Uploaded: **{plain(picked.label)}** ({size:,.1f} MiB). Another upload replaces it.")
    return picked


def _uploader(label: str, multiple: Any) -> None:
    """Keep the files of the last upload and renew the uploader, which would add later files to them."""
    key = f"uploader {multiple} {st.session_state.setdefault(ROUND, 0)}"

    def keep() -> None:
        if files := st.session_state[key]:
            st.session_state[BATCH] = list(files)
            st.session_state[ROUND] += 1

    st.file_uploader(label, accept_multiple_files=multiple, key=key, on_change=keep)


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _upload_writer(files: Sequence[Any]) -> WriteScan:
    def write(folder: Path) -> Example:
        contents = [(file.name, file.getvalue()) for file in files]
        return Example(UPLOADED, receive(contents, folder), None, None)

    return write
